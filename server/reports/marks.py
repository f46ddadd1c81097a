"""Marks on tests: flaky, new, failing since, slower; read for many tests at once. The rules are in compare/marks.py."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from server.background import aside
from server.compare import marks
from server.compare.marks import Attempt
from server.compare.runs import Outcome
from server.database.queries import SQL
from server.database.reads import Reads
from server.ids import first_id, time_of
from server.reports import run_comparisons
from server.reports.run_comparisons import MAX_TESTS, ComparedRun
from server.reports.tests import HistoryEntry
from server.reports.words import Status

MAX_MARKED = 100  # tests of a run whose history is read
DEPTH = 150  # results of a test that are read
MAX_FAILURES = 5_000  # of a project in 30 days, the newest, among which flaky tests are looked for
_EVIDENCE = 20


@dataclass(slots=True)
class FlakyPair:
    failed_id: UUID
    passed_id: UUID
    commit_sha: str | None


@dataclass(slots=True)
class FlakyMark:
    commits: int
    of: int
    evidence: list[FlakyPair]


@dataclass(slots=True)
class SinceMark:
    """The first of `failures` in a row. `at_least`: all results that were read failed, so there may be earlier ones."""

    test_case_result_id: UUID
    suite_run_id: UUID
    commit_sha: str | None
    failures: int
    at_least: bool


@dataclass(slots=True)
class SlowerMark:
    now_ms: int
    before_ms: int


@dataclass(slots=True)
class Marks:
    """The marks of one test and browser. `flaky` and `slower` are None when the test is not."""

    new: bool = False
    failing_since: SinceMark | None = None
    flaky_here: bool = False
    flaky: FlakyMark | None = None
    slower: SlowerMark | None = None


@dataclass(slots=True)
class MarkedTest:
    test_case_result_id: UUID
    test_id: str
    browser: str | None
    name: str
    status: Status
    marks: Marks


@dataclass(slots=True)
class RunMarks:
    suite_run_id: UUID
    previous_run_id: UUID | None
    tests: list[MarkedTest]
    limited: list[str]


async def of_run(reads: Reads, run_id: UUID, scope: UUID | None) -> RunMarks:
    """The tests of a run that have a mark, as of this run; those that failed first. Raises SuiteRunNotFound."""
    async with (
        reads.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        run = await run_comparisons.by_id(connection, run_id, scope)
        tests = await run_comparisons.tests(connection, run.id, MAX_TESTS + 1)
        before = await run_comparisons.previous(connection, run)
        wanted = await _wanted(connection, run.project_id, tests[:MAX_TESTS], _last(tests)) if tests else []
        found = await for_tests(connection, run, before, wanted)
    marked = [_marked(test, mark) for test, mark in zip(wanted, found, strict=True) if mark != Marks()]
    limits = {"tests": len(tests) > MAX_TESTS, "marked": len(wanted) > MAX_MARKED}
    return RunMarks(run.id, before.id if before else None, marked, [name for name, over in limits.items() if over])


async def _wanted(where: Any, project_id: UUID, tests: Sequence[Outcome], until: UUID) -> list[Outcome]:
    """The tests that may have a mark, those that failed first, then by `test_id`. Of those that neither failed nor are
    flaky here, no more than have their history read."""
    others = list({test.test_id for test in tests if test.status != "Failed" and not test.flaky_here})
    shaky = await flaky_tests(where, project_id, until, others, MAX_MARKED + 1) if others else set()
    wanted = [test for test in tests if test.status == "Failed" or test.flaky_here or test.test_id in shaky]
    return sorted(wanted, key=lambda test: (test.status != "Failed", test.test_id))


async def for_tests(
    where: Any, run: ComparedRun, previous: ComparedRun | None, tests: Sequence[Outcome]
) -> list[Marks]:
    """The marks of these results of a run, as of this run, read with one statement however many they are.

    `previous` is run_comparisons.previous(). Only 100 histories are read; other tests have `flaky_here` alone.
    """
    if not tests:
        return []
    known = await histories(where, run.project_id, {test.test_id for test in tests[:MAX_MARKED]}, _last(tests))
    previous_id = previous.id if previous else None

    def marked() -> list[Marks]:
        return [_marks(run, test, previous_id, known.get(test.test_id, [])) for test in tests]

    return await aside(1_000 * sum(map(len, known.values())), marked)


async def of_result(reads: Reads, run_id: UUID, test: Outcome) -> Marks:
    """The marks of one result of a run, as of this run. Raises SuiteRunNotFound."""
    async with (
        reads.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        run = await run_comparisons.by_id(connection, run_id, None)
        (found,) = await for_tests(connection, run, await run_comparisons.previous(connection, run), [test])
    return found


async def of_newest(where: Any, history: Sequence[HistoryEntry]) -> list[tuple[HistoryEntry, Marks]]:
    """The newest results of a test, one for each browser of its newest run in `history`, with their marks.

    `history` has results of one test, newest first.
    """
    if not history:
        return []
    same = [each for each in history if each.suite_run_id == history[0].suite_run_id]
    last: dict[str | None, HistoryEntry] = {}
    for each in sorted(same, key=lambda each: (each.attempt, each.id)):
        last[each.browser] = each
    shaky = {each.browser for each in same if each.status == "Failed"}
    tests = [
        Outcome(each.id, each.test_id, browser, each.name, each.status, each.duration_ms,
                flaky_here=each.status == "Passed" and browser in shaky)
        for browser, each in last.items()
    ]  # fmt: skip
    run = await run_comparisons.by_id(where, history[0].suite_run_id, None)
    previous = await run_comparisons.previous(where, run)
    return list(zip(last.values(), await for_tests(where, run, previous, tests), strict=True))


async def flaky_tests(
    where: Any, project_id: UUID, until: UUID, among: Sequence[str] | None = None, most: int | None = None
) -> set[str]:
    """The `test_id`s that may be flaky as of result `until`: compare/marks.py then decides. Among the newest 5,000
    failures of the last 30 days; the first `most` (None: all) of those in `among` (None: of all)."""
    places = project_id, looked_at_since(time_of(until)), until, MAX_FAILURES
    return {row["test_id"] for row in await where.fetch(SQL.marks.flaky_tests, *places, among, most)}


def looked_at_since(now: datetime) -> UUID:
    """Results before this one are too old for the mark `flaky`."""
    return first_id(now - timedelta(days=marks.DAYS))


async def histories(where: Any, project_id: UUID, tests: Iterable[str], until: UUID) -> dict[str, list[Attempt]]:
    """The newest 150 results of each of these tests, by `test_id`, up to result `until`."""
    wanted = sorted(tests)
    rows = await where.fetch(SQL.marks.histories, project_id, wanted, until, DEPTH)
    ran = await where.fetch(SQL.marks.runs, list({row["suite_run_id"] for row in rows})) if rows else []

    def attempts() -> dict[str, list[Attempt]]:
        runs = {run_id: facts for run_id, *facts in ran}
        found: list[list[Attempt]] = [[] for _ in wanted]
        for number, result_id, run_id, status, attempt, browser, duration in rows:
            if run_id in runs:  # else it was deleted meanwhile
                name, branch, commit = runs[run_id]
                ran_as = status, attempt, browser, name, branch, commit, duration
                found[number - 1].append(Attempt(result_id, run_id, *ran_as))
        return dict(zip(wanted, found, strict=True))

    return await aside(500 * len(rows), attempts)


def _last(tests: Collection[Outcome]) -> UUID:
    last: UUID = max(test.id for test in tests)
    return last


def _marked(test: Outcome, found: Marks) -> MarkedTest:
    status: Any = test.status
    return MarkedTest(test.id, test.test_id, test.browser, test.name, status, found)


def _marks(run: ComparedRun, test: Outcome, previous_id: UUID | None, history: list[Attempt]) -> Marks:
    found = Marks(flaky_here=test.flaky_here)
    if not history:
        return found
    like = Attempt(test.id, run.id, test.status, 1, test.browser, run.name, run.branch)
    series = marks.of_series(history, like)
    if series and series[-1].run == run.id:
        found.new = marks.new(series, previous_id)
        if since := marks.failing_since(series):
            first, failures = since
            at_least = len(history) >= DEPTH and first is series[0]
            found.failing_since = SinceMark(first.id, first.run, first.commit, failures, at_least)
        if slower := marks.slower(series):
            found.slower = SlowerMark(round(slower.now), round(slower.before))
    mine = [each for each in history if each.browser == test.browser]
    if flaky := marks.flaky(mine, looked_at_since(time_of(test.id))):
        pairs = [FlakyPair(failed.id, passed.id, failed.commit) for failed, passed in flaky.evidence[:_EVIDENCE]]
        found.flaky = FlakyMark(flaky.commits, flaky.of, pairs)
    return found
