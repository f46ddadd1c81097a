"""The page of one test case result: the step that failed, what it looked like, and what surrounds it."""

from datetime import timedelta
from functools import partial
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from server.http import html
from server.http.reply import Response
from server.reports import comparisons, greens, marks, overview, results
from server.services import CALL
from server.viewer import render, result_page

_AT_ONCE = 1_000  # steps that are compared with the last green before the page is sent
_Page = Annotated[int, Meta(ge=1, le=100_000)]
_Milliseconds = Annotated[int, Meta(ge=0, le=10**12)]
_Word = Annotated[str, Meta(max_length=50)]


class ResultQuery(Struct):
    """The state of the page. `step`: `2.17`. `view`: the image mode; `with`: the image beside it. `files`: which page
    of the list of files. `log`: whether to list the entries during the step, or all of them, of which `page` is a page
    and `from` to `to` a window in milliseconds. `whole`: the result's own error without cuts. `part=live`:
    what has changed since the page was drawn, when the result had so many `steps`."""

    step: _Word | None = None
    view: _Word | None = None
    beside: _Word | None = msgspec.field(name="with", default=None)
    files: _Page = 1
    log: Literal["step", "all"] = "step"
    page: _Page = 1
    after: _Milliseconds | None = msgspec.field(name="from", default=None)
    until: _Milliseconds | None = msgspec.field(name="to", default=None)
    whole: bool = False
    part: Literal["live"] | None = None
    steps: Annotated[int, Meta(ge=0, le=10**9)] = 0

    def asked(self) -> results.Asked:
        window = None if self.after is None or self.until is None else (self.after, max(self.after, self.until))
        return results.Asked(self.step, self.files, self.page if self.log == "all" else 0, window)


async def show(request: web.Request, case_id: UUID, query: ResultQuery) -> Response:
    """The page of a result."""
    reads, scope = request[CALL].reads, request[CALL].scope
    if query.part is not None:
        return await _live(request, await results.progress(reads, case_id, scope), query.steps)
    cut = results.WHOLE if query.whole else results.CUT
    result = await results.of_case(reads, case_id, scope, query.asked(), cut)
    if not result.head.finished:
        result.quiet = (await overview.quiet(reads, [result.head.run_id])).get(result.head.run_id)
    failed, steps = result.head.status == "Failed", sum(each.steps for each in result.iterations)
    difference = (
        await comparisons.first_difference(reads, case_id, scope, None) if failed and steps <= _AT_ONCE else None
    )
    mark = await marks.of_result(reads, result.head.run_id, result.outcome())
    at = result.panel.step.at if result.panel and query.beside == "green" else None
    green = await greens.of_step(reads, case_id, at) if result.panel else None
    late = failed and steps > _AT_ONCE
    draw = partial(result_page.draw, result, query, green=green, difference=difference, late=late, marks=mark, cut=cut)
    length = result.length + (result.panel.length if result.panel else 0)
    return await html.page(request, draw, rows=len(result.rows) + len(result.outline) // 4 + length // 32)


async def _live(request: web.Request, now: results.Progress, shown: int) -> Response:
    """The status of a result and its run, attempts, and how many steps are not in the page."""
    run = now.head.run_id
    quiet = None if now.head.finished else (await overview.quiet(request[CALL].reads, [run])).get(run)
    hours = quiet and quiet // timedelta(hours=1)
    version = now.head.status, now.head.run_status, now.attempts, now.steps, hours
    draw = partial(
        render.page, "result_live.html", head=now.head, attempts=now.attempts, news=now.steps - shown, quiet=quiet
    )
    return await html.live(request, draw, version)


async def show_difference(request: web.Request, case_id: UUID) -> Response:
    """The first difference of a result with many steps: for the scripts of its page, and as a page of its own."""
    reads, scope = request[CALL].reads, request[CALL].scope
    head = await results.head_of(reads, case_id, scope)
    difference = await comparisons.first_difference(reads, case_id, scope, None)
    name = "difference.html" if html.is_fragment(request) else "difference_page.html"
    return await html.page(request, partial(render.page, name, head=head, difference=difference), fragments=True)
