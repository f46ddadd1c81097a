"""Evidence links: made and revoked by those who may write, opened without an account (server/api/shared.py)."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.audit import Action, Subject, note, requester
from server.auth import links
from server.auth.opening import PURPOSE
from server.auth.roles import Role
from server.context import CALLER, KEYS, POOL, SQL
from server.db import transaction
from server.errors import Invalid, Problem, RoleTooSmall
from server.http import reply
from server.http.cursor import CursorPage, cursor_of, newest
from server.http.fields import Moment, Text255
from server.http.reply import Response
from server.http.route import RESOURCES, check_role, must_exist
from server.ids import bucket_of, new_id

# The things that a link may be on, and what paths call them.
_THINGS = {"suite_run_id": "suite_id", "test_case_result_id": "case_id", "artifact_id": "artifact_id"}
_WEEK = 7 * 24 * 3600
_LONGEST = 90 * 24 * 3600


class NewLink(Struct):
    suite_run_id: UUID | None = None
    test_case_result_id: UUID | None = None
    artifact_id: UUID | None = None
    expires_in: Annotated[int, Meta(ge=60, le=_LONGEST)] | None = None  # seconds
    note: Text255 | None = None


class LinkFilter(CursorPage):
    suite_run_id: UUID | None = None
    test_case_result_id: UUID | None = None
    artifact_id: UUID | None = None
    active: bool | None = None


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
    """The only reply that has the link itself: nobody can be shown it again."""

    url: str


@dataclass(slots=True)
class LinkPage:
    items: list[Link]
    next_cursor: str | None


async def create(request: web.Request, body: NewLink) -> Response:
    """A link that shows one run, test case result or artifact to whoever has it, without an account."""
    name, thing_id = _thing_of(body)
    await must_exist(request, {name: thing_id})
    check_role(request, Role.UPLOADER)  # in the project of the thing, which no path has told
    caller = request[CALLER]
    key = await request.app[KEYS].ensure(request.app[POOL], PURPOSE)
    link_id, expires = new_id(bucket_of(thing_id)), int(time.time()) + (body.expires_in or _WEEK)
    sql = request.app[SQL]
    async with transaction(request.app[POOL]) as connection:
        row: Any = await connection.fetchrow(
            sql.links.create,
            link_id,
            body.suite_run_id,
            body.test_case_result_id,
            body.artifact_id,
            caller.id,
            caller.name,
            body.note,
            datetime.fromtimestamp(expires, UTC),
        )
        if row is None:  # removed since we looked
            raise RESOURCES[name][1]()
        *columns, project_id = row
        link = LinkMade(*[*columns, f"/shared/{links.sign(key, link_id, expires)}"])
        subject = Subject("link", link_id, body.note, project_id)
        things = {field: thing for field in _THINGS if (thing := getattr(link, field)) is not None}
        action, actor = Action.LINK_CREATED, requester(request)
        await note(connection, sql, action, actor, subject, expires_at=link.expires_at, **things)
    return reply.created(link)


async def index(request: web.Request, query: LinkFilter) -> Response:
    """Links that were made, newest first, with how often they were used; `active` are those that still open."""
    rows = await newest(
        request.app[POOL],
        request.app[SQL].links.page,
        request[CALLER].projects(Role.UPLOADER),
        query.before,
        query.suite_run_id,
        query.test_case_result_id,
        query.artifact_id,
        query.active,
        query.size + 1,
    )
    items = [Link(*row) for row in rows[: query.size]]
    return reply.ok(LinkPage(items, cursor_of(items[-1].id) if len(rows) > query.size else None))


async def delete(request: web.Request, link_id: UUID) -> Response:
    """Revokes a link: it opens nothing any more, and stays in the list."""
    caller, sql = request[CALLER], request.app[SQL]
    made_by = None if caller.role >= Role.ADMIN else caller.id
    async with transaction(request.app[POOL]) as connection:
        row = await connection.fetchrow(sql.links.revoke, link_id, caller.project_id, made_by)
        if row is None:  # what does not exist is a 404 before this is said
            word = caller.role.word
            raise RoleTooSmall(f"This link was made by another; that needs the role admin, yours is {word}.")
        if row["ended"]:
            subject = Subject("link", link_id, row["note"], row["project_id"])
            await note(connection, sql, Action.LINK_REVOKED, requester(request), subject)
    return reply.no_content()


def _thing_of(body: NewLink) -> tuple[str, UUID]:
    sent = [(name, getattr(body, field)) for field, name in _THINGS.items() if getattr(body, field) is not None]
    if len(sent) != 1:
        raise Invalid(Problem("", f"must have exactly one of {', '.join(_THINGS)}"))
    return sent[0]
