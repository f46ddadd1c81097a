"""The pages of suite runs: what needs a look and the list of runs, and one run."""

import re
from datetime import UTC, datetime
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
from server.reports import errors, overview, run_comparisons, run_tests, suite_runs
from server.reports.overview import Known
from server.reports.run_comparisons import ComparedRun
from server.reports.run_tests import Counts
from server.services import CALL, SERVICES
from server.viewer import render
from server.viewer.filters import FilteredAddress

_RUNS = 25  # a page
_TESTS = 200  # a page
_FOLDED = 20  # tests of each status that the first page of a run lists
_CARDS = 3  # failed tests of a group that are shown with a picture
_MARKED = 60  # failed tests of a page whose history is read
_SLOWEST = 5

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


class TestFilter(Struct):
    """Filters of a run's tests. `error` is the key of a group, `group` whether failures are grouped."""

    status: Literal["Failed", "Flaky", "Passed", "Skipped", "Pending"] | None = None
    q: IndexedText | None = None
    tag: IndexedText | None = None
    error: Annotated[str, Meta(max_length=64)] | None = None
    group: Literal["error", "none"] | None = None
    cursor: Cursor | None = None


async def index(request: web.Request, query: RunFilter) -> Response:
    """The failures that need a look, and the runs, newest first."""
    here = FilteredAddress.of(request.path, request.query, query.__struct_fields__)
    filtered = {name for name in here.filters if name != "cursor"}
    if "" in request.query.values():  # of a form that was sent with empty fields: the address is to be short
        return html.see_other(here(cursor=query.cursor))
    visible = request[CALL].known_caller.projects()
    async with request.app[SERVICES].pool.acquire() as connection:
        projects = await overview.projects(connection, visible)
        chosen = _chosen(projects, query.project, visible)
        runs, more = await suite_runs.page(
            connection,
            chosen,
            CursorPage(cursor=query.cursor).before,
            _RUNS,
            status=query.status,
            name=query.name,
            branch=query.branch,
            environment=query.environment,
            tag=query.tag,
            since=query.since,
            until=query.until,
        )
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
    }
    return await html.page(request, partial(render.page, "runs.html", **values), rows=len(listed))


async def show(request: web.Request, suite_id: UUID, query: TestFilter) -> Response:
    """A run: its failed tests by error, then the others."""
    here = FilteredAddress.of(request.path, request.query, query.__struct_fields__)
    if "" in request.query.values():
        return html.see_other(here(cursor=query.cursor))
    listing = bool(query.q or query.tag or query.error or query.group == "none" or query.status not in (None, "Failed"))
    async with request.app[SERVICES].pool.acquire() as connection:
        run = await overview.one(connection, suite_id, request[CALL].scope)
        draw = _list if listing else _overview
        compared = await run_comparisons.by_id(connection, suite_id, request[CALL].scope)
        against = await run_tests.against_previous(connection, compared)
        values = await draw(connection, compared, run.counts, query, here)
    values |= {
        "against": against,
        "here": here,
        "listed": run,
        "run": run.run,
        "counts": run.counts,
        "now": datetime.now(UTC),
    }
    return await html.page(request, partial(render.page, "suite_run.html", **values), rows=_TESTS)


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


async def _overview(
    connection: Any, run: ComparedRun, counts: Counts, query: TestFilter, here: FilteredAddress
) -> dict[str, Any]:
    """Failures by error, the largest group first, and without a status the first of the other tests."""
    failures = await run_tests.failing(connection, [run.id]) if counts.failed else []
    groups = run_tests.by_error(failures)
    start = _start(query.cursor, len(groups))
    shown = _fitting(groups[start:])
    pictured = [test for group in shown for test in group.tests[:_CARDS]]
    others = {}
    if query.status is None and start == 0:
        for state, number in _states(counts)[1:]:
            if number:
                others[state], _ = await run_tests.page(connection, run.id, _FOLDED, state=state)
    end = start + len(shown)
    return {
        "listing": None,
        "groups": shown,
        "steps": await run_tests.failed_steps(connection, [test.id for test in pictured]),
        "marks": await run_tests.marks_of(connection, run, pictured[:_MARKED]),
        "errors": await _errors(connection, run.project_id, shown),
        "cut": counts.failed - len(failures),
        "others": others,
        "slowest": [] if counts.failed else await run_tests.slowest(connection, run.id, _SLOWEST),
        "further": here(cursor=end) if end < len(groups) else None,
        "states": _states(counts),
    }


async def _errors(connection: Any, project_id: UUID, groups: list[run_tests.Group]) -> dict[str, errors.ErrorGroup]:
    """What is known about the errors of these groups, by their key."""
    keys = [bytes.fromhex(group.key) for group in groups if group.tests[0].fingerprint is not None]
    return {found.fingerprint: found for found in await errors.facts(connection, [(project_id, key) for key in keys])}


async def _list(
    connection: Any, run: ComparedRun, counts: Counts, query: TestFilter, here: FilteredAddress
) -> dict[str, Any]:
    """A page of the tests that match the filters, failed ones first."""
    after = _place(query.cursor)
    if query.error:
        found, more = await run_tests.with_error(connection, run.id, query.error, _TESTS, after)
    else:
        found, more = await run_tests.page(
            connection, run.id, _TESTS, state=query.status, name=query.q, tag=query.tag, after=after
        )
    steps = await run_tests.failed_steps(connection, [test.id for test in found if test.status == "Failed"])
    return {
        "listing": found,
        "steps": steps,
        "further": here(cursor=f"{found[-1].rank}.{found[-1].id}") if more else None,
        "states": _states(counts),
    }


def _fitting(groups: list[run_tests.Group]) -> list[run_tests.Group]:
    """As many of the groups as a page holds: at most _TESTS tests in all, and at least one group."""
    shown: list[run_tests.Group] = []
    rows = 0
    for group in groups:
        rows += min(len(group.tests), _FOLDED)
        if shown and rows > _TESTS:
            break
        shown.append(group)
    return shown


def _states(counts: Counts) -> list[tuple[run_tests.State, int]]:
    return [
        ("Failed", counts.failed),
        ("Flaky", counts.flaky),
        ("Pending", counts.pending),
        ("Skipped", counts.skipped),
        ("Passed", counts.passed),
    ]


def _start(cursor: str | None, most: int) -> int:
    """How many groups the earlier pages showed. Raises Invalid."""
    if cursor is None:
        return 0
    if not cursor.isdecimal() or int(cursor) > most:
        raise _wrong_cursor()
    return int(cursor)


def _place(cursor: str | None) -> tuple[int, UUID] | None:
    """The rank and id in a cursor. Raises Invalid."""
    if cursor is None:
        return None
    rank, _, text = cursor.partition(".")
    try:
        if rank in ("0", "1"):
            return int(rank), UUID(text)
    except ValueError:
        pass
    raise _wrong_cursor()


def _wrong_cursor() -> Invalid:
    return Invalid(Problem("cursor", "must be the one of a link to the next page"))
