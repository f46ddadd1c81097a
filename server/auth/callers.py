"""Who a caller is and what they may do, looked up by the secret that they send and kept for some seconds."""

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from server.auth.roles import Role
from server.auth.tokens import hash_of
from server.database.pool import Pool
from server.database.queries import SQL
from server.errors import Overloaded

LOG = logging.getLogger("reportd")
_CACHE_SECONDS = 5.0
_CACHE_SIZE = 10_000
_TOUCH_SECONDS = 1.0


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
    read from the database, and who may do it, goes by `project_id` and `role` alone.
    """

    id: UUID
    name: str | None  # of an evidence link that was opened, `link <id>`; None where no token is needed
    project_id: UUID | None
    project: str | None
    shape: str | None
    role: Role
    kind: Literal["token", "person", "link", "anyone"] = "token"
    grants: tuple[Grant, ...] = ()  # empty, or two or more

    def within(self, project_id: UUID) -> "Caller | None":
        """The same caller in one project; None without a role there."""
        if not self.grants:
            return self if self.project_id in (None, project_id) else None
        there = [grant for grant in self.grants if grant.project_id in (None, project_id)]
        if not there:
            return None
        project = next((grant.project for grant in there if grant.project_id), None)
        role = max(grant.role for grant in there)
        return replace(self, project_id=project_id, project=project, role=role, grants=())

    def projects(self, least: Role = Role.VIEWER) -> list[UUID] | None:
        """The projects in which the caller has this role or a larger one; None for all of them."""
        own = self.grants or (Grant(self.project_id, self.project, self.role),)
        found = [grant.project_id for grant in own if grant.role >= least]
        return None if None in found else [project_id for project_id in found if project_id]


# The caller of a server that needs no token: may do everything.
ANYONE = Caller(UUID(int=0), None, None, None, None, Role.ADMIN, "anyone")


class Callers(dict[bytes, tuple[Caller, float]]):
    """A cache: by the hash of a secret and what kind it is, the caller, and when to look it up again."""

    def __init__(self) -> None:
        super().__init__()
        # Concurrent requests with the same secret share one lookup: a fleet that sends with one token would else send
        # hundreds at once, each time that the entry expires.
        self.lookups: dict[bytes, asyncio.Future[Caller | None]] = {}

    async def by_token(self, pool: Pool, token: str) -> Caller | None:
        """The caller with this token; None when it is not valid."""
        return await self._find(pool, hash_of(token), b"t")

    async def by_cookie(self, pool: Pool, cookie: str) -> Caller | None:
        """The caller of this session; None when it is not valid."""
        return await self._find(pool, hash_of(cookie), b"s")

    def evict(self, cookie: str) -> None:
        """Drops a session that was ended; other workers look it up again within some seconds."""
        self.pop(hash_of(cookie) + b"s", None)

    async def _find(self, pool: Pool, key: bytes, kind: bytes) -> Caller | None:
        # The kind belongs into the key: a token must never pass as a cookie, nor the reverse.
        slot = key + kind
        kept = self.get(slot)
        if kept is not None and kept[1] > time.monotonic():
            return kept[0]
        if (lookup := self.lookups.get(slot)) is not None:
            return await asyncio.shield(lookup)  # cancelling one waiter must not cancel the shared lookup
        answer = self.lookups[slot] = asyncio.get_running_loop().create_future()
        try:
            found = await self._look_up(pool, key, slot)
        except BaseException as error:
            answer.set_exception(error if isinstance(error, Exception) else Overloaded())
            answer.exception()  # or asyncio logs it as never retrieved when nobody waits
            raise
        finally:
            del self.lookups[slot]
        answer.set_result(found)
        if found is not None:
            await _touch(pool, found)  # the others need not wait for that
        return found

    async def _look_up(self, pool: Pool, key: bytes, slot: bytes) -> Caller | None:
        query = SQL.tokens.by_hash if slot.endswith(b"t") else SQL.sessions.by_hash
        row: Any = await pool.fetchrow(query, key)
        if row is None:
            self.pop(slot, None)
            return None
        caller, seconds = caller_of(row), _CACHE_SECONDS
        if row["expires_at"] is not None:
            seconds = min(seconds, (row["expires_at"] - datetime.now(UTC)).total_seconds())
        if len(self) >= _CACHE_SIZE:
            self.clear()
        self[slot] = (caller, time.monotonic() + seconds)
        return caller


async def _touch(pool: Pool, caller: Caller) -> None:
    """Records when a token or a person was last used. Never a reason to refuse a request: a database that is read-only,
    busy or gone by now has said who the caller is."""
    if pool.waiting:
        return  # others need the connection more; it is recorded the next time
    query = SQL.users.touch if caller.kind == "person" else SQL.tokens.touch
    try:
        async with asyncio.timeout(_TOUCH_SECONDS):
            await pool.execute(query, caller.id)
    except Exception as error:
        LOG.debug("the last use of %s %s is not recorded: %r", caller.kind, caller.id, error)


def caller_of(row: Any) -> Caller:
    """The caller of a row of tokens.by_hash or sessions.by_hash."""
    columns = zip(row["project_ids"], row["projects"], row["roles"], strict=True)
    # Ids come as text: asyncpg asks each new connection what an array of anything else is.
    grants = tuple(
        Grant(UUID(some_id) if some_id else None, project, Role.of(role)) for some_id, project, role in columns
    )
    largest = max(grants, key=lambda grant: grant.role)
    project_id, project = (largest.project_id, largest.project) if len(grants) == 1 else (None, None)
    several = grants if len(grants) > 1 else ()
    return Caller(
        row["id"], row["name"], project_id, project, row["collection_shape"], largest.role, row["kind"], several
    )
