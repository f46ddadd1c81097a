"""Pages of evidence links: a suite run, a test case result or an artifact, as HTML or JSON, and its images.

Every request was authenticated by open_page or open_image of http/authenticate.py. The handlers omit all data
that the link does not cover.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from server.auth.evidence_links import Shared
from server.background import aside
from server.database.reads import Reads
from server.errors import CaseNotFound, Invalid, Problem, ReportError
from server.http import files, html, reply
from server.http.fields import IndexedText, Page
from server.http.reply import Response
from server.reports import (
    downloads,
    links,
    overview,
    reports,
    results,
    run_comparisons,
    run_pages,
    suite_runs,
    test_cases,
)
from server.reports.listing import PORTION
from server.reports.run_tests import State
from server.reports.shared import SharedCase, SharedCasePage, SharedRun
from server.reports.test_cases import TestCase
from server.services import CALL, SERVICES
from server.viewer import render, result_page
from server.viewer.addresses import NOWHERE, LinkPages
from server.viewer.filters import FilteredAddress
from server.viewer.stage import stage

_IMAGES = "image/"
# Without this, caches could still show the content of a link that has been revoked.
_NO_STORE = "private, no-store"
_VARY = {"Vary": "Accept"}
# Characters of a text. Anybody may open a link: all texts of a step together are then not much more than a portion.
_WHOLE = 100_000

_Word = Annotated[str, Meta(max_length=50)]
_Number = Annotated[int, Meta(ge=1, le=100_000)]


class ResultQuery(Struct):
    """The state of the HTML page of a result. `step`: `2.17`. `view`: the image mode; `with`: the image beside it.
    `files`: which page of the list of files. `whole`: the result's own error without cuts."""

    step: _Word | None = None
    view: _Word | None = None
    beside: _Word | None = msgspec.field(name="with", default=None)
    files: _Number = 1
    whole: bool = False


class StepQuery(Struct):
    """The image mode, and the image beside it."""

    view: _Word | None = None
    beside: _Word | None = msgspec.field(name="with", default=None)


class SharedQuery(Page):
    """Of a run: the filters of its test case results, where `Flaky`, `tag`, `error` (the key of a group), `group` and
    `cursor` are for the HTML page. Of a result: see ResultQuery. `download` is for an artifact."""

    status: State | None = None
    q: Annotated[str, Meta(max_length=500)] | None = None
    tag: IndexedText | None = None
    error: Annotated[str, Meta(max_length=64)] | None = None
    group: Literal["error", "none"] | None = None
    cursor: Annotated[str, Meta(max_length=100)] | None = None
    download: bool = False
    step: _Word | None = None
    view: _Word | None = None
    beside: _Word | None = msgspec.field(name="with", default=None)
    files: _Number = 1
    whole: bool = False


class ImageQuery(Struct):
    download: bool = False


async def show(request: web.Request, query: SharedQuery) -> Response:
    """Shows the target of an evidence link: a suite run, a test case result or an artifact.

    For a suite run the reply has its test case results, filtered by `status` and by `q` in the name. For a test case
    result it is the report. Browsers get HTML and programs JSON, by the `Accept` header. An artifact is sent as its
    bytes, and `download=true` makes a browser save it. 404 when the link has expired or was revoked.
    """
    shared = _shared(request)
    return await _HANDLERS[shared.kind](request, shared.id, query)


async def show_case(request: web.Request, case_id: UUID, query: ResultQuery) -> Response:
    """Shows the report of a test case result that an evidence link covers.

    The report has no artifacts except images. Browsers get HTML and programs JSON, by the `Accept` header.
    """
    if not await links.covers_case(request[CALL].reads, request[CALL].known_caller.id, case_id):
        raise CaseNotFound()
    return await _case(request, case_id, query)


async def show_image(request: web.Request, artifact_id: UUID, query: ImageQuery) -> Response:
    """Downloads an image that an evidence link covers, or the artifact that the link is for.

    `download=true` makes a browser save it instead of showing it.
    """
    return await _send(request, artifact_id, query.download)


