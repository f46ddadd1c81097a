"""What handlers reach through `request` and `request.app`: typed keys, and who is calling."""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Literal
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
class Grant:
    """A role in one project; `project_id` None: in every one."""

    project_id: UUID | None
    project: str | None
    role: Role


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. `project_id` None: every project. `shape` None: the configured one.

    One project and one role in it, or one role everywhere. A person may have several `grants`; `role` is the largest of
    them then, and once it is known which project a request is about, `within` makes the Caller of that one: what is
    asked of the database, and who may do it, goes by `project_id` and `role` alone.
    """

    id: UUID
    name: str | None  # of a link that was opened, `link <id>`; None for whoever needs none
    project_id: UUID | None
    project: str | None
    shape: str | None
    role: Role
    kind: Literal["token", "person", "link", "anyone"] = "token"
    grants: tuple[Grant, ...] = ()  # empty, or two or more

    def within(self, project_id: UUID) -> "Caller | None":
        """The same caller in one project; None where he has no role."""
        if not self.grants:
            return self if self.project_id in (None, project_id) else None
        there = [grant for grant in self.grants if grant.project_id in (None, project_id)]
        if not there:
            return None
        project = next((grant.project for grant in there if grant.project_id), None)
        role = max(grant.role for grant in there)
        return replace(self, project_id=project_id, project=project, role=role, grants=())

    def projects(self, least: Role = Role.VIEWER) -> list[UUID] | None:
        """The projects in which he has this role or a larger one; None for all of them."""
        own = self.grants or (Grant(self.project_id, self.project, self.role),)
        found = [grant.project_id for grant in own if grant.role >= least]
        return None if None in found else [project_id for project_id in found if project_id]


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
ANYONE = Caller(UUID(int=0), None, None, None, None, Role.ADMIN, "anyone")

ACTIVITY = web.AppKey("activity", Activity)
UPLOADS = web.AppKey("uploads", Uploads)
MEMORY = web.AppKey("memory", Memory)
CALLER = web.RequestKey("caller", Caller)
# What an evidence link shows, where one lets the caller in.
SHARED = web.RequestKey("shared", Shared)
REQUEST_ID = web.RequestKey("request_id", str)
# The client's address, empty where it has none, whether it speaks TLS, and the host that it asked for; behind a trusted
# proxy, as that one says.
REMOTE = web.RequestKey("remote", str)
SECURE = web.RequestKey("secure", bool)
HOST = web.RequestKey("host", str)
PLACE = web.RequestKey("place", Place)
BODY_HASH = web.RequestKey("body_hash", bytes)
# Of a reply that is sent as it is made: bytes of its body so far, and whether the client left before it was whole.
SENT = web.RequestKey("sent", int)
CLIENT_LEFT = web.RequestKey("client_left", bool)
