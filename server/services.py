"""What handlers reach through a request: `Services`, one of the whole server, and `Call`, one of each request."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from aiohttp import web

from server.auth.callers import ANYONE, Caller, Callers
from server.auth.evidence_links import Shared
from server.auth.passwords import Passwords
from server.auth.signing_keys import SigningKeys
from server.config import Config
from server.database.pool import Pool
from server.limits import Admission, UploadSlot
from server.observe.audit import Actor
from server.observe.metrics import Load
from server.redact.patterns import Patterns
from server.storage.folder import Storage
from server.storage.free_space import FreeSpace
from server.storage.removal import Removals

LOG = logging.getLogger("reportd")


@dataclass(slots=True)
class Services:
    """All parts of a server that its requests share. `pool` is there once the server has started."""

    config: Config
    routes: Sequence[Any]  # http.route.Route; what the API's own description is made from
    storage: Storage
    free_space: FreeSpace
    removals: Removals
    patterns: Patterns
    admission: Admission
    callers: Callers = field(default_factory=Callers)
    signing_keys: SigningKeys = field(default_factory=SigningKeys)
    passwords: Passwords = field(default_factory=Passwords)
    load: Load = field(default_factory=Load)
    pool: Pool = field(init=False)

    def observe_load(self) -> None:
        """Brings the metrics of what is in progress up to date."""
        pool, admission = self.pool, self.admission
        self.load.observe(
            admission.uploads,
            {"in_use": pool.in_use, "idle": max(0, pool.open - pool.in_use), "waiting": pool.waiting},
            {
                "uploads": admission.refused_uploads,
                "memory": admission.refused_memory,
                "connections": pool.refused,
                "storage": self.storage.refused,
            },
        )


@dataclass(slots=True)
class Call:
    """One request: who sent it and from where, what was decided about it, and how much of its reply was sent.

    `remote`, `secure` and `host` are as a trusted proxy says where one is in between: the client's address (empty
    behind a unix socket), whether it speaks TLS, and the host that it asked for.
    """

    request_id: str
    remote: str
    secure: bool
    host: str
    started: float = field(default_factory=time.perf_counter)
    caller: Caller | None = None  # None: nobody has to say who
    shared: Shared | None = None  # what an evidence link shows, where one lets the caller in
    slot: UploadSlot | None = None
    idempotency_key: str | None = None
    body_hash: bytes = b""  # of a JSON body
    # Of a reply that is sent as it is made: bytes of its body so far, and whether the client left before its end.
    sent: int | None = None
    client_left: bool = False

    @property
    def scope(self) -> UUID | None:
        """The project that the caller is confined to; None: all of them."""
        return self.known_caller.project_id

    @property
    def known_caller(self) -> Caller:
        """The caller of a route that needs one."""
        if self.caller is None:
            raise LookupError("this route has no caller")
        return self.caller

    def actor(self) -> Actor:
        """The caller, for the audit trail."""
        caller = self.caller
        if caller is None or caller is ANYONE:
            return self.actor_as("anyone", None, None)
        return self.actor_as(caller.kind, caller.id, caller.name)

    def actor_as(self, kind: Literal["token", "person", "link", "anyone"], id: UUID | None, name: str | None) -> Actor:
        """Somebody whom the request itself does not name, as at a login."""
        return Actor(kind, id, name, self.remote or None, self.request_id)


SERVICES = web.AppKey("services", Services)
CALL = web.RequestKey("call", Call)