def refusal(request: web.Request, error: ReportError) -> Response:
    """The reply for an error: HTML for browsers, JSON for programs."""
    if not html.preferred(request):
        return reply.failure(request, error)
    frame = html.Frame(None, None, "auto", request.path_qs)
    text = render.page("refused.html", frame=frame, to=NOWHERE, status=error.status, error=error)
    return html.as_shared_page(text, error.status, headers=error.headers)


async def _show_run(request: web.Request, suite_id: UUID, query: SharedQuery) -> Response:
    if html.preferred(request):
        return await _run_page(request, suite_id, query)
    if query.status == "Flaky":
        raise Invalid(Problem("status", "Flaky is a filter of the HTML page only"))
    scope, url = request[CALL].scope, _shared(request).url
    async with request[CALL].reads.acquire() as connection:
        run = await suite_runs.by_id(connection, suite_id, scope)
        total, cases = await test_cases.of_run(
            connection, suite_id, scope, query.status, query.q, query.size, query.offset
        )

    async def linked(items: list[TestCase]) -> list[SharedCase]:
        return [SharedCase(*[*_columns(case), f"{url}/test-case-results/{case.id}"]) for case in items]

    await cases.changed(linked)
    shown = SharedRun(run, SharedCasePage(total, query.number, query.size, cases))
    return await reply.listed(request, shown, [cases], _VARY)


async def _run_page(request: web.Request, suite_id: UUID, query: SharedQuery) -> Response:
    """The page of a run, without what its other runs say."""
    scope, url = request[CALL].scope, _shared(request).url
    here = FilteredAddress.of(url, request.query, ("status", "q", "tag", "error", "group", "cursor"))
    asked = run_pages.Asked(query.status, query.q, query.tag, query.error, query.group, query.cursor)
    async with request[CALL].reads.acquire() as connection:
        run = await overview.one(connection, suite_id, scope)
        compared = await run_comparisons.by_id(connection, suite_id, scope)
        values = await run_pages.values(connection, compared, run.counts, asked, history=False)
    values |= {
        "against": None,
        "whole": None,
        "here": here,
        "further": here(cursor=values["further"]) if values["further"] else None,
        "listed": run,
        "run": run.run,
        "counts": run.counts,
        "now": datetime.now(UTC),
        "to": LinkPages(url),
    }
    return await html.shared_page(request, partial(render.page, "suite_run.html", **values))


async def _show_case(request: web.Request, case_id: UUID, query: SharedQuery) -> Response:
    return await _case(request, case_id, query)


async def _show_artifact(request: web.Request, artifact_id: UUID, query: SharedQuery) -> Response:
    return await _send(request, artifact_id, query.download)


_HANDLERS: Mapping[str, Callable[[web.Request, UUID, SharedQuery], Awaitable[Response]]] = {
    "suite_run": _show_run,
    "test_case_result": _show_case,
    "artifact": _show_artifact,
}


async def _case(request: web.Request, case_id: UUID, query: SharedQuery | ResultQuery) -> Response:
    if html.preferred(request):
        return await _case_page(request, case_id, query)
    reads, shared = request[CALL].reads, _shared(request)
    report = await reports.gather(reads, case_id, request[CALL].scope, _IMAGES)
    limits = _Limits(reads, case_id, shared.url)
    shown, images, points = reports.lists(report)
    await shown.changed(limits.steps)
    await images.changed(limits.artifacts)
    await points.changed(limits.screenshots)
    return await reply.listed(request, report, reports.lists(report), _VARY)


