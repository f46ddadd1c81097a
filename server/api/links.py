"""Evidence links: creates, lists and revokes them. server/pages/shared.py shows what they cover."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any
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
from server.http.route import check_again, check_role, must_exist
from server.ids import bucket_of, new_id
from server.reports import links
from server.reports.links import LinkMade, LinkPage, Things
from server.reports.scope import RESOURCES
from server.services import CALL, SERVICES

# The request fields that name the target of a link, each with the name of its id in a path.
_TARGETS = {"suite_run_id": "suite_id", "test_case_result_id": "case_id", "artifact_id": "artifact_id"}
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
    """Creates an evidence link, which shows one suite run, test case result or artifact without a login.

    Send exactly one of `suite_run_id`, `test_case_result_id` and `artifact_id`. `expires_in` is in seconds, from 60 to
    7,776,000 (90 days); the default is 7 days. Only this reply contains the link itself, in `url`. A link stops working
    when it expires or is revoked, when its target is deleted, and when its creator loses the right to create it: the
    token expires, is revoked, or is rotated without overlap; the person is disabled, gets a new password, or is no
    longer uploader or admin in the project.
    """
    services, call = request.app[SERVICES], request[CALL]
    name, target_id = _target_of(body)
    await must_exist(request, {name: target_id})
    check_role(request, Role.UPLOADER)  # in the target's project, which is known only now
    key = await services.signing_keys.ensure(services.pool, PURPOSE)
    link_id, expires = new_id(bucket_of(target_id)), int(time.time()) + (body.expires_in or _WEEK)
    on = Things(body.suite_run_id, body.test_case_result_id, body.artifact_id)
    made_by, ends = (call.known_caller.id, call.known_caller.name), datetime.fromtimestamp(expires, UTC)

    async def still_allowed(connection: Any) -> None:
        await check_again(request, {name: target_id}, Role.UPLOADER, connection)

    async with services.pool.transaction() as connection:
        link = await links.create(connection, link_id, on, made_by, body.note, ends, call.actor(), still_allowed)
    if link is None:  # the target was deleted since must_exist
        raise RESOURCES[name][1]()
    url = f"/shared/{evidence_links.sign(key, link_id, expires)}"
    return reply.created(LinkMade(**{**asdict(link), "url": url}))


async def index(request: web.Request, query: LinkFilter) -> Response:
    """Lists evidence links, newest first, with how often each was used.

    The list covers the projects in which the caller is uploader or admin. `active=true` selects links that still work,
    `active=false` those that do not. `limit` is 100 by default and at most 500; `next_cursor` of the reply is the
    `cursor` of the next page.
    """
    projects = request[CALL].known_caller.projects(Role.UPLOADER)
    of = Things(query.suite_run_id, query.test_case_result_id, query.artifact_id)
    services = request.app[SERVICES]
    by_anyone = not services.config.auth.required
    items, more = await links.page(services.pool, projects, query.before, of, query.active, by_anyone, query.size)
    return reply.ok(LinkPage(items, cursor_of(items[-1].id) if more else None))


async def delete(request: web.Request, link_id: UUID) -> Response:
    """Revokes an evidence link. It stops working at once, and stays in the list."""
    call = request[CALL]
    caller = call.known_caller
    made_by = None if caller.role >= Role.ADMIN else caller.id
    async with request.app[SERVICES].pool.transaction() as connection:
        if not await links.revoke(connection, link_id, call.scope, made_by, call.actor()):
            word = caller.role.word  # a link that does not exist is a 404 instead, see http/route.py
            raise RoleTooSmall(f"Another caller created this link: revoking it needs the role admin; yours is {word}.")
    return reply.no_content()


def _target_of(body: NewLink) -> tuple[str, UUID]:
    """The name of the target's id in a path, and the id. Raises Invalid unless there is exactly one."""
    sent = [(name, getattr(body, field)) for field, name in _TARGETS.items() if getattr(body, field) is not None]
    if len(sent) != 1:
        raise Invalid(Problem("", f"must have exactly one of {', '.join(_TARGETS)}"))
    return sent[0]
