"""`/latest`: an address that always leads to the newest run, for READMEs and chat bots."""

from functools import partial

from aiohttp import web
from msgspec import Struct

from server.http import html
from server.http.fields import AnyRunStatus, IndexedText, Name100
from server.http.reply import Response
from server.reports import suite_runs
from server.reports.scope import projects_named
from server.services import CALL
from server.viewer import render
from server.viewer.filters import FilteredAddress


class LatestQuery(Struct):
    project: Name100 | None = None
    name: IndexedText | None = None
    branch: IndexedText | None = None
    status: AnyRunStatus | None = None


async def show(request: web.Request, query: LatestQuery) -> Response:
    """Leads to the newest run with these values."""
    here = FilteredAddress.of("/runs", request.query, LatestQuery.__struct_fields__)
    async with request[CALL].reads.acquire() as connection:
        projects = await projects_named(connection, query.project, request[CALL].known_caller.projects())
        name, branch = query.name or None, query.branch or None
        found, _ = await suite_runs.page(connection, projects, None, 1, name=name, branch=branch, status=query.status)
    if found:
        return html.found(f"/runs/{found[0].id}")
    return await html.page(request, partial(render.page, "no_latest.html", here=here), status=404)
