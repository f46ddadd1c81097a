"""What evidence links show, to people and to programs: a run, a test case result or an artifact, and its images.

Every handler here is behind http/authenticate.py open_page. It leaves out what the link does not cover.
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
# Nothing is kept of what a link shows, so that it ends when it is revoked.
_NOT_KEPT = "private, no-store"


class SharedQuery(Page):
    """Which of a run's test case results to show; of an artifact, whether to save it."""

    status: Status | None = None
    q: Annotated[str, Meta(max_length=500)] | None = None
    download: bool = False


class ImageQuery(Struct):
    download: bool = False


async def show(request: web.Request, query: SharedQuery) -> Response:
    """What an evidence link is on: a run and its test case results, the report of one, or an artifact's bytes."""
    shared = _shared(request)
    return await _SHOWN[shared.kind](request, shared.id, query)


async def show_case(request: web.Request, case_id: UUID) -> Response:
    """The report of a test case result that an evidence link covers; of its artifacts, the images."""
    if not await links.covers_case(request.app[SERVICES].pool, request[CALL].known_caller.id, case_id):
        raise CaseNotFound()
    return await _case(request, case_id)


async def show_image(request: web.Request, artifact_id: UUID, query: ImageQuery) -> Response:
    """The bytes of an image that an evidence link covers, or of the artifact that it is on."""
    return await _send(request, artifact_id, query.download)


def refusal(request: web.Request, error: ReportError) -> Response:
    """The same for a person as for a program."""
    if not html.wanted(request):
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
    return await _either(request, reply.plain(shown), lambda shared: render.run(shared, url, query.status, query.q))


async def _show_case(request: web.Request, case_id: UUID, _: SharedQuery) -> Response:
    return await _case(request, case_id)


async def _show_artifact(request: web.Request, artifact_id: UUID, query: SharedQuery) -> Response:
    return await _send(request, artifact_id, query.download)


_SHOWN: Mapping[str, Callable[[web.Request, UUID, SharedQuery], Awaitable[Response]]] = {
    "suite_run": _show_run,
    "test_case_result": _show_case,
    "artifact": _show_artifact,
}


async def _case(request: web.Request, case_id: UUID) -> Response:
    pool, shared = request.app[SERVICES].pool, _shared(request)
    report = reply.plain(await reports.gather(pool, case_id, request[CALL].scope, _IMAGES))
    of_steps_and_checkpoints = [
        shown["screenshot_artifact_id"]
        for shown in (*report["steps"], *report["checkpoints"])
        if shown["screenshot_artifact_id"] is not None
    ]
    _narrow(report, await links.images_among(pool, case_id, of_steps_and_checkpoints), shared.url)
    run_url = shared.url if shared.kind == "suite_run" else None
    return await _either(request, report, lambda report: render.case(report, shared.url, run_url))


def _columns(case: TestCase) -> list[Any]:
    return [getattr(case, field.name) for field in fields(case)]


def _shared(request: web.Request) -> Shared:
    shared = request[CALL].shared
    if shared is None:
        raise LookupError("this route is not behind an evidence link")
    return shared


def _narrow(report: dict[str, Any], images: set[str], url: str) -> None:
    """Leaves of a report what a link covers, at the addresses where it has it."""

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
    return await files.reply(request, artifact_id, stored, _NOT_KEPT, attachment)


async def _either(request: web.Request, value: Any, page: Callable[[Any], str]) -> Response:
    """A page for a person, JSON for a program."""
    headers = {"Vary": "Accept"}
    if html.wanted(request):  # in a thread: a page of 2,000 steps takes 100 ms
        return html.html(await asyncio.to_thread(page, value), images=True, headers=headers)
    return reply.ok(value, headers)
