"""Tests across runs. A test is a `test_id` in a project; there is no table of tests, only results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from server.database.queries import SQL
from server.errors import TestNotFound
from server.reports.words import Moment, Status

_SUMMED = 100


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
    return HistorySummary(*await connection.fetchrow(SQL.tests.summary, project_id, test_id, *filters, _SUMMED))
