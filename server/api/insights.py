"""What the results of a project show together: flaky tests, slow tests, fragile selectors, trends."""

from datetime import UTC, datetime
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from server.errors import Invalid, Problem
from server.http import reply
from server.http.fields import Name100, Text255
from server.http.reply import Response
from server.reports import insights
from server.reports.scope import name_and_main_branch, only_project
from server.services import CALL, SERVICES


class InsightsFilter(Struct):
    show: insights.Show = "flaky"
    project: Name100 | None = None
    days: Annotated[int, Meta(ge=1, le=90)] = 30
    q: Text255 | None = None


async def show(request: web.Request, query: InsightsFilter) -> Response:
    """Shows what the results of a project have in common.

    `show=flaky`: tests that passed and failed on one commit in the last 30 days. `slow`: tests by their median duration
    over the newest 50 finished runs that started in the last `days`. `selectors`: those that failed in these runs, with
    the number of tests, and elements that have another selector than before; `q` selects all that contain a text. Runs
    are counted when they are first asked for, 10 for each request: `counted` of `runs` says how far that is. `trends`:
    each of the last `days`, over the newest 200 runs. Without `project`: the caller's only project, else `default`.
    """
    now = datetime.now(UTC)
    where = insights.place(query.show, request.app[SERVICES].pool, request[CALL].reads)
    async with where.acquire() as connection:
        project_id = await only_project(connection, query.project, request[CALL].known_caller.projects())
        if project_id is None:
            raise Invalid(Problem("project", "names no project that you may see"))
        name, _ = await name_and_main_branch(connection, project_id)
        return reply.ok(
            await insights.find(connection, (project_id, name), query.show, query.days, query.q or None, now)
        )
