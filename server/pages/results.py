"""The page of one test case result: the step that failed, what it looked like, and what surrounds it."""

from functools import partial
from typing import Annotated
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from server.http import html
from server.http.reply import Response
from server.reports import results
from server.services import CALL, SERVICES
from server.viewer import render
from server.viewer.stage import stage
from server.viewer.timeline import timeline

_Word = Annotated[str, Meta(max_length=50)]


class ResultQuery(Struct):
    """The state of the page. `step`: `2.17`. `view`: the image mode; `with`: the image beside it. `files`: which page
    of the list of files. `whole`: the result's own error without cuts."""

    step: _Word | None = None
    view: _Word | None = None
    beside: _Word | None = msgspec.field(name="with", default=None)
    files: Annotated[int, Meta(ge=1, le=100_000)] = 1
    whole: bool = False


async def show(request: web.Request, case_id: UUID, query: ResultQuery) -> Response:
    """The page of a result."""
    pool, scope = request.app[SERVICES].pool, request[CALL].scope
    cut = results.WHOLE if query.whole else results.CUT
    result = await results.of_case(pool, case_id, scope, query.step, query.files, cut)
    return await html.page(request, partial(_draw, result, query, cut), rows=len(result.rows))


def _draw(result: results.Result, query: ResultQuery, cut: int, frame: html.Frame) -> str:
    shown = stage(result.panel, query.view, query.beside) if result.panel else None
    values = {"panel": result.panel, "stage": shown, "timeline": timeline(result), "query": query, "cut": cut}
    return render.page("result.html", frame=frame, result=result, **values)
