"""Errors in the database: groups of failures whose text is the same. server/reports/grouping.py writes them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from server.database.queries import SQL
from server.errors import ErrorNotFound, SuiteRunNotFound
from server.ids import first_id
from server.reports.paging import newest
from server.reports.tests import HistoryEntry
from server.reports.words import Moment

DAYS = 90  # that a detail counts
_COUNTED = 10_000  # results at most that it counts by day and by test
_TESTS = 100
_NEWEST = 50
_TESTS_OF_GROUP = 20  # of each error of a run
_ROWS_OF_RUN = 2_000


@dataclass(slots=True)
class Seen:
    """A result with an error, and facts of its run."""

    test_case_result_id: UUID
    suite_run_id: UUID
    branch: str | None
    commit_sha: str | None
    started_at: Moment


@dataclass(slots=True)
class ErrorGroup:
    """An error. `sample` is the text of its first failure, at most 2,000 characters; `results` counts its failures."""

    project: str
    fingerprint: str
    error_type: str | None
    stable_text: str
    sample: str
    results: int
    first_seen: Seen
    last_seen: Seen


@dataclass(slots=True)
class ErrorPage:
    items: list[ErrorGroup]
    next_cursor: str | None


@dataclass(slots=True)
class ErrorDay:
    """A day in UTC, like 2026-01-24."""

    day: str
    results: int


@dataclass(slots=True)
class ErrorTest:
    test_id: str
    name: str
    results: int


@dataclass(slots=True)
class ErrorDetail(ErrorGroup):
    """An error with its `days` and `tests` of the last 90 days, and its newest 50 results."""

    days: list[ErrorDay]
    tests: list[ErrorTest]
    newest: list[HistoryEntry]


@dataclass(slots=True)
class FailedTest:
    """The last attempt of a test in a run."""

    id: UUID
    test_id: str
    name: str
    duration_ms: int | None
    attempt: int
    browser: str | None


@dataclass(slots=True)
class RunError:
    """The failed tests of a run that have the same error, at most 20 of them; `tests` counts all. `error` is null for
    failures that nothing explains."""

    error: ErrorGroup | None
    tests: int
    results: list[FailedTest]


@dataclass(slots=True)
class RunErrors:
    suite_run_id: UUID
    failed_tests: int
    groups: list[RunError]
    truncated: bool


async def page(
    connection: Any, projects: Sequence[UUID] | None, before: UUID | None, limit: int, since: datetime | None = None
) -> tuple[list[ErrorGroup], UUID | None]:
    """At most `limit` errors of these projects (None: all), the one that was seen last first; and the id to pass as
    `before` for the next page, None at the end."""
    rows = await newest(connection, SQL.errors.page, projects, before, since and first_id(since), limit + 1)
    keys = [(row["project_id"], row["fingerprint"]) for row in rows[:limit]]
    return await facts(connection, keys), rows[limit - 1]["id"] if len(rows) > limit else None


async def facts(connection: Any, keys: Iterable[tuple[UUID, bytes]]) -> list[ErrorGroup]:
    """The errors with these projects and fingerprints, in this order; without those that no result has any more."""
    keys = list(keys)
    columns = [project_id for project_id, _ in keys], [fingerprint for _, fingerprint in keys]
    rows = await connection.fetch(SQL.errors.facts, *columns) if keys else []
    return [ErrorGroup(*[*row[:6], Seen(*row[6:11]), Seen(*row[11:16])]) for row in rows]


async def by_fingerprint(connection: Any, project_id: UUID, fingerprint: bytes) -> ErrorDetail:
    """An error of a project in detail. Raises ErrorNotFound."""
    found = await facts(connection, [(project_id, fingerprint)])
    if not found:
        raise ErrorNotFound()
    counted = project_id, fingerprint, first_id(datetime.now(UTC) - timedelta(days=DAYS)), _COUNTED
    days = await connection.fetch(SQL.errors.days, *counted)
    tests = await connection.fetch(SQL.errors.tests, *counted, _TESTS)
    results = await connection.fetch(SQL.errors.results, project_id, fingerprint, _NEWEST)
    return ErrorDetail(
        **{name: getattr(found[0], name) for name in ErrorGroup.__slots__},
        days=[ErrorDay(*row) for row in days],
        tests=[ErrorTest(*row) for row in tests],
        newest=[HistoryEntry(*row) for row in results],
    )


async def of_run(connection: Any, run_id: UUID, scope: UUID | None) -> RunErrors:
    """The failed tests of a run by error, the error of most tests first. Raises SuiteRunNotFound."""
    rows = await connection.fetch(SQL.errors.of_run, run_id, scope, _TESTS_OF_GROUP, _ROWS_OF_RUN)
    if not rows and await connection.fetchval(SQL.suite_runs.project_of, run_id, scope) is None:
        raise SuiteRunNotFound()
    groups: dict[bytes | None, RunError] = {}
    for _, fingerprint, tests, _, *columns in rows:
        group = groups.setdefault(fingerprint, RunError(None, tests, []))
        group.results.append(FailedTest(*columns))
    keys = [(rows[0]["project_id"], fingerprint) for fingerprint in groups if fingerprint is not None]
    for error in await facts(connection, keys):
        groups[bytes.fromhex(error.fingerprint)].error = error
    failed = rows[0]["failed_tests"] if rows else 0
    return RunErrors(run_id, failed, list(groups.values()), len(rows) == _ROWS_OF_RUN)
