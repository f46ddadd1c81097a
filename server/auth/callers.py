"""The caller of a request and their roles: looked up by token or session cookie, and cached for some seconds."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from server.auth.roles import Role
from server.auth.tokens import hash_of, is_cookie, is_token
from server.database.pool import Pool
from server.database.queries import SQL
from server.errors import Overloaded

LOG = logging.getLogger("reportd")
_CACHE_SECONDS = 5.0
_CACHE_SIZE = 10_000
_TOUCH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Grant:
    """A role in one project; `project_id` None: in all projects."""

    project_id: UUID | None
    project: str | None
    role: Role


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request. `project_id` None: all projects. `shape` None: the configured collection shape.

    A caller has one role, in one project or in all. A person may have several `grants`: `role` is then the highest of
    them. Once the project of the request is known, `within` returns the Caller for that project. Queries and role
    checks use `project_id` and `role` alone.
    """

    id: UUID
    name: str | None  # `link <id>` for an opened evidence link; None when no token is required
    project_id: UUID | None
    project: str | None
    shape: str | None
    role: Role
    kind: Literal["token", "person", "link", "anyone"] = "token"
    grants: tuple[Grant, ...] = ()  # empty, or two or more

    def within(self, project_id: UUID) -> "Caller | None":
        """The same caller, restricted to one project; None without a role there."""
        if not self.grants:
            return self if self.project_id in (None, project_id) else None
        there = [grant for grant in self.grants if grant.project_id in (None, project_id)]
        if not there:
            return None
        project = next((grant.project for grant in there if grant.project_id), None)
        role = max(grant.role for grant in there)
        return replace(self, project_id=project_id, project=project, role=role, grants=())

    def projects(self, least: Role = Role.VIEWER) -> list[UUID] | None:
        """The projects in which the caller has this role or a higher one; None: all projects."""
        own = self.grants or (Grant(self.project_id, self.project, self.role),)
        found = [grant.project_id for grant in own if grant.role >= least]
        return None if None in found else [project_id for project_id in found if project_id]


# The caller when `[auth] required = false` and the request has no token. May do everything.
ANYONE = Caller(UUID(int=0), None, None, None, None, Role.ADMIN, "anyone")


class Callers(dict[bytes, tuple[Caller, float]]):
    """A cache. Key: the hash of a secret and its kind. Value: the caller, and when the entry expires."""

    def __init__(self) -> None:
        super().__init__()
        # Concurrent requests with the same secret share one lookup. Otherwise many clients with the same token would
        # cause hundreds of queries at once, each time its entry expires.
        self.lookups: dict[bytes, asyncio.Future[Caller | None]] = {}

    async def by_token(self, pool: Pool, token: str, again: Any = None) -> Caller | None:
        """The caller with this token; None when it is not valid. `again`: a connection, to look it up without cache."""
        return await self._find(pool, token, b"t", is_token, again)

    async def by_cookie(self, pool: Pool, cookie: str, again: Any = None) -> Caller | None:
        """The caller of this session; None when it is not valid. `again`: as in by_token."""
        return await self._find(pool, cookie, b"s", is_cookie, again)

    def evict(self, cookie: str) -> None:
        """Evict a session that has ended. Other workers accept its cookie until their entry expires, 5 s at most."""
        self.pop(hash_of(cookie) + b"s", None)

    async def _find(
        self, pool: Pool, secret: str, kind: bytes, has_format: Callable[[str], bool], again: Any
    ) -> Caller | None:
        # The kind is part of the key: otherwise a cached token would be accepted as a cookie, and the reverse.
        secret_hash = hash_of(secret)
        key = secret_hash + kind
        cached = self.get(key) if again is None else None
        if cached is not None and cached[1] > time.monotonic():
            return cached[0]
        if not has_format(secret):
            return None
        if again is not None:
            return await self._look_up(again, secret_hash, key)
        if (lookup := self.lookups.get(key)) is not None:
            return await asyncio.shield(lookup)  # cancelling one waiter must not cancel the shared lookup
        future = self.lookups[key] = asyncio.get_running_loop().create_future()
        try:
            found = await self._look_up(pool, secret_hash, key)
        except BaseException as error:
            future.set_exception(error if isinstance(error, Exception) else Overloaded())
            future.exception()  # otherwise, when no request waits, asyncio logs that it was never retrieved
            raise
        finally:
            del self.lookups[key]
        future.set_result(found)
        if found is not None:
            await _touch(pool, found)  # after set_result: the waiting requests do not need this write
        return found

    async def _look_up(self, where: Any, secret_hash: bytes, key: bytes) -> Caller | None:
        query = SQL.tokens.by_hash if key.endswith(b"t") else SQL.sessions.by_hash
        row: Any = await where.fetchrow(query, secret_hash)
        if row is None:
            self.pop(key, None)
            return None
        caller, seconds = caller_of(row), _CACHE_SECONDS
        if row["expires_at"] is not None:
            seconds = min(seconds, (row["expires_at"] - datetime.now(UTC)).total_seconds())
        if len(self) >= _CACHE_SIZE:
            self.clear()
        self[key] = (caller, time.monotonic() + seconds)
        return caller


async def hold(connection: Any, caller: Caller) -> None:
    """Lock the row of a token or person until the transaction ends: what revokes or disables it comes before or after.
    Look the caller up again afterwards."""
    await connection.fetchval(SQL.links.hold_maker, caller.id)


async def _touch(pool: Pool, caller: Caller) -> None:
    """Record when a token or a person was last used. A failure is only logged: the caller is already known, so a
    database that is read-only, busy or down must not refuse the request."""
    if pool.in_use >= pool.size:
        return  # all connections are in use: leave them to the requests; the next lookup records the use
    query = SQL.users.touch if caller.kind == "person" else SQL.tokens.touch
    try:
        async with asyncio.timeout(_TOUCH_SECONDS):
            await pool.execute(query, caller.id)
    except Exception as error:
        LOG.debug("could not record the last use of %s %s: %r", caller.kind, caller.id, error)


def caller_of(row: Any) -> Caller:
    """The caller for a row of the queries tokens.by_hash and sessions.by_hash."""
    columns = zip(row["project_ids"], row["projects"], row["roles"], strict=True)
    # The queries return ids as text: for other arrays, asyncpg sends a type lookup on each new connection.
    grants = tuple(
        Grant(UUID(some_id) if some_id else None, project, Role.of(role)) for some_id, project, role in columns
    )
    highest = max(grants, key=lambda grant: grant.role)
    project_id, project = (highest.project_id, highest.project) if len(grants) == 1 else (None, None)
    several = grants if len(grants) > 1 else ()
    return Caller(
        row["id"], row["name"], project_id, project, row["collection_shape"], highest.role, row["kind"], several
    )
