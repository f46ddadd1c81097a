"""Evidence links: made and revoked by those who may write; opened without an account (server/pages/shared.py)."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.auth import evidence_links
from server.auth.open_link import PURPOSE
from server.auth.roles import Role
from server.errors import Invalid, Problem, RoleTooSmall
from server.http import reply
from server.http.cursor import CursorPage, cursor_of
from server.http.fields import Text255
from server.http.reply import Response
from server.http.route import check_role, must_exist
from server.ids import bucket_of, new_id
from server.reports import links
from server.reports.links import LinkMade, LinkPage, Things
from server.reports.scope import RESOURCES
from server.services import CALL, SERVICES

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


async def create(request: web.Request, body: NewLink) -> Response:
    """A link that shows one run, test case result or artifact to whoever has it, without an account."""
    services, call = request.app[SERVICES], request[CALL]
    name, thing_id = _thing_of(body)
    await must_exist(request, {name: thing_id})
    check_role(request, Role.UPLOADER)  # in the project of the thing, which no path has told
    key = await services.signing_keys.ensure(services.pool, PURPOSE)
    link_id, expires = new_id(bucket_of(thing_id)), int(time.time()) + (body.expires_in or _WEEK)
    on = Things(body.suite_run_id, body.test_case_result_id, body.artifact_id)
    made_by, ends = (call.known_caller.id, call.known_caller.name), datetime.fromtimestamp(expires, UTC)
    async with services.pool.transaction() as connection:
        link = await links.create(connection, link_id, on, made_by, body.note, ends, call.actor())
    if link is None:  # removed since we looked
        raise RESOURCES[name][1]()
    url = f"/shared/{evidence_links.sign(key, link_id, expires)}"
    return reply.created(LinkMade(**{**asdict(link), "url": url}))


async def index(request: web.Request, query: LinkFilter) -> Response:
    """Links that were made, newest first, with how often they were used; `active` are those that still open."""
    projects = request[CALL].known_caller.projects(Role.UPLOADER)
    of = Things(query.suite_run_id, query.test_case_result_id, query.artifact_id)
    pool = request.app[SERVICES].pool
    items, more = await links.page(pool, projects, query.before, of, query.active, query.size)
    return reply.ok(LinkPage(items, cursor_of(items[-1].id) if more else None))


async def delete(request: web.Request, link_id: UUID) -> Response:
    """Revokes a link: it opens nothing any more, and stays in the list."""
    call = request[CALL]
    caller = call.known_caller
    made_by = None if caller.role >= Role.ADMIN else caller.id
    async with request.app[SERVICES].pool.transaction() as connection:
        if not await links.revoke(connection, link_id, call.scope, made_by, call.actor()):
            word = caller.role.word  # what does not exist is a 404 before this is said
            raise RoleTooSmall(f"This link was made by another; that needs the role admin, yours is {word}.")
    return reply.no_content()


def _thing_of(body: NewLink) -> tuple[str, UUID]:
    sent = [(name, getattr(body, field)) for field, name in _THINGS.items() if getattr(body, field) is not None]
    if len(sent) != 1:
        raise Invalid(Problem("", f"must have exactly one of {', '.join(_THINGS)}"))
    return sent[0]
