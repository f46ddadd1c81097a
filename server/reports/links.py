"""Evidence links in the database: how they are created, listed and revoked, and what they cover."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from server.database.queries import SQL
from server.observe.audit import Action, Actor, Subject, record
from server.reports.paging import newest
from server.reports.words import Moment


@dataclass(slots=True)
class Link:
    id: UUID
    suite_run_id: UUID | None
    test_case_result_id: UUID | None
    artifact_id: UUID | None
    created_by: str | None
    created_at: Moment
    expires_at: Moment
    revoked_at: Moment | None
    note: str | None
    opened: int
    downloads: int
    last_used_at: Moment | None


@dataclass(slots=True)
class LinkMade(Link):
    """The only reply that contains the link itself: it cannot be retrieved later."""

    url: str


@dataclass(slots=True)
class LinkPage:
    items: list[Link]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Things:
    """The target of a link, or a filter by target. The names are those of the columns and of the request fields."""

    suite_run_id: UUID | None = None
    test_case_result_id: UUID | None = None
    artifact_id: UUID | None = None


async def create(
    connection: Any,
    link_id: UUID,
    on: Things,
    made_by: tuple[UUID, str | None],
    note: str | None,
    expires_at: datetime,
    actor: Actor,
    still_allowed: Callable[[Any], Awaitable[None]],
) -> Link | None:
    """Creates a link; None when its target was deleted. `made_by`: the caller's id and name. `still_allowed` raises
    unless the caller may still make it: looked up when no revocation can come between the look and the commit."""
    await connection.fetchval(SQL.links.hold_maker, made_by[0])
    await still_allowed(connection)
    things = on.suite_run_id, on.test_case_result_id, on.artifact_id
    row = await connection.fetchrow(SQL.links.create, link_id, *things, *made_by, note, expires_at)
    if row is None:
        return None
    *columns, project_id = row
    link = Link(*columns)
    named = {name: getattr(on, name) for name in Things.__slots__ if getattr(on, name) is not None}
    subject = Subject("link", link_id, note, project_id)
    await record(connection, Action.LINK_CREATED, actor, subject, expires_at=link.expires_at, **named)
    return link


async def page(
    where: Any,
    projects: Sequence[UUID] | None,
    before: UUID | None,
    of: Things,
    active: bool | None,
    by_anyone: bool,
    limit: int,
) -> tuple[list[Link], bool]:
    """At most `limit` links, newest first, and whether there are more. `active`: True for only links that still work,
    False for only the others. `by_anyone`: whether links that were made without a token work."""
    filters = of.suite_run_id, of.test_case_result_id, of.artifact_id, active, by_anyone
    rows = await newest(where, SQL.links.page, projects, before, *filters, limit + 1)
    return [Link(*row) for row in rows[:limit]], len(rows) > limit


async def by_id(where: Any, link_id: UUID, projects: Sequence[UUID] | None) -> Link | None:
    """A link of one of these projects (None: any); None when there is none."""
    row = await where.fetchrow(SQL.links.by_id, link_id, projects)
    return None if row is None else Link(*row)


async def open_among(where: Any, listed: Sequence[Link], by_anyone: bool) -> set[UUID]:
    """The ids of those links that still work. `by_anyone`: as in `page`."""
    rows = await where.fetch(SQL.links.open_among, [link.id for link in listed], by_anyone)
    return {row["id"] for row in rows}


async def things_of(where: Any, listed: Sequence[Link]) -> dict[UUID, tuple[str, str]]:
    """The project's name, and the name of the run, result or file, by the id of the link."""
    rows = await where.fetch(SQL.links.things, [link.id for link in listed])
    return {row["id"]: (row["project"], row["thing"]) for row in rows}


async def revoke(connection: Any, link_id: UUID, scope: UUID | None, made_by: UUID | None, actor: Actor) -> bool:
    """Revokes a link; False when there is none. `made_by`: only a link that this caller made; None: any."""
    row = await connection.fetchrow(SQL.links.revoke, link_id, scope, made_by)
    if row is None:
        return False
    if row["ended"]:
        subject = Subject("link", link_id, row["note"], row["project_id"])
        await record(connection, Action.LINK_REVOKED, actor, subject)
    return True


async def covers_case(where: Any, link_id: UUID, case_id: UUID) -> bool:
    """Whether the target of a link is this test case result, or the run that it belongs to."""
    return await where.fetchval(SQL.links.covered_case, link_id, case_id) is not None


async def images_among(where: Any, case_id: UUID, artifacts: Sequence[UUID]) -> set[str]:
    """The ids (as text) of those `artifacts` of a test case that are images."""
    return {str(row["id"]) for row in await where.fetch(SQL.links.images_among, case_id, artifacts)}
