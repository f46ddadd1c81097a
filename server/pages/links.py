"""Administration: evidence links. server/pages/shared.py shows what they cover."""

from functools import partial
from typing import Literal
from uuid import UUID

from aiohttp import web
from msgspec import Struct

from server.auth.roles import Role
from server.http import admin, html
from server.http.admin import LISTED, ListQuery, administered, change, shown
from server.http.reply import Response
from server.http.route import check_role, must_exist
from server.reports import links
from server.reports.links import Things
from server.services import CALL, SERVICES
from server.viewer import render

PATH = "/admin/links"


class LinksQuery(ListQuery):
    """`active`: only links that still work, or only the others."""

    active: bool | None = None


class LinkForm(Struct):
    action: Literal["revoke"]
    id: UUID


async def index(request: web.Request, query: LinksQuery) -> Response:
    """The links, or the form of one."""
    visible, by_anyone = administered(request), not request.app[SERVICES].config.auth.required
    async with request.app[SERVICES].pool.acquire() as connection:
        if query.change is not None:
            found, more = [shown(await links.by_id(connection, query.change, visible))], False
        else:
            page = partial(links.page, connection, visible, query.before, Things())
            found, more = await page(query.active, by_anyone, LISTED)
        open_ids = await links.open_among(connection, found, by_anyone)
        things = await links.things_of(connection, found)
    values = {"links": found, "open_ids": open_ids, "things": things, "query": query}
    draw = partial(render.page, "admin_links.html" if query.change is None else "admin_link.html", **values)
    return await admin.page(request, draw, rows=len(found), last=found[-1].id if more else None)


async def update(request: web.Request, form: LinkForm) -> Response:
    """Revokes a link."""
    async with change(request) as connection:
        await must_exist(request, {"link_id": form.id}, connection)
        check_role(request, Role.ADMIN)  # in the link's project, which is known only now
        call = request[CALL]
        await links.revoke(connection, form.id, call.scope, None, call.actor())
    return html.see_other(f"{PATH}?done=revoked")
