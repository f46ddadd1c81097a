"""Test case results in the database."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from msgspec import Struct

from server.background import aside
from server.database.queries import SQL
from server.database.rows import encode_many
from server.errors import CaseNotFound, SuiteRunNotFound
from server.ids import bucket_of, new_ids
from server.reports import grouping, listing
from server.reports.patch import merge
from server.reports.words import Moment, Status

_ROW = 500  # bytes; 10,000 results take 15 ms to make


@dataclass(slots=True)
class TestCase:
    id: UUID
    suite_run_id: UUID
    name: str
    test_id: str
    status: Status
    duration_ms: int | None
    attempt: int
    error_message: str | None
    error_type: str | None
    stack_trace: str | None
    browser: str | None
    tags: list[str]
    metadata: dict[str, Any]
    started_at: Moment | None
    completed_at: Moment | None
    created_at: Moment
    updated_at: Moment


@dataclass(slots=True)
class TestCasesCreated:
    created: int
    test_cases: list[TestCase]


@dataclass(slots=True)
class TestCasePage:
    total: int
    page: int
    per_page: int
    items: list[TestCase]


async def by_id(where: Any, case_id: UUID, scope: UUID | None) -> TestCase:
    """The test case result. Raises CaseNotFound."""
    row = await where.fetchrow(SQL.test_cases.by_id, case_id, scope)
    if row is None:
        raise CaseNotFound()
    return TestCase(*row)


async def of_run(
    connection: Any, run_id: UUID, scope: UUID | None, status: str | None, name: str | None, limit: int, offset: int
) -> tuple[int, Any]:
    """How many results of a run match, and a Listing of a page of TestCase, in the order of creation.

    Raises SuiteRunNotFound.
    """
    total = await connection.fetchval(SQL.test_cases.count_for_run, run_id, scope, status, name)
    if total is None:
        raise SuiteRunNotFound()
    fetch = listing.rows(SQL.test_cases.for_run, (run_id, status, name), TestCase, len(fields(TestCase)))
    return total, await listing.read(connection, fetch, (UUID(int=0),), total, limit, offset)


async def insert_many(
    connection: Any, run_id: UUID, scope: UUID | None, new: Sequence[grouping.SentResult]
) -> list[TestCase]:
    """Inserts results and returns them in the order sent. Raises SuiteRunNotFound."""
    groups = await grouping.of_results(new)
    fingerprints = [group and group.fingerprint for group in groups]
    # Checked even for an empty list: the run may have been deleted since it was looked up.
    if not await connection.fetchval(SQL.suite_runs.project_of, run_id, scope):
        raise SuiteRunNotFound()
    ids = new_ids(bucket_of(run_id), len(new))
    what = run_id, scope, ids, await encode_many(new), fingerprints
    rows = await connection.fetch(SQL.test_cases.insert_many, *what)
    if len(rows) != len(new):  # the run was deleted while the insert waited
        raise SuiteRunNotFound()
    if groups and (unknown := [row["id"] for row in rows if row["unknown_error"]]):
        await grouping.add(connection, unknown, groups)
    return await aside(_ROW * len(rows), _in_order, rows)


def _in_order(rows: Sequence[Any]) -> list[TestCase]:
    return sorted((TestCase(*row[:-1]) for row in rows), key=lambda case: case.id)


async def update(connection: Any, case_id: UUID, scope: UUID | None, patch: Struct) -> TestCase:
    """The result after a PATCH. Raises CaseNotFound, Invalid."""
    changes, group = await grouping.after_patch(connection, case_id, scope, patch)
    error = changes, group and group.fingerprint
    await merge(connection, SQL.test_cases.update, case_id, scope, patch, CaseNotFound, *error)
    await grouping.add(connection, [case_id], [group])
    return await by_id(connection, case_id, scope)


async def lock(connection: Any, case_id: UUID, scope: UUID | None) -> UUID:
    """Locks the row of a test case before rows below it are written. Returns its project. Raises CaseNotFound."""
    return _found(await connection.fetchval(SQL.test_cases.lock, case_id, scope))


async def touch(connection: Any, case_id: UUID, scope: UUID | None) -> UUID:
    """Like lock(), but with a new row version, which writers of steps and artifacts need; see sql/test_cases.sql."""
    return _found(await connection.fetchval(SQL.test_cases.touch, case_id, scope))


async def touch_or_lock(connection: Any, case_id: UUID, scope: UUID | None) -> tuple[UUID, bool]:
    """Like touch(), but only locks a failed result whose error its steps decide. Returns its project, and whether it
    was so: then grouping.refresh() must follow, which makes the new row version. Raises CaseNotFound."""
    touched = await connection.fetchval(SQL.test_cases.touch_decided, case_id, scope)
    return (touched, False) if touched is not None else (await lock(connection, case_id, scope), True)


def _found(project_id: UUID | None) -> UUID:
    if project_id is None:
        raise CaseNotFound()
    return project_id
