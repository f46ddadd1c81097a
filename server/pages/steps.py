"""One step of a result: a fragment for the page of the result, and a page of its own with every text whole."""

from functools import partial
from typing import Annotated
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from server.http import html
from server.http.reply import Response
from server.reports import greens, results
from server.services import CALL
from server.viewer import render
from server.viewer.stage import stage

_Word = Annotated[str, Meta(max_length=50)]


class StepQuery(Struct):
    view: _Word | None = None
    beside: _Word | None = msgspec.field(name="with", default=None)


async def show(request: web.Request, case_id: UUID, query: StepQuery) -> Response:
    """The panel of a step for the scripts of the page; for everybody else a small page."""
    reads, scope, at = request[CALL].reads, request[CALL].scope, request.match_info["at"]
    fragment = html.is_fragment(request)
    cut = results.CUT if fragment else results.WHOLE
    head, panel = await results.panel(reads, case_id, scope, at, cut)
    green = await greens.of_step(reads, case_id, panel.step.at if query.beside == "green" else None)
    shown = stage(panel, query.view, query.beside, green)
    name = "panel.html" if fragment else "step.html"
    draw = partial(render.page, name, head=head, panel=panel, stage=shown)
    return await html.page(request, draw, rows=panel.length // 32, fragments=True)
