"""Suite runs: one run of a suite, in which parallel shards meet by `run_key`."""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from server.audit import Action, Subject, note, requester
from server.auth.roles import Role
from server.context import BODY_HASH, CALLER, POOL, SQL, STORAGE
from server.db import transaction
from server.errors import Invalid, Problem, RoleTooSmall, SuiteRunNotFound
from server.http import reply
from server.http.cursor import CursorPage, cursor_of, newest
from server.http.fields import (
    IndexedText,
    Instant,
    JsonObject,
    Moment,
    RequiredText,
    RunStatus,
    Tags,
    Text64,
    Text100,
    Text255,
    Text2000,
)
from server.http.idempotency import once
from server.http.patch import merge
from server.http.reply import Response
from server.ids import new_id, run_bucket
from server.removal import remove_files_now


class NewSuiteRun(Struct):
    name: RequiredText
    project: Text100 | None = None
    run_key: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    status: RunStatus | None = None
    environment: Text255 | None = None
    branch: IndexedText | None = None
    commit_sha: Text64 | None = None
    build_url: Text2000 | None = None
    browser: Text255 | None = None
    platform: Text255 | None = None
    triggered_by: Text255 | None = None
    tags: Tags | None = None
    metadata: JsonObject | None = None
    started_at: Instant | None = None


class SuiteRunPatch(Struct):
    name: RequiredText | UnsetType = UNSET
    status: RunStatus | UnsetType = UNSET
    environment: Text255 | None | UnsetType = UNSET
    branch: IndexedText | None | UnsetType = UNSET
    commit_sha: Text64 | None | UnsetType = UNSET
    build_url: Text2000 | None | UnsetType = UNSET
    browser: Text255 | None | UnsetType = UNSET
    platform: Text255 | None | UnsetType = UNSET
    triggered_by: Text255 | None | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    metadata: JsonObject | UnsetType = UNSET
    started_at: Instant | UnsetType = UNSET
    finished_at: Instant | None | UnsetType = UNSET


class SuiteRunFilter(CursorPage):
    status: RunStatus | None = None
    name: IndexedText | None = None
    branch: IndexedText | None = None
    environment: IndexedText | None = None
    tag: IndexedText | None = None
    since: Instant | None = None
    until: Instant | None = None


@dataclass(slots=True)
class TestCounts:
    total: int = 0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    pending: int = 0


@dataclass(slots=True)
class SuiteRun:
    id: UUID
    project: str
    run_key: str | None
    name: str
    status: RunStatus
    environment: str | None
    branch: str | None
    commit_sha: str | None
    build_url: str | None
    browser: str | None
    platform: str | None
    triggered_by: str | None
    tags: list[str]
    metadata: dict[str, Any]
    started_at: Moment
    finished_at: Moment | None
    created_at: Moment
    updated_at: Moment
    test_counts: TestCounts
    total_duration_ms: int


@dataclass(slots=True)
class SuiteRunPage:
    items: list[SuiteRun]
    next_cursor: str | None


async def create(request: web.Request, body: NewSuiteRun) -> Response:
    """Starts a suite run. With a `run_key` that the project has already, the same run comes back, unchanged."""
    sql = request.app[SQL].suite_runs
    # Before anything is sent again: who has the key may have had another role then, in another project.
    project_id = await _project_of(request, body.project)

    async def work(connection: Any) -> web.Response:
        columns = (
            body.run_key,
            body.name,
            body.status,
            body.environment,
            body.branch,
            body.commit_sha,
            body.build_url,
            body.browser,
            body.platform,
            body.triggered_by,
            body.tags,
            body.metadata,
            body.started_at,
        )
        made = known = None
        while known is None:  # again when the run that was there is removed before we have it
            run_id = new_id(run_bucket(project_id, body.run_key))
            made = await connection.fetchval(sql.create, run_id, project_id, *columns)
            known = made or await connection.fetchval(sql.by_key, project_id, body.run_key)
        if made:
            subject = Subject("suite_run", made, body.name, project_id)
            await note(connection, request.app[SQL], Action.SUITE_RUN_CREATED, requester(request), subject)
        return reply.json(201 if made else 200, await by_id(request, connection, known))

    return await once(request, work, lambda: request[BODY_HASH] + project_id.bytes)


