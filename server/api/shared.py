"""What evidence links show, to people and to programs: a run, a test case result or an artifact, and its images.

Every handler here is behind auth/opening.py. It composes the other nouns, and leaves out what the link does not cover.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aiohttp import web

from server.api import downloads, reports, suite_runs, test_cases
from server.api.downloads import DownloadQuery
from server.api.suite_runs import SuiteRun
from server.api.test_cases import TestCase, TestCaseFilter
from server.context import CALLER, POOL, SHARED, SQL
from server.errors import CaseNotFound, ReportError
from server.http import pages, reply
from server.http.reply import Response
from server.viewer import pages as viewer

_IMAGES = "image/"
# Nothing is kept of what a link shows, so that it ends when it is revoked.
_NOT_KEPT = "private, no-store"


class SharedQuery(TestCaseFilter):
    """Which of a run's test case results to show; of an artifact, whether to save it."""

    download: bool = False


@dataclass(slots=True)
class SharedCase(TestCase):
    url: str


@dataclass(slots=True)
class SharedCasePage:
    total: int
    page: int
    per_page: int
    items: list[SharedCase]


@dataclass(slots=True)
class SharedRun:
    suite_run: SuiteRun
    test_case_results: SharedCasePage


async def show(request: web.Request, query: SharedQuery) -> Response:
    """What an evidence link is on: a run and its test case results, the report of one, or an artifact's bytes."""
    return await _SHOWN[request[SHARED].kind](request, request[SHARED].id, query)


async def show_case(request: web.Request, case_id: UUID) -> Response:
    """The report of a test case result that an evidence link covers; of its artifacts, the images."""
    if not await request.app[POOL].fetchval(request.app[SQL].links.covered_case, request[CALLER].id, case_id):
        raise CaseNotFound()
    return await _case(request, case_id)


async def show_image(request: web.Request, artifact_id: UUID, query: DownloadQuery) -> Response:
    """The bytes of an image that an evidence link covers, or of the artifact that it is on."""
    return await _send(request, artifact_id, query.download)


def refusal(request: web.Request, error: ReportError) -> Response:
    """The same for a person as for a program."""
    if not pages.wanted(request):
        return reply.failure(request, error)
    return pages.html(viewer.refusal(error.status, error.detail), error.status, headers=error.headers)


async def _show_run(request: web.Request, suite_id: UUID, query: SharedQuery) -> Response:
    async with request.app[POOL].acquire() as connection:
        run = await suite_runs.by_id(request, connection, suite_id)
        total, rows = await test_cases.of_run(request, connection, suite_id, query)
    url = request[SHARED].url
    items = [SharedCase(*[*row, f"{url}/test-case-results/{row['id']}"]) for row in rows]
    shown = SharedRun(run, SharedCasePage(total, query.number, query.size, items))
    return await _either(request, reply.plain(shown), lambda shared: viewer.run(shared, url, query.status, query.q))


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
    shared = request[SHARED]
    report = reply.plain(await reports.gather(request, case_id, _IMAGES))
    of_steps_and_checkpoints = [
        shown["screenshot_artifact_id"]
        for shown in (*report["steps"], *report["checkpoints"])
        if shown["screenshot_artifact_id"] is not None
    ]
    rows = await request.app[POOL].fetch(request.app[SQL].links.images_among, case_id, of_steps_and_checkpoints)
    _narrow(report, {str(row["id"]) for row in rows}, shared.url)
    run_url = shared.url if shared.kind == "suite_run" else None
    return await _either(request, report, lambda report: viewer.case(report, shared.url, run_url))


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
    query = request.app[SQL].links.covered_artifact
    row = await request.app[POOL].fetchrow(query, request[CALLER].id, artifact_id)
    return await downloads.send(request, artifact_id, row, _NOT_KEPT, attachment)


async def _either(request: web.Request, value: Any, page: Callable[[Any], str]) -> Response:
    """A page for a person, JSON for a program."""
    headers = {"Vary": "Accept"}
    if pages.wanted(request):  # in a thread: a page of 2,000 steps takes 100 ms
        return pages.html(await asyncio.to_thread(page, value), images=True, headers=headers)
    return reply.ok(value, headers)
