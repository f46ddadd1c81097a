"""Tests across runs. A test is a `test_id` in a project; there is no table of tests, only results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from server.database.queries import SQL
from server.errors import TestNotFound
from server.reports.words import Moment, Status

RECENT = 100  # results that are summed up
_SEARCHED = 500  # results whose errors, and whose values for filters, are listed
_ERRORS = 20


@dataclass(slots=True)
class HistoryEntry:
    """A result with facts of its run; `started_at` is the run's."""

    id: UUID
    suite_run_id: UUID
    suite_run_name: str
    test_id: str
    name: str
    status: Status
    duration_ms: int | None
    attempt: int
    browser: str | None
    error_fingerprint: str | None
    branch: str | None
    commit_sha: str | None
    environment: str | None
    build_url: str | None
    started_at: Moment


@dataclass(slots=True)
class HistorySummary:
    """Of the newest 100 results."""

    results: int
    passed: int
    failed: int
    skipped: int
    pending: int
    median_ms: int | None
    p95_ms: int | None


@dataclass(slots=True)
class TestHistory:
    test_id: str
    name: str
    summary: HistorySummary
    items: list[HistoryEntry]
    next_cursor: str | None


@dataclass(slots=True)
class TestError:
    """An error of a test: the beginning of a sample, how many of its newest 500 results have it, and the newest."""

    fingerprint: str
    error_type: str | None
    sample: str
    results: int
    last_id: UUID


@dataclass(slots=True)
class Known:
    """What a history can be filtered by: values of the newest 500 results, sorted."""

    branches: list[str]
    browsers: list[str]
    environments: list[str]


async def name_of(connection: Any, project_id: UUID, test_id: str) -> str:
    """The name that the test has in its newest result. Raises TestNotFound."""
    name: str | None = await connection.fetchval(SQL.tests.latest, project_id, test_id)
    if name is None:
        raise TestNotFound()
    return name


async def history(
    connection: Any, project_id: UUID, test_id: str, filters: Sequence[str | None], before: UUID | None, limit: int
) -> tuple[list[HistoryEntry], bool]:
    """At most `limit` results of a test, newest first, and whether there are more. `filters`: branch, browser,
    environment. `before`: the last id of the previous page."""
    rows = await connection.fetch(SQL.tests.history, project_id, test_id, *filters, before, limit + 1)
    return [HistoryEntry(*row) for row in rows[:limit]], len(rows) > limit


async def summary(connection: Any, project_id: UUID, test_id: str, filters: Sequence[str | None]) -> HistorySummary:
    """Counts and durations of the newest 100 results that match; see history()."""
    return HistorySummary(*await connection.fetchrow(SQL.tests.summary, project_id, test_id, *filters, RECENT))


async def errors(connection: Any, project_id: UUID, test_id: str, filters: Sequence[str | None]) -> list[TestError]:
    """At most 20 errors of the newest 500 results that match, the most frequent first; see history()."""
    rows = await connection.fetch(SQL.tests.errors, project_id, test_id, *filters, _SEARCHED, _ERRORS)
    return [TestError(*row) for row in rows]


async def known(connection: Any, project_id: UUID, test_id: str) -> Known:
    """What the history of a test can be filtered by."""
    row = await connection.fetchrow(SQL.tests.known, project_id, test_id, _SEARCHED)
    return Known(*(sorted(value for value in values or () if value) for values in row))