async def _case_page(request: web.Request, case_id: UUID, query: SharedQuery | ResultQuery) -> Response:
    """The page of a result, as far as the link covers it."""
    reads, shared = request[CALL].reads, _shared(request)
    cut = _WHOLE if query.whole else results.CUT
    asked = results.Asked(query.step, query.files, only_images=True)
    result = await results.of_case(reads, case_id, request[CALL].scope, asked, cut)
    only = case_id if shared.kind == "test_case_result" else None
    if only:
        result.attempts, result.previous_failed, result.next_failed = [], None, None
    points = [*result.checkpoints, *(result.panel.checkpoints if result.panel else [])]
    named = {each.image for each in result.rows} | {each.screenshot for each in points}
    images = await links.images_among(reads, case_id, [each for each in named if each])
    for row in result.rows:
        row.image = row.image if str(row.image) in images else None
    for point in points:
        point.screenshot = point.screenshot if str(point.screenshot) in images else None
    to = LinkPages(shared.url, only)
    return await html.shared_page(request, partial(result_page.draw, result, query, to=to, cut=cut, series=True))


async def show_step(request: web.Request, case_id: UUID, query: StepQuery) -> Response:
    """The page of one step of a result that an evidence link covers."""
    reads, shared = request[CALL].reads, _shared(request)
    if not await links.covers_case(reads, request[CALL].known_caller.id, case_id):
        raise CaseNotFound()
    at, scope = request.match_info["at"], request[CALL].scope
    head, panel = await results.panel(reads, case_id, scope, at, _WHOLE, only_images=True)
    images = await links.images_among(
        reads, case_id, [each.screenshot for each in panel.checkpoints if each.screenshot]
    )
    for point in panel.checkpoints:
        point.screenshot = point.screenshot if str(point.screenshot) in images else None
    shown = stage(panel, query.view, query.beside, series=True)
    to = LinkPages(shared.url, case_id if shared.kind == "test_case_result" else None)
    draw = partial(render.page, "step.html", head=head, panel=panel, stage=shown, to=to)
    return await html.shared_page(request, draw)


def _columns(case: TestCase) -> list[Any]:
    return [getattr(case, field.name) for field in fields(case)]


def _shared(request: web.Request) -> Shared:
    shared = request[CALL].shared
    if shared is None:
        raise LookupError("this route is not behind an evidence link")
    return shared


class _Limits:
    """Removes what the link does not cover from portions of a report, and replaces the URLs of images by URLs of the
    link."""

    def __init__(self, reads: Reads, case_id: UUID, url: str) -> None:
        self._reads, self._case_id, self._url = reads, case_id, url

    async def artifacts(self, items: Any) -> list[dict[str, Any]]:
        return [{**each, "download_url": self._address(each)} for each in await _plain(items)]

    async def screenshots(self, items: Any) -> list[dict[str, Any]]:
        """Steps or checkpoints without screenshots that are no images."""
        entries: list[dict[str, Any]] = await _plain(items)
        wanted = [UUID(each["screenshot_artifact_id"]) for each in entries if each["screenshot_artifact_id"]]
        images = await links.images_among(self._reads, self._case_id, wanted) if wanted else set()
        for each in entries:
            if each["screenshot_artifact_id"] not in images:
                each["screenshot_artifact_id"] = None
        return entries

    async def steps(self, items: Any) -> list[dict[str, Any]]:
        entries = await self.screenshots(items)
        for step in entries:
            own = [artifact for artifact in step["artifacts"] if artifact["mime_type"].startswith(_IMAGES)]
            step["artifacts"] = [{**artifact, "download_url": self._address(artifact)} for artifact in own]
            if step["screenshot_artifact_id"] is None:
                step["screenshot"] = None
            else:
                step["screenshot"] |= dict.fromkeys(["url", "download_url"], self._address(step["screenshot"]))
        return entries

    def _address(self, artifact: Mapping[str, Any]) -> str:
        return f"{self._url}/artifacts/{artifact['id']}"


async def _plain(items: Any) -> list[dict[str, Any]]:
    return await aside(PORTION, reply.plain, items)


async def _send(request: web.Request, artifact_id: UUID, attachment: bool) -> Response:
    stored = await downloads.of_link(request.app[SERVICES].pool, request[CALL].known_caller.id, artifact_id)
    return await files.reply(request, artifact_id, stored, _NO_STORE, attachment)
