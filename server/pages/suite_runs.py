"""The pages of suite runs: what needs a look and the list of runs, and one run."""

import re
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.auth.roles import Role
from server.errors import Invalid, Problem
from server.http import html
from server.http.cursor import CursorPage, cursor_of
from server.http.fields import AnyRunStatus, Day, IndexedText, Instant, Name100
from server.http.reply import Response
from server.reports import overview, run_comparisons, run_pages, run_tests, shards, suite_runs
from server.reports.overview import Known, ListedRun
from server.reports.run_tests import State
from server.reports.shards import Completeness
from server.reports.suite_runs import SuiteRun
from server.services import CALL
from server.viewer import render
from server.viewer.filters import FilteredAddress

_RUNS = 25  # a page

_HOST = re.compile(r"[\w.-]+(:\d+)?|\[[0-9a-fA-F:]+\](:\d+)?", re.ASCII)

Cursor = Annotated[str, Meta(max_length=100)]


class RunFilter(Struct):
    project: Name100 | None = None
    branch: IndexedText | None = None
    name: IndexedText | None = None
    environment: IndexedText | None = None
    status: AnyRunStatus | None = None
    tag: IndexedText | None = None
    since: Instant | None = None
    until: Day | None = None
    cursor: Cursor | None = None

    def of_runs(self) -> dict[str, Any]:
        """The filters of runs, without the project."""
        return {name: getattr(self, name) for name in self.__struct_fields__[1:8]}


class RunQuery(RunFilter):
    """`part=live`: what has changed since the page was drawn. Its newest run was `newest`; of its runs, `runs` were
    running."""

    part: Literal["live"] | None = None
    newest: UUID | None = None
    runs: Annotated[str, Meta(max_length=1000)] | None = None


class TestFilter(Struct):
    """Filters of a run's tests. `error` is the key of a group, `group` whether failures are grouped."""

    status: State | None = None
    q: IndexedText | None = None
    tag: IndexedText | None = None
    error: Annotated[str, Meta(max_length=64)] | None = None
    group: Literal["error", "none"] | None = None
    cursor: Cursor | None = None


class TestQuery(TestFilter):
    """`part=live`: what has changed since the page was drawn, when so many tests had `failed`."""

    part: Literal["live"] | None = None
    failed: Annotated[int, Meta(ge=0, le=10**9)] = 0


async def index(request: web.Request, query: RunQuery) -> Response:
    """The failures that need a look, and the runs, newest first."""
    here = FilteredAddress.of(request.path, request.query, RunFilter.__struct_fields__)
    filtered = {name for name in here.filters if name != "cursor"}
    if "" in request.query.values():  # of a form that was sent with empty fields: the address is to be short
        return html.see_other(here(cursor=query.cursor))
    visible = request[CALL].known_caller.projects()
    async with request[CALL].reads.acquire() as connection:
        projects = await overview.projects(connection, visible)
        chosen = _chosen(projects, query.project, visible)
        before = CursorPage(cursor=query.cursor).before
        runs, more = await suite_runs.page(connection, chosen, before, _RUNS, **query.of_runs())
        if query.part is not None:
            shown = await _still_shown(connection, query, visible)
            return await _live_list(request, query, here, list(projects), shown, runs)
        known = await overview.known(connection, chosen)
        looked = None
        if not filtered - {"project"} and query.cursor is None:
            looked = await overview.needs_a_look(connection, chosen)
        listed = await overview.listed(connection, runs)
    if looked is not None and not listed and not filtered:
        return await _empty(request)
    values = {
        "here": here,
        "filtered": filtered,
        "projects": list(projects),
        "known": known,
        "looked": looked,
        "runs": listed,
        "older": here(cursor=cursor_of(runs[-1].id)) if more else None,
        "meant": {} if listed else _meant(query, projects, known),
        "now": datetime.now(UTC),
        "live": None if query.cursor is not None else _live_address(here, runs),
    }
    return await html.page(request, partial(render.page, "runs.html", **values), rows=len(listed))


def _live_address(here: FilteredAddress, runs: list[SuiteRun]) -> str:
    running = ",".join(str(run.id) for run in runs if run.status == "Running")
    return here(part="live", newest=runs[0].id if runs else None, runs=running)


