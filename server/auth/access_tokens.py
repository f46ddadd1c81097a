"""API tokens: what commands and pages do to them. Every change writes its audit entry. Only hashes are stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from server.auth.roles import Role
from server.auth.tokens import hash_of, new_token
from server.database.queries import SQL
from server.errors import NameTaken
from server.ids import new_id
from server.observe.audit import Action, Actor, Subject, record


@dataclass(frozen=True, slots=True)
class Rotated:
    """A token with a new secret. `former_hash` is the hash of the former one, which works until `former_until`."""

    id: UUID
    name: str
    secret: str
    former_hash: bytes
    former_until: datetime


@dataclass(frozen=True, slots=True)
class Listed:
    """A token in a list, without its secret. `project` None: all projects. `former_until`: until when a former secret
    works, too; `of_ci`: until when the last one works that a CI job got."""

    id: UUID
    name: str
    project: str | None
    role: str
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None
    former_until: datetime | None
    of_ci: bool

    def state(self, now: datetime) -> str:
        """`valid`, `expired` or `revoked`."""
        if self.revoked_at:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= now else "valid"


async def create(
    connection: Any,
    name: str,
    secret: str,
    role: Role,
    project_id: UUID | None,
    ends: datetime | None,
    actor: Actor,
    shape: str | None = None,
) -> UUID:
    """Store a new token for a project (None: for all) and return its id. `secret`: see tokens.new_token. Raises
    NameTaken."""
    token_id = new_id(0)
    try:
        await connection.execute(SQL.tokens.create, token_id, name, hash_of(secret), role.word, project_id, shape, ends)
    except asyncpg.UniqueViolationError:
        raise NameTaken(f"A token named {name} exists already. Revoke it, or choose another name.") from None
    subject = Subject("token", token_id, name, project_id)
    await record(connection, Action.TOKEN_CREATED, actor, subject, role=role.word, expires_at=ends)
    return token_id


async def page(
    where: Any, projects: Sequence[UUID] | None, before: UUID | None, limit: int
) -> tuple[list[Listed], bool]:
    """At most `limit` tokens of these projects (None: all tokens), newest first, and whether there are more. Those for
    all projects are not among the tokens of some."""
    if projects is None:
        rows = list(await where.fetch(SQL.tokens.page, None, before, limit + 1))
    else:  # of each project by its index: there may be many
        rows = [row for each in projects for row in await where.fetch(SQL.tokens.page, each, before, limit + 1)]
        rows.sort(key=lambda row: row["id"], reverse=True)
    return [Listed(*row) for row in rows[:limit]], len(rows) > limit


async def by_id(where: Any, token_id: UUID, projects: Sequence[UUID] | None) -> Listed | None:
    """One entry of `page`."""
    row = await where.fetchrow(SQL.tokens.one, token_id, projects)
    return None if row is None else Listed(*row)


async def rotate(
    connection: Any, id_or_name: str, overlap: timedelta, ends: datetime | None, actor: Actor
) -> Rotated | None:
    """Give a token a new secret; `ends`: also a new end. The former secret works for `overlap` more. Without an
    overlap, the token's evidence links end, too. None when no valid token has this id or name, or it is of
    CI jobs."""
    secret = new_token()
    row = await connection.fetchrow(SQL.tokens.rotate, id_or_name, hash_of(secret), overlap, ends)
    if row is None:
        return None
    if not overlap:
        await connection.execute(SQL.links.end_all, row["id"])
    subject, until = Subject("token", row["id"], row["name"], row["project_id"]), row["former_until"]
    await record(connection, Action.TOKEN_ROTATED, actor, subject, former_secret_until=until)
    return Rotated(row["id"], row["name"], secret, row["former_hash"], until)


async def revoke(connection: Any, id_or_name: str, actor: Actor) -> tuple[UUID, str] | None:
    """Make a token invalid for good, and end its evidence links: its id and name. None when no valid token has this id
    or name."""
    row = await connection.fetchrow(SQL.tokens.revoke, id_or_name)
    if row is None:
        return None
    subject = Subject("token", row["id"], row["name"], row["project_id"])
    await connection.execute(SQL.links.end_all, row["id"])
    await record(connection, Action.TOKEN_REVOKED, actor, subject)
    return row["id"], row["name"]