async def index(request: web.Request, query: SuiteRunFilter) -> Response:
    """Suite runs, newest first, each with its test counts."""
    sql = request.app[SQL].suite_runs
    filters = query.status, query.name, query.branch, query.environment, query.tag, query.since, query.until
    projects = request[CALLER].projects()
    async with request.app[POOL].acquire() as connection:
        rows = await newest(connection, sql.page, projects, query.before, *filters, query.size + 1)
        items = await _counted(request, connection, rows[: query.size])
    next_cursor = cursor_of(items[-1].id) if len(rows) > query.size else None
    return reply.ok(SuiteRunPage(items, next_cursor))


async def show(request: web.Request, suite_id: UUID) -> Response:
    """One suite run, its test counts and their total duration."""
    async with request.app[POOL].acquire() as connection:
        return reply.ok(await by_id(request, connection, suite_id))


async def update(request: web.Request, suite_id: UUID, body: SuiteRunPatch) -> Response:
    """Changes the fields that are sent; `metadata` merges by key, null removes one (RFC 7396)."""
    async with transaction(request.app[POOL]) as connection:
        sql = request.app[SQL].suite_runs
        await merge(connection, sql.update, suite_id, request[CALLER].project_id, body, SuiteRunNotFound)
        return reply.ok(await by_id(request, connection, suite_id))


async def delete(request: web.Request, suite_id: UUID) -> Response:
    """Removes a suite run and everything below it, files too."""
    sql = request.app[SQL]
    async with transaction(request.app[POOL]) as connection:
        run = await connection.fetchrow(sql.suite_runs.lock, suite_id, request[CALLER].project_id)
        if run is None:
            raise SuiteRunNotFound()
        await connection.execute(sql.suite_runs.lock_cases, suite_id)
        await connection.execute(sql.artifacts.remove_of_run, suite_id)
        await connection.execute(sql.suite_runs.delete, suite_id)
        subject = Subject("suite_run", suite_id, run["name"], run["project_id"])
        await note(connection, sql, Action.SUITE_RUN_DELETED, requester(request), subject)
    await remove_files_now(request.app[POOL], sql, request.app[STORAGE])
    return reply.no_content()


async def _project_of(request: web.Request, name: str | None) -> UUID:
    """The project of a new run: the caller's; where he has several the one that is named, else `default`.

    From then on he is who he is in that project.
    """
    caller = request[CALLER]
    if caller.project_id is not None:
        if name is not None and name != caller.project:
            raise Invalid(Problem("project", f"must be {caller.project}, the project of this caller, or absent"))
        return caller.project_id
    found: UUID | None = await request.app[POOL].fetchval(request.app[SQL].projects.by_name, name or "default")
    there = caller.within(found) if found is not None else None
    if found is None or there is None:
        if caller.projects() is None:
            raise Invalid(Problem("project", "is unknown; a token made for a project creates it"))
        names = ", ".join(sorted(str(grant.project) for grant in caller.grants))
        raise Invalid(Problem("project", f"must be one of {names}"))
    if there.role < Role.UPLOADER:
        raise RoleTooSmall.of(there.role, Role.UPLOADER)
    request[CALLER] = there
    return found


async def by_id(request: web.Request, connection: Any, run_id: UUID) -> SuiteRun:
    """The whole run. Raises SuiteRunNotFound."""
    row = await connection.fetchrow(request.app[SQL].suite_runs.by_id, run_id, request[CALLER].project_id)
    if row is None:
        raise SuiteRunNotFound()
    return (await _counted(request, connection, [row]))[0]


async def _counted(request: web.Request, connection: Any, rows: list[Any]) -> list[SuiteRun]:
    counts = await connection.fetch(request.app[SQL].suite_runs.counts, [row["id"] for row in rows])
    by_run = {run_id: (TestCounts(*numbers), milliseconds) for run_id, *numbers, milliseconds in counts}
    runs = []
    for row in rows:
        test_counts, milliseconds = by_run.get(row["id"], (TestCounts(), 0))
        runs.append(SuiteRun(*[*row, test_counts, milliseconds]))
    return runs
