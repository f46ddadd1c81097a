"""Administration: how much is stored, how fast that grows, and what the last `reportd check` found."""

from functools import partial

from aiohttp import web

from server.http import admin
from server.http.admin import LISTED, administered
from server.http.reply import Response
from server.reports import usage
from server.services import SERVICES
from server.viewer import render

_DAYS = 90


async def index(request: web.Request) -> Response:
    """What is stored. The disk and the last check are the whole server's: only for admins of all projects."""
    services, visible = request.app[SERVICES], administered(request)
    space = await services.free_space.measure() if visible is None else None
    async with services.pool.acquire() as connection:
        projects, more = await usage.of_projects(connection, visible, LISTED)
        values = {
            "projects": projects,
            "more": more,
            "total": await usage.total(connection, visible),
            "days": await usage.per_day(connection, visible, _DAYS),
            "check": await usage.last_check(connection) if visible is None else None,
            "space": space,
        }
    return await admin.page(request, partial(render.page, "admin_storage.html", **values), rows=len(projects))
