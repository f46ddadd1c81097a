"""What handlers reach through `request` and `request.app`: typed keys, and who is calling."""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from types import SimpleNamespace
from uuid import UUID

from aiohttp import web

from server.auth.keys import Keys
from server.auth.links import Shared
from server.auth.roles import Role
from server.config import Config
from server.db import Pool
from server.errors import Overloaded
from server.mask import Masks
from server.space import Space
from server.uploads.memory import Memory
from server.uploads.storage import Storage

CONFIG = web.AppKey("config", Config)
POOL = web.AppKey("pool", Pool)
SQL = web.AppKey("sql", SimpleNamespace)
STORAGE = web.AppKey("storage", Storage)
SPACE = web.AppKey("space", Space)
MASKS = web.AppKey("masks", Masks)
KEYS = web.AppKey("keys", Keys)

LOG = logging.getLogger("reportd")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. `project_id` None: every project. `shape` None: the configured one.

    One project and one role in it, or one role everywhere. Whoever has several is made into such a Caller once it is
    known which project a request is about: what is asked of the database, and who may do it, goes by these two alone.
    """

    id: UUID
    name: str | None  # of the token, or of the link that was opened; None for whoever needs none
    project_id: UUID | None
    project: str | None
    shape: str | None
    role: Role


class Activity:
    """The requests in progress, so that a server that stops can wait for them."""

    def __init__(self) -> None:
        self.stopping = False
        self.running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> None:
        self.running += 1
        self._idle.clear()

    def __exit__(self, *_: object) -> None:
        self.running -= 1
        if not self.running:
            self._idle.set()

    async def drained(self, timeout: float) -> None:
        """Returns when no request is in progress, after `timeout` seconds at the latest."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout)


class Uploads:
    """The uploads in progress, and how many there may be. One whose client is slow costs little and is not counted."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.active = 0
        self.refused = 0

    def admit(self) -> "Place":
        """A place for one more. Raises Overloaded when all are taken."""
        if self.active >= self._most:
            self.refused += 1
            raise Overloaded()
        return Place(self)


class Place:
    """An upload's place among those in progress, as a context manager."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._counted = False

    def count(self, counted: bool) -> None:
        """Whether the upload counts: not as long as it waits for its client."""
        self._uploads.active += counted - self._counted
        self._counted = counted

    def __enter__(self) -> None:
        self.count(True)

    def __exit__(self, *_: object) -> None:
        self.count(False)


# Whoever calls when no token is asked for: may do everything.
ANYONE = Caller(UUID(int=0), None, None, None, None, Role.ADMIN)

ACTIVITY = web.AppKey("activity", Activity)
UPLOADS = web.AppKey("uploads", Uploads)
MEMORY = web.AppKey("memory", Memory)
CALLER = web.RequestKey("caller", Caller)
# What an evidence link shows, where one lets the caller in.
SHARED = web.RequestKey("shared", Shared)
REQUEST_ID = web.RequestKey("request_id", str)
# The client's address, empty where it has none, and whether it speaks TLS; behind a trusted proxy, as that one says.
REMOTE = web.RequestKey("remote", str)
SECURE = web.RequestKey("secure", bool)
PLACE = web.RequestKey("place", Place)
BODY_HASH = web.RequestKey("body_hash", bytes)
# Of a reply that is sent as it is made: bytes of its body so far, and whether the client left before it was whole.
SENT = web.RequestKey("sent", int)
CLIENT_LEFT = web.RequestKey("client_left", bool)
