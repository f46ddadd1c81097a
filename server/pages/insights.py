"""The page of insights: flaky tests, slow tests, fragile selectors, and trends of a project."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from server.http import html
from server.http.fields import Name100, Text255
from server.http.reply import Response
from server.reports import insights, overview
from server.services import CALL, SERVICES
from server.viewer import render
from server.viewer.filters import FilteredAddress


class InsightsQuery(Struct):
    show: insights.Show = "flaky"
    project: Name100 | None = None
    days: Annotated[int, Meta(ge=1, le=90)] = 30
    q: Text255 | None = None


async def show(request: web.Request, query: InsightsQuery) -> Response:
    """One table or chart of a project: the one that is named, else the first that the caller sees."""
    here, now = FilteredAddress.of(request.path, request.query, InsightsQuery.__struct_fields__), datetime.now(UTC)
    if "" in request.query.values():  # of a form that was sent with empty fields: the address is to be short
        return html.see_other(here())
    where = insights.place(query.show, request.app[SERVICES].pool, request[CALL].reads)
    async with where.acquire() as connection:
        projects = await overview.projects(connection, request[CALL].known_caller.projects())
        name = query.project or next(iter(projects), None)
        found = None
        if name in projects and name is not None:
            found = await insights.find(connection, (projects[name], name), query.show, query.days, query.q, now)
    draw = partial(
        render.page,
        "insights.html",
        here=here,
        show=query.show,
        days=query.days,
        text=query.q,
        only=name,
        projects=list(projects),
        found=found,
        now=now,
    )
    return await html.page(request, draw, rows=insights.LISTED * 5)
