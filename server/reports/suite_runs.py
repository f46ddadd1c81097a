"""Suite runs in the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct

from server.database.queries import SQL
from server.database.rows import encode
from server.errors import SuiteRunNotFound
from server.ids import new_id, run_bucket
from server.observe.audit import Action, Actor, Subject, record
from server.reports.paging import newest
from server.reports.patch import merge
from server.reports.words import Moment, RunStatus
from server.storage.disk import Removal
from server.storage.removal import MOST_AT_ONCE


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


async def by_id(connection: Any, run_id: UUID, scope: UUID | None) -> SuiteRun:
    """The run with its test counts. Raises SuiteRunNotFound."""
    row = await connection.fetchrow(SQL.suite_runs.by_id, run_id, scope)
    if row is None:
        raise SuiteRunNotFound()
    return (await _with_counts(connection, [row]))[0]


async def by_ids(connection: Any, ids: Sequence[UUID], visible: Sequence[UUID] | None) -> list[SuiteRun]:
    """Those of the runs that exist in these projects (None: all)."""
    return await _with_counts(connection, await connection.fetch(SQL.suite_runs.by_ids, ids, visible))


async def page(
    connection: Any,
    projects: Sequence[UUID] | None,
    before: UUID | None,
    limit: int,
    *,
    status: str | None = None,
    name: str | None = None,
    branch: str | None = None,
    environment: str | None = None,
    tag: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    run_key: str | None = None,
) -> tuple[list[SuiteRun], bool]:
    """At most `limit` runs of these projects (None: all) with their test counts, newest first, and whether there are
    more. `before`: the last id of the previous page."""
    filters = (status, name, branch, environment, tag, since, until, run_key)
    rows = await newest(connection, SQL.suite_runs.page, projects, before, *filters, limit + 1)
    return await _with_counts(connection, rows[:limit]), len(rows) > limit


async def create(
    connection: Any, project_id: UUID, run_key: str | None, new: Struct, actor: Actor
) -> tuple[SuiteRun, bool]:
    """Creates a run, or finds the project's run with this `run_key`, unchanged. Returns it and whether it is new."""
    made = known = None
    while known is None:  # retry if the existing run is deleted before by_key locks it
        run_id = new_id(run_bucket(project_id, run_key))
        made = await connection.fetchval(SQL.suite_runs.create, run_id, project_id, encode(new))
        known = made or await connection.fetchval(SQL.suite_runs.by_key, project_id, run_key)
    run = await by_id(connection, known, project_id)
    if made:
        await record(connection, Action.SUITE_RUN_CREATED, actor, Subject("suite_run", made, run.name, project_id))
    return run, bool(made)


async def update(connection: Any, run_id: UUID, scope: UUID | None, patch: Struct) -> SuiteRun:
    """The run after a PATCH. Raises SuiteRunNotFound, Invalid."""
    await merge(connection, SQL.suite_runs.update, run_id, scope, patch, SuiteRunNotFound)
    return await by_id(connection, run_id, scope)


async def delete(connection: Any, run_id: UUID, scope: UUID | None, actor: Actor) -> list[Removal]:
    """Deletes a run and all data below it. Returns the first MOST_AT_ONCE files to unlink. Raises SuiteRunNotFound."""
    run = await connection.fetchrow(SQL.suite_runs.lock, run_id, scope)
    if run is None:
        raise SuiteRunNotFound()
    await connection.execute(SQL.suite_runs.lock_cases, run_id)
    files = await connection.fetch(SQL.artifacts.remove_of_run, run_id, MOST_AT_ONCE)
    await connection.execute(SQL.suite_runs.delete, run_id)
    subject = Subject("suite_run", run_id, run["name"], run["project_id"])
    await record(connection, Action.SUITE_RUN_DELETED, actor, subject)
    return [Removal(*row) for row in files]


async def _with_counts(connection: Any, rows: list[Any]) -> list[SuiteRun]:
    counts = await connection.fetch(SQL.suite_runs.counts, [row["id"] for row in rows])
    by_run = {run_id: (TestCounts(*numbers), milliseconds) for run_id, *numbers, milliseconds in counts}
    runs = []
    for row in rows:
        test_counts, milliseconds = by_run.get(row["id"], (TestCounts(), 0))
        runs.append(SuiteRun(*[*row, test_counts, milliseconds]))
    return runs