async def _still_shown(connection: Any, query: RunQuery, visible: list[UUID] | None) -> list[ListedRun]:
    """The runs that the page shows as running, as they are now."""
    try:
        ids = [UUID(each) for each in query.runs.split(",")] if query.runs else []
    except ValueError:
        raise Invalid(Problem("runs", "must be ids of runs, with commas between them")) from None
    return await overview.listed(connection, await suite_runs.by_ids(connection, ids, visible))


async def _live_list(
    request: web.Request,
    query: RunQuery,
    here: FilteredAddress,
    projects: list[str],
    shown: list[ListedRun],
    runs: list[SuiteRun],
) -> Response:
    """The rows of runs that were running, and how many runs are newer than those of the page."""
    newer = sum(query.newest is None or run.id > query.newest for run in runs)
    values = {"runs": shown, "newer": newer, "newest": query.newest, "here": here, "projects": projects}
    version = newer, [(each.run.id, *_state(each)) for each in shown]
    draw = partial(render.page, "runs_live.html", now=datetime.now(UTC), **values)
    return await html.live(request, draw, version)


def _state(run: ListedRun) -> tuple[Any, ...]:
    """What of a run changes while it is running, without the time that passes."""
    return run.run.status, run.run.finished_at, run.counts, run.quiet and run.quiet // timedelta(hours=1)


async def show(request: web.Request, suite_id: UUID, query: TestQuery) -> Response:
    """A run: its failed tests by error, then the others."""
    here = FilteredAddress.of(request.path, request.query, TestFilter.__struct_fields__)
    if "" in request.query.values():
        return html.see_other(here(cursor=query.cursor))
    asked = run_pages.Asked(query.status, query.q, query.tag, query.error, query.group, query.cursor)
    async with request[CALL].reads.acquire() as connection:
        run = await overview.one(connection, suite_id, request[CALL].scope)
        whole = await shards.of_run(connection, suite_id, request[CALL].scope, run.counts.total)
        if query.part is not None:
            return await _live(request, query, here, run, whole)
        compared = await run_comparisons.by_id(connection, suite_id, request[CALL].scope)
        against = await run_tests.against_previous(connection, compared)
        values = await run_pages.values(connection, compared, run.counts, asked, history=True)
    values |= {
        "against": against,
        "whole": whole,
        "here": here,
        "further": here(cursor=values["further"]) if values["further"] else None,
        "listed": run,
        "run": run.run,
        "counts": run.counts,
        "now": datetime.now(UTC),
    }
    return await html.page(request, partial(render.page, "suite_run.html", **values), rows=run_pages.TESTS)


async def _live(
    request: web.Request, query: TestQuery, here: FilteredAddress, run: ListedRun, whole: Completeness
) -> Response:
    """The status and numbers of a run, and how many more tests failed."""
    values = {"here": here, "listed": run, "run": run.run, "counts": run.counts, "states": run_pages.states(run.counts)}
    values["whole"] = whole
    draw = partial(render.page, "run_live.html", news=run.counts.failed - query.failed, now=datetime.now(UTC), **values)
    return await html.live(request, draw, (*_state(run), whole))


async def _empty(request: web.Request) -> web.Response:
    """The page of a server without runs: what to paste into a terminal to see the first one."""
    call = request[CALL]
    host = call.host if _HOST.fullmatch(call.host) else "127.0.0.1:8000"  # it becomes part of a shell's line
    url = f"{'https' if call.secure else 'http'}://{host}"
    admin = call.known_caller.role >= Role.ADMIN
    return await html.page(request, partial(render.page, "empty.html", url=url, admin=admin))


def _chosen(projects: dict[str, UUID], name: str | None, visible: list[UUID] | None) -> list[UUID] | None:
    """The projects to look in; None: all. An unknown name is a project without runs."""
    if name is None:
        return visible
    return [projects[name]] if name in projects else []


def _meant(query: RunFilter, projects: dict[str, UUID], known: Known) -> dict[str, str]:
    """For each filter whose value is unknown: the known value that is most like it."""
    values = {
        "project": list(projects),
        "branch": known.branches,
        "name": known.names,
        "environment": known.environments,
        "tag": known.tags,
    }
    meant = {}
    for name, there in values.items():
        sent = getattr(query, name)
        if sent is None or sent in there:
            continue
        short = [value for value in there if len(value) <= 100]  # comparing long texts takes time
        if found := get_close_matches(sent[:100], short, 1):
            meant[name] = found[0]
    return meant
