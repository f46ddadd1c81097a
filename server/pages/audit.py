"""Administration: the audit trail. Nothing in it can be changed."""

from functools import partial
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from server.bodies.audit import ActionWord
from server.http import admin, html
from server.http.admin import LISTED, administered
from server.http.cursor import CursorPage
from server.http.fields import Day, IndexedText, Instant, Name100
from server.http.reply import Response
from server.observe.audit import Action
from server.reports import audit, overview
from server.reports.scope import projects_named
from server.services import SERVICES
from server.viewer import render
from server.viewer.filters import FilteredAddress


class AuditQuery(Struct):
    action: ActionWord | None = None
    actor: IndexedText | None = None
    project: Name100 | None = None
    since: Instant | None = None
    until: Day | None = None
    cursor: Annotated[str, Meta(max_length=100)] | None = None


async def index(request: web.Request, query: AuditQuery) -> Response:
    """The audit entries, newest first."""
    here = FilteredAddress.of(request.path, request.query, query.__struct_fields__)
    if "" in request.query.values():  # of a form that was sent with empty fields: the address is to be short
        return html.see_other(here(cursor=query.cursor))
    visible = administered(request)
    async with request.app[SERVICES].pool.acquire() as connection:
        names = list(await overview.projects(connection, visible))
        rows, more = await audit.page(
            connection,
            await projects_named(connection, query.project, visible),
            CursorPage(cursor=query.cursor).before,
            LISTED,
            action=query.action,
            actor=query.actor,
            since=query.since,
            until=query.until,
        )
    entries = [audit.AuditEntry(*row) for row in rows]
    values = {"here": here, "entries": entries, "projects": names, "actions": list(Action), "query": query}
    draw = partial(render.page, "admin_audit.html", details=[audit.plain(entry) for entry in entries], **values)
    return await admin.page(request, draw, rows=len(entries), last=entries[-1].id if more else None)
