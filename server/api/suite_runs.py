"""Suite runs: one run of a test suite, which parallel shards share by its `run_key`."""

from typing import Annotated, Any
from uuid import UUID

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from server.http import reply
from server.http.cursor import CursorPage, cursor_of
from server.http.fields import (
    AnyRunStatus,
    Commit,
    IndexedText,
    Instant,
    JsonObject,
    Name100,
    RequiredText,
    Tags,
    Text255,
    Text2000,
)
from server.http.idempotency import once
from server.http.projects import named_project
from server.http.reply import Response
from server.reports import suite_runs, webhooks
from server.reports.suite_runs import SuiteRunPage
from server.services import CALL, SERVICES


class NewSuiteRun(Struct, omit_defaults=True):
    name: RequiredText
    project: Name100 | None = None
    run_key: Annotated[str, Meta(min_length=1, max_length=500)] | None = None
    status: AnyRunStatus | None = None
    environment: Text255 | None = None
    branch: IndexedText | None = None
    commit_sha: Commit | None = None
    build_url: Text2000 | None = None
    browser: Text255 | None = None
    platform: Text255 | None = None
    triggered_by: Text255 | None = None
    tags: Tags | None = None
    metadata: JsonObject | None = None
    started_at: Instant | None = None


class SuiteRunPatch(Struct):
    name: RequiredText | UnsetType = UNSET
    status: AnyRunStatus | UnsetType = UNSET
    environment: Text255 | None | UnsetType = UNSET
    branch: IndexedText | None | UnsetType = UNSET
    commit_sha: Commit | None | UnsetType = UNSET
    build_url: Text2000 | None | UnsetType = UNSET
    browser: Text255 | None | UnsetType = UNSET
    platform: Text255 | None | UnsetType = UNSET
    triggered_by: Text255 | None | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    metadata: JsonObject | UnsetType = UNSET
    started_at: Instant | UnsetType = UNSET
    finished_at: Instant | None | UnsetType = UNSET


class SuiteRunFilter(CursorPage):
    status: AnyRunStatus | None = None
    name: IndexedText | None = None
    branch: IndexedText | None = None
    environment: IndexedText | None = None
    tag: IndexedText | None = None
    since: Instant | None = None
    until: Instant | None = None
    run_key: IndexedText | None = None


async def create(request: web.Request, body: NewSuiteRun) -> Response:
    """Creates a suite run, or returns the project's run with the same `run_key`, unchanged.

    Parallel shards of a build send the same `run_key` and so share one run: the first request creates it (201), later
    requests get it as it is (200). The run belongs to the caller's project. A caller with several projects names one in
    `project`; without it, the project is `default`. `status` is `Running` unless it is sent.
    """
    call = request[CALL]
    # Checked before a reply is replayed: since the first request, the caller's project or role may have changed.
    project_id = await named_project(request, body.project)

    async def work(connection: Any) -> web.Response:
        run, is_new = await suite_runs.create(connection, project_id, body.run_key, body, call.actor())
        return reply.json(201 if is_new else 200, run)

    return await once(request, work, lambda: call.body_hash + project_id.bytes)


async def index(request: web.Request, query: SuiteRunFilter) -> Response:
    """Lists suite runs, newest first, each with its test counts.

    `name`, `branch`, `environment`, `tag` and `run_key` must match exactly; a `run_key` is that of at most one run of a
    project. `since` (inclusive) and `until` (exclusive) apply to
    `started_at`. `limit` is 100 by default and at most 500; `next_cursor` of the reply is the `cursor` of the next
    page.
    """
    async with request[CALL].reads.acquire() as connection:
        items, more = await suite_runs.page(
            connection,
            request[CALL].known_caller.projects(),
            query.before,
            query.size,
            status=query.status,
            name=query.name,
            branch=query.branch,
            environment=query.environment,
            tag=query.tag,
            since=query.since,
            until=query.until,
            run_key=query.run_key,
        )
    return reply.ok(SuiteRunPage(items, cursor_of(items[-1].id) if more else None))


async def show(request: web.Request, suite_id: UUID) -> Response:
    """Shows a suite run with its test counts and the sum of the durations of its test cases."""
    async with request.app[SERVICES].pool.acquire() as connection:
        return reply.ok(await suite_runs.by_id(connection, suite_id, request[CALL].scope))


async def update(request: web.Request, suite_id: UUID, body: SuiteRunPatch) -> Response:
    """Changes fields of a suite run.

    Fields that are not sent stay as they are; `null` clears a field that may be empty. `metadata` is merged: its
    top-level keys replace the stored ones, and `null` removes a key.
    """
    services, scope = request.app[SERVICES], request[CALL].scope
    async with services.pool.transaction() as connection:
        before = await webhooks.status_before(connection, services.config.webhooks, suite_id, scope, body.status)
        run = await suite_runs.update(connection, suite_id, scope, body)
        await webhooks.after_update(connection, services.config, before, run)
        return reply.ok(run)


async def delete(request: web.Request, suite_id: UUID) -> Response:
    """Deletes a suite run and everything in it, including the files of its artifacts.

    Up to 2,000 files are removed before the reply, the rest in the background.
    """
    services, call = request.app[SERVICES], request[CALL]
    async with services.pool.transaction() as connection:
        files = await suite_runs.delete(connection, suite_id, call.scope, call.actor())
    await services.removals.of_delete(services.pool, files)
    return reply.no_content()
