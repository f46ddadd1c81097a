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
    shown = stage(result.panel, query.view, query.beside) if result.panel else None
    draw = partial(render.page, "result.html", result=result, panel=result.panel, stage=shown, query=query, cut=cut)
    return await html.page(request, draw, rows=len(result.rows))
