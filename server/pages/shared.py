"""Pages of evidence links: a suite run, a test case result or an artifact, as HTML or JSON, and its images.

Every request was authenticated by open_page or open_image of http/authenticate.py. The handlers omit all data
that the link does not cover.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.auth.evidence_links import Shared
from server.background import aside
from server.database.pool import Pool
from server.errors import CaseNotFound, ReportError
from server.http import files, html, reply
from server.http.fields import Page
from server.http.reply import Response
from server.reports import artifacts, downloads, links, reports, steps, suite_runs, test_cases
from server.reports.listing import PORTION
from server.reports.shared import SharedCase, SharedCasePage, SharedRun
from server.reports.test_cases import TestCase
from server.reports.words import Status
from server.services import CALL, SERVICES
from server.viewer import render

_IMAGES = "image/"
# Without this, caches could still show the content of a link that has been revoked.
_NO_STORE = "private, no-store"
_VARY = {"Vary": "Accept"}


class SharedQuery(Page):
    """Filters of a run's test case results; `download` is for an artifact."""

    status: Status | None = None
    q: Annotated[str, Meta(max_length=500)] | None = None
    download: bool = False


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


async def show_case(request: web.Request, case_id: UUID) -> Response:
    """Shows the report of a test case result that an evidence link covers.

    The report has no artifacts except images. Browsers get HTML and programs JSON, by the `Accept` header.
    """
    if not await links.covers_case(request.app[SERVICES].pool, request[CALL].known_caller.id, case_id):
        raise CaseNotFound()
    return await _case(request, case_id)


async def show_image(request: web.Request, artifact_id: UUID, query: ImageQuery) -> Response:
    """Downloads an image that an evidence link covers, or the artifact that the link is for.

    `download=true` makes a browser save it instead of showing it.
    """
    return await _send(request, artifact_id, query.download)


def refusal(request: web.Request, error: ReportError) -> Response:
    """The reply for an error below 500: HTML for browsers, JSON for programs."""
    if not html.preferred(request):
        return reply.failure(request, error)
    return html.html(render.refusal(error.status, error.detail), error.status, headers=error.headers)


async def _show_run(request: web.Request, suite_id: UUID, query: SharedQuery) -> Response:
    scope, url = request[CALL].scope, _shared(request).url
    async with request.app[SERVICES].pool.acquire() as connection:
        run = await suite_runs.by_id(connection, suite_id, scope)
        total, cases = await test_cases.of_run(
            connection, suite_id, scope, query.status, query.q, query.size, query.offset
        )

    async def linked(items: list[TestCase]) -> list[SharedCase]:
        return [SharedCase(*[*_columns(case), f"{url}/test-case-results/{case.id}"]) for case in items]

    await cases.changed(linked)
    shown = SharedRun(run, SharedCasePage(total, query.number, query.size, cases))
    if not html.preferred(request):
        return await reply.listed(request, shown, [cases], _VARY)

    def page(items: str) -> str:
        values = reply.plain(SharedRun(run, SharedCasePage(total, query.number, query.size, [])))
        return render.run(values, url, query.status, query.q, items)

    return await html.listed(request, page, [(cases, render.case_items)], _VARY)


async def _show_case(request: web.Request, case_id: UUID, _: SharedQuery) -> Response:
    return await _case(request, case_id)


async def _show_artifact(request: web.Request, artifact_id: UUID, query: SharedQuery) -> Response:
    return await _send(request, artifact_id, query.download)


_HANDLERS: Mapping[str, Callable[[web.Request, UUID, SharedQuery], Awaitable[Response]]] = {
    "suite_run": _show_run,
    "test_case_result": _show_case,
    "artifact": _show_artifact,
}


async def _case(request: web.Request, case_id: UUID) -> Response:
    pool, shared = request.app[SERVICES].pool, _shared(request)
    report = await reports.gather(pool, case_id, request[CALL].scope, _IMAGES)
    limits = _Limits(pool, case_id, shared.url)
    shown, images, points = reports.lists(report)
    await shown.changed(limits.steps)
    await images.changed(limits.artifacts)
    await points.changed(limits.screenshots)
    if not html.preferred(request):
        return await reply.listed(request, report, reports.lists(report), _VARY)
    await images.changed(limits.not_shown)
    async with pool.acquire() as connection:
        iterations, failed = await steps.overview(connection, case_id, reports.MAX_ITEMS)

    def page(steps: str, checkpoints: str, others: str) -> str:
        values = reply.plain(replace(report, steps=[], artifacts=[], checkpoints=[]))
        lists = {"steps": steps, "checkpoints": checkpoints, "others": others}
        return render.case(values | lists, shared.url, run_url, str(failed or ""))

    run_url = shared.url if shared.kind == "suite_run" else None
    lists: list[tuple[Any, Callable[[Any], str]]] = [
        (shown, partial(render.steps, iterations=iterations)),
        (points, partial(render.checkpoints, url=shared.url)),
        (images, render.images),
    ]
    return await html.listed(request, page, lists, _VARY)


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

    def __init__(self, pool: Pool, case_id: UUID, url: str) -> None:
        self._pool, self._case_id, self._url = pool, case_id, url

    async def artifacts(self, items: Any) -> list[dict[str, Any]]:
        return [{**each, "download_url": self._address(each)} for each in await _plain(items)]

    async def not_shown(self, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The artifacts that no step and no checkpoint shows."""
        ids = [UUID(each["id"]) for each in items]
        shown = await artifacts.shown_among(self._pool, self._case_id, ids) if ids else set()
        return [each for each in items if each["id"] not in shown]

    async def screenshots(self, items: Any) -> list[dict[str, Any]]:
        """Steps or checkpoints without screenshots that are no images."""
        entries: list[dict[str, Any]] = await _plain(items)
        wanted = [UUID(each["screenshot_artifact_id"]) for each in entries if each["screenshot_artifact_id"]]
        images = await links.images_among(self._pool, self._case_id, wanted) if wanted else set()
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
