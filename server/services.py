"""The objects that a handler gets from its request: `Services`, shared by all requests, and `Call`, its own state."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from aiohttp import web

from server.auth.callers import ANYONE, Caller, Callers
from server.auth.evidence_links import Shared
from server.auth.issuers import Issuers
from server.auth.passwords import Passwords
from server.auth.signing_keys import SigningKeys
from server.config import Config
from server.database.pool import Pool
from server.database.reads import Reads
from server.database.standby import Standby
from server.errors import Problem, ReportError
from server.limits import Admission, UploadSlot
from server.observe.audit import Actor
from server.observe.metrics import Load
from server.redact.patterns import Patterns
from server.storage.folder import Storage
from server.storage.free_space import FreeSpace
from server.storage.instances import Heartbeat
from server.storage.removal import Removals
from server.thumbs.thumbnails import Thumbnails

LOG = logging.getLogger("reportd")
_UNCHECKED_SECONDS = 10.0

Refusal = Callable[[web.Request, ReportError], web.StreamResponse]


@dataclass(slots=True)
class Services:
    """The parts of the server that all requests share. `pool` and `standby` are set at startup."""

    config: Config
    routes: Sequence[Any]  # http.route.Route, for the OpenAPI document
    storage: Storage
    free_space: FreeSpace
    removals: Removals
    heartbeat: Heartbeat
    thumbnails: Thumbnails
    patterns: Patterns
    admission: Admission
    issuers: Issuers
    callers: Callers = field(default_factory=Callers)
    signing_keys: SigningKeys = field(default_factory=SigningKeys)
    passwords: Passwords = field(default_factory=Passwords)
    load: Load = field(default_factory=Load)
    pool: Pool = field(init=False)
    standby: Standby | None = None  # None without `[database] read_dsn`

    def reads(self) -> Reads:
        """Where a request to a route with `reading` reads from."""
        return self.pool if self.standby is None else self.standby.reads()

    def observe_load(self) -> None:
        """Update the metrics of uploads, connections and refused requests."""
        pool, admission = self.pool, self.admission
        self.load.observe(
            admission.connections,
            admission.uploads,
            {"in_use": pool.in_use, "idle": max(0, pool.open - pool.in_use), "waiting": pool.waiting},
            {
                "uploads": admission.refused_uploads,
                "memory": admission.refused_memory,
                "connections": pool.refused,
                "storage": self.storage.refused,
                "replies": admission.refused_replies,
            },
        )


@dataclass(slots=True)
class Call:
    """One request: its caller and origin, its upload slot and Idempotency-Key, and how much of its reply was sent.

    `remote` is the client's address (empty for a client on a unix socket), `secure` whether it uses TLS, `host` the
    requested host. A trusted proxy overrides them with its X-Forwarded-* headers.
    """

    request_id: str
    remote: str
    secure: bool
    host: str
    started: float = field(default_factory=time.perf_counter)
    caller: Caller | None = None  # None: the route needs no caller
    is_admin: bool = False  # whether the caller is admin of any project, even where `caller` is narrowed to another
    reads: Reads = field(init=False)  # the database, for what only reads: the route decides which one
    shared: Shared | None = None  # the target of the evidence link, if the caller opened one
    refusal: Refusal | None = None  # makes the replies of errors, if the route's are not JSON
    csrf_token: str = ""  # of a form, which cannot send the header
    slot: UploadSlot | None = None
    idempotency_key: str | None = None
    body_hash: bytes = b""  # SHA-256 of a JSON body
    warnings: list[Problem] = field(default_factory=list)  # the values of the body that were repaired
    body: Any = None  # decoded JSON
    body_size: int = 0  # bytes of it, decompressed
    check_again: Callable[[Any], Awaitable[None]] | None = None  # checks the caller's right with a connection
    # Of a streamed reply: the bytes of its body sent so far, and whether the client disconnected before its end.
    sent: int | None = None
    client_left: bool = False
    _until_sent: AsyncExitStack | None = None  # most requests need none

    @property
    def until_sent(self) -> AsyncExitStack:
        """What is entered here is left when the reply has been sent."""
        if self._until_sent is None:
            self._until_sent = AsyncExitStack()
        return self._until_sent

    async def close(self) -> None:
        """The reply has been sent."""
        self.check_again = None  # it refers to the request, which has this: without it, both are freed at once
        if self._until_sent is not None:
            await self._until_sent.aclose()

    @property
    def scope(self) -> UUID | None:
        """The project to which the caller is restricted; None: all projects."""
        return self.known_caller.project_id

    @property
    def known_caller(self) -> Caller:
        """The caller of a route that needs one."""
        if self.caller is None:
            raise LookupError("this route has no caller")
        return self.caller

    async def still_allowed(self, where: Any) -> None:
        """Check the caller's right again if the request has taken long. Otherwise an upload could be sent slowly, and
        be stored hours after its token was revoked. Raises the error of the check."""
        if self.check_again is not None and self.is_long:
            await self.check_again(where)

    @property
    def is_long(self) -> bool:
        """Whether the request has taken longer than the caller's right may go unchecked."""
        return time.perf_counter() - self.started > _UNCHECKED_SECONDS

    def actor(self) -> Actor:
        """The caller as the actor of an audit entry."""
        caller = self.caller
        if caller is None or caller is ANYONE:
            return self.actor_as("anyone", None, None)
        return self.actor_as(caller.kind, caller.id, caller.name)

    def actor_as(self, kind: Literal["token", "person", "link", "anyone"], id: UUID | None, name: str | None) -> Actor:
        """An actor other than the request's caller, like the person who has just logged in."""
        return Actor(kind, id, name, self.remote or None, self.request_id)


SERVICES = web.AppKey("services", Services)
CALL = web.RequestKey("call", Call)
