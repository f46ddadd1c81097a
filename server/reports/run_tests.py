"""The tests of suite runs: counts, failures by error, pages of them. A test counts by its last attempt in the run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal
from uuid import UUID

from server.compare.runs import Outcome
from server.database.queries import SQL
from server.reports import marks, run_comparisons
from server.reports.marks import Marks
from server.reports.run_comparisons import ComparedRun

MAX_FAILURES = 2_000  # of a run that are grouped by their error
State = Literal["Failed", "Flaky", "Passed", "Skipped", "Pending"]


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of tests. `total` is the sum of the next five, `results` is how many attempts they had."""

    total: int = 0
    failed: int = 0
    flaky: int = 0
    passed: int = 0
    skipped: int = 0
    pending: int = 0
    results: int = 0
    total_duration_ms: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A test whose last attempt failed, and what it says about it."""

    id: UUID
    suite_run_id: UUID
    name: str
    test_id: str
    browser: str | None
    duration_ms: int | None
    attempt: int
    error_type: str | None
    error: str | None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class FailedStep:
    """The first failed step of a result, None when no step failed; and the id of an image, None without one."""

    iteration_number: int | None
    step_number: int | None
    title: str | None
    picture: UUID | None


@dataclass(frozen=True, slots=True)
class Group:
    """Tests that failed with the same error. `key` names it in addresses: its fingerprint, if it has one."""

    key: str
    error_type: str | None
    error: str | None
    tests: Sequence[Failure]


@dataclass(frozen=True, slots=True)
class Test:
    """A test of a run, by its last attempt. `rank` and `id` are the place in the list."""

    id: UUID
    name: str
    test_id: str
    status: str
    browser: str | None
    duration_ms: int | None
    attempt: int
    flaky: bool
    rank: int
    error_type: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Against:
    """How a run differs from an earlier one, in numbers of tests."""

    base: ComparedRun
    new_failures: int
    fixed: int


@dataclass(frozen=True, slots=True)
class Slow:
    id: UUID
    name: str
    duration_ms: int


async def counts(connection: Any, runs: Sequence[UUID]) -> dict[UUID, Counts]:
    """The counts of each of the runs that has results."""
    rows = await connection.fetch(SQL.test_cases.test_counts, runs)
    return {run_id: Counts(*numbers) for run_id, *numbers in rows}


async def failing(connection: Any, runs: Sequence[UUID], most: int = MAX_FAILURES) -> list[Failure]:
    """The failed tests of the runs, at most `most` of each, in the order of creation."""
    return [Failure(*row) for row in await connection.fetch(SQL.test_cases.failing, runs, most)]


async def failed_steps(connection: Any, results: Sequence[UUID]) -> dict[UUID, FailedStep]:
    """The first failed step of each of these results, with its picture."""
    rows = await connection.fetch(SQL.steps.failed_first, results) if results else []
    return {case_id: FailedStep(*columns) for case_id, *columns in rows}


async def page(
    connection: Any,
    run_id: UUID,
    limit: int,
    *,
    state: State | None = None,
    name: str | None = None,
    tag: str | None = None,
    after: tuple[int, UUID] | None = None,
) -> tuple[list[Test], bool]:
    """At most `limit` tests of a run, failed ones first, and whether there are more.

    `name` is a part of it; `after` are the rank and id of the previous page's last test.
    """
    rows = await connection.fetch(SQL.test_cases.tests, run_id, state, name, tag, *(after or (None, None)), limit + 1)
    return [Test(*row) for row in rows[:limit]], len(rows) > limit


async def with_error(
    connection: Any, run_id: UUID, key: str, limit: int, after: tuple[int, UUID] | None
) -> tuple[list[Test], bool]:
    """As page(), of the failed tests in the group with this `key`."""
    groups = by_error(await failing(connection, [run_id]))
    tests = next((group.tests for group in groups if group.key == key), [])
    later = [each for each in tests if after is None or (0, each.id) > after]
    return [_as_test(each) for each in later[:limit]], len(later) > limit


async def slowest(connection: Any, run_id: UUID, most: int) -> list[Slow]:
    """The results of a run that took longest."""
    return [Slow(*row) for row in await connection.fetch(SQL.test_cases.slowest, run_id, most)]


async def marks_of(connection: Any, run: ComparedRun, failures: Sequence[Failure]) -> dict[UUID, Marks]:
    """The marks of these failed tests of a run, by the id of the result."""
    outcomes = [
        Outcome(each.id, each.test_id, each.browser, each.name, "Failed", each.duration_ms) for each in failures
    ]
    found = await marks.for_tests(connection, run, await run_comparisons.previous(connection, run), outcomes)
    return dict(zip([each.id for each in failures], found, strict=True))


async def against_previous(connection: Any, run: ComparedRun) -> Against | None:
    """What changed since the previous run of the same name and branch; None when there is none."""
    base = await run_comparisons.previous(connection, run)
    if base is None:
        return None
    return Against(base, *await connection.fetchrow(SQL.suite_runs.against, run.id, base.id))


def by_error(failures: Iterable[Failure]) -> list[Group]:
    """The failures by error, the largest group first."""
    groups: dict[str, list[Failure]] = {}
    for failure in failures:
        groups.setdefault(_key(failure), []).append(failure)
    found = [Group(key, tests[0].error_type, tests[0].error, tests) for key, tests in groups.items()]
    return sorted(found, key=lambda group: (-len(group.tests), group.key))


def _key(failure: Failure) -> str:
    if failure.fingerprint is not None:
        return failure.fingerprint
    # Nothing explains it, or `reportd regroup` has not come to it.
    line = (failure.error or "").strip().partition("\n")[0]
    return blake2b(repr((failure.error_type, line)).encode(), digest_size=8).hexdigest()


def _as_test(failure: Failure) -> Test:
    who = failure.id, failure.name, failure.test_id
    what = failure.browser, failure.duration_ms, failure.attempt
    return Test(*who, "Failed", *what, False, 0, failure.error_type, failure.error)
