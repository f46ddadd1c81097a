"""Pages of evidence links: a suite run, a test case result or an artifact, as HTML or JSON, and its images.

Every request was authenticated by open_page or open_image of http/authenticate.py. The handlers omit all data
that the link does not cover.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields
from typing import Annotated, Any
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.auth.evidence_links import Shared
from server.errors import CaseNotFound, ReportError
from server.http import files, html, reply
from server.http.fields import Page
from server.http.reply import Response
from server.reports import downloads, links, reports, suite_runs, test_cases
from server.reports.shared import SharedCase, SharedCasePage, SharedRun
from server.reports.test_cases import TestCase
from server.reports.words import Status
from server.services import CALL, SERVICES
from server.viewer import render

_IMAGES = "image/"
# Without this, caches could still show the content of a link that has been revoked.
_NO_STORE = "private, no-store"


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
    items = [SharedCase(*[*_columns(case), f"{url}/test-case-results/{case.id}"]) for case in cases]
    shown = SharedRun(run, SharedCasePage(total, query.number, query.size, items))
    return await _negotiate(request, reply.plain(shown), lambda shared: render.run(shared, url, query.status, query.q))


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
    report = reply.plain(await reports.gather(pool, case_id, request[CALL].scope, _IMAGES))
    screenshots = [
        shown["screenshot_artifact_id"]
        for shown in (*report["steps"], *report["checkpoints"])
        if shown["screenshot_artifact_id"] is not None
    ]
    _limit_to_link(report, await links.images_among(pool, case_id, screenshots), shared.url)
    run_url = shared.url if shared.kind == "suite_run" else None
    return await _negotiate(request, report, lambda report: render.case(report, shared.url, run_url))


def _columns(case: TestCase) -> list[Any]:
    return [getattr(case, field.name) for field in fields(case)]


def _shared(request: web.Request) -> Shared:
    shared = request[CALL].shared
    if shared is None:
        raise LookupError("this route is not behind an evidence link")
    return shared


def _limit_to_link(report: dict[str, Any], images: set[str], url: str) -> None:
    """Removes data that the link does not cover from a report, and replaces the URLs of its images by URLs of the link.

    `images` are the ids of the screenshots that are images.
    """

    def address(artifact: Mapping[str, Any]) -> str:
        return f"{url}/artifacts/{artifact['id']}"

    for artifact in report["artifacts"]:
        artifact["download_url"] = address(artifact)
    for shown in (*report["steps"], *report["checkpoints"]):
        if shown["screenshot_artifact_id"] not in images:
            shown["screenshot_artifact_id"] = None
    for step in report["steps"]:
        own = [artifact for artifact in step["artifacts"] if artifact["mime_type"].startswith(_IMAGES)]
        step["artifacts"] = [{**artifact, "download_url": address(artifact)} for artifact in own]
        if step["screenshot_artifact_id"] is None:
            step["screenshot"] = None
        else:
            step["screenshot"] |= dict.fromkeys(["url", "download_url"], address(step["screenshot"]))


async def _send(request: web.Request, artifact_id: UUID, attachment: bool) -> Response:
    stored = await downloads.of_link(request.app[SERVICES].pool, request[CALL].known_caller.id, artifact_id)
    return await files.reply(request, artifact_id, stored, _NO_STORE, attachment)


async def _negotiate(request: web.Request, value: Any, page: Callable[[Any], str]) -> Response:
    """HTML for browsers, JSON for programs, by the Accept header."""
    headers = {"Vary": "Accept"}
    if html.preferred(request):  # in a thread: rendering 2,000 steps takes 100 ms
        return html.html(await asyncio.to_thread(page, value), images=True, headers=headers)
    return reply.ok(value, headers)
