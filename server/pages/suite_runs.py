"""The pages of suite runs: what needs a look and the list of runs, and one run."""

import re
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from typing import Annotated, Literal
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.auth.roles import Role
from server.http import html
from server.http.cursor import CursorPage, cursor_of
from server.http.fields import AnyRunStatus, Day, IndexedText, Instant, Name100
from server.http.reply import Response
from server.reports import overview, run_comparisons, run_pages, run_tests, suite_runs
from server.reports.overview import Known
from server.reports.run_tests import State
from server.services import CALL, SERVICES
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


class TestFilter(Struct):
    """Filters of a run's tests. `error` is the key of a group, `group` whether failures are grouped."""

    status: State | None = None
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
    asked = run_pages.Asked(query.status, query.q, query.tag, query.error, query.group, query.cursor)
    async with request.app[SERVICES].pool.acquire() as connection:
        run = await overview.one(connection, suite_id, request[CALL].scope)
        compared = await run_comparisons.by_id(connection, suite_id, request[CALL].scope)
        against = await run_tests.against_previous(connection, compared)
        values = await run_pages.values(connection, compared, run.counts, asked, history=True)
    values |= {
        "against": against,
        "here": here,
        "further": here(cursor=values["further"]) if values["further"] else None,
        "listed": run,
        "run": run.run,
        "counts": run.counts,
        "now": datetime.now(UTC),
    }
    return await html.page(request, partial(render.page, "suite_run.html", **values), rows=run_pages.TESTS)


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
