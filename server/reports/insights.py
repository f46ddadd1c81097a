"""What the results of a project show together: flaky and slow tests, fragile selectors, and the trend of its runs.

Everything is read when somebody looks, over a bounded number of runs; only selectors are counted once and kept.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from server.background import aside
from server.compare import marks as rules
from server.compare.marks import Attempt
from server.database.queries import SQL
from server.database.reads import Reads
from server.ids import first_id
from server.reports import marks, run_tests
from server.reports.marks import FlakyMark
from server.reports.words import Moment, Status

Show = Literal["flaky", "selectors", "slow", "trends"]
_RUNS = 50  # that are looked at, the newest
_DAILY_RUNS = 200  # for the trend, which needs only counts
_LOOKED_AT = 400  # runs among which these are, with those that started too early
_AT_ONCE = 10  # runs whose selectors are counted for one request
_SECONDS = 0.5  # after which no further run is counted for it
_STEPS = 200_000  # of a run
_SELECTORS = 5_000  # of a run that are kept
_RESULTS = 50_000  # for slow tests
LISTED = 50
_PAIRS = 5  # of a flaky test
_SLOWER = 1.5  # times as long, and
_SLOWER_BY = 1_000  # ms longer: as of marks

sql = SQL.insights


@dataclass(frozen=True, slots=True)
class Run:
    id: UUID
    name: str
    branch: str | None
    commit_sha: str | None
    started_at: datetime


@dataclass(slots=True)
class FlakyTest:
    """A flaky test with one browser. `status` and `test_case_result_id` are those of its newest result."""

    test_id: str
    name: str
    browser: str | None
    status: Status
    test_case_result_id: UUID
    flaky: FlakyMark


@dataclass(slots=True)
class SlowTest:
    """A test by its results that passed. `now_ms` is the median of the newest 5, `before_ms` of up to 30 before them;
    `slower`: 1.5 times as long, and more than a second longer."""

    test_id: str
    name: str
    status: Status
    test_case_result_id: UUID
    results: int
    median_ms: int
    p95_ms: int
    total_ms: int
    now_ms: int | None
    before_ms: int | None
    slower: bool


@dataclass(slots=True)
class FragileSelector:
    """`tests`: in how many it failed; `now_ms`, `before_ms`: the mean of a use in the newest 10 runs, in the others."""

    selector: str
    element_name: str | None
    used: int
    failed: int
    tests: int
    now_ms: int | None
    before_ms: int | None
    test_case_result_id: UUID | None


@dataclass(slots=True)
class ChangedSelector:
    """An element with another selector than before, since this run."""

    element_name: str
    selector: str
    before: str
    suite_run_id: UUID
    commit_sha: str | None
    started_at: Moment


@dataclass(slots=True)
class Selectors:
    """`counted` of `runs` have been counted; each request counts up to 10 more."""

    runs: int
    counted: int
    fragile: list[FragileSelector]
    changed: list[ChangedSelector]


@dataclass(slots=True)
class Day:
    """The runs that started on a day (UTC), and their tests by the last attempt. `duration_ms`: of all results."""

    day: str
    runs: int
    failed_runs: int
    failed: int
    flaky: int
    passed: int
    duration_ms: int


@dataclass(slots=True)
class Insights:
    """Of what was asked for; the other three are null. `limited`: there is more than was looked at."""

    project: str
    days: int
    flaky: list[FlakyTest] | None = None
    selectors: Selectors | None = None
    slow: list[SlowTest] | None = None
    trends: list[Day] | None = None
    limited: bool = False


def place(show: Show, primary: Reads, reads: Reads) -> Reads:
    """Where find() must read: selectors are counted when they are first asked for, and a standby cannot store that."""
    return primary if show == "selectors" else reads


async def find(
    connection: Any, project: tuple[UUID, str], show: Show, days: int, text: str | None, now: datetime
) -> Insights:
    """What a project (id and name) shows. `text`: for selectors, all that contain it, also those that never failed."""
    project_id, name = project
    found = Insights(name, days)
    if show == "flaky":
        found.flaky, found.limited = await _flaky(connection, project_id, now)
        return found
    most = _DAILY_RUNS if show == "trends" else _RUNS
    since = now - timedelta(days=days)
    rows = [Run(*row) for row in await connection.fetch(sql.runs, project_id, since, _LOOKED_AT)]
    runs, found.limited = rows[:most], len(rows) > most
    if show == "selectors":
        found.selectors = await _selectors(connection, runs, text)
    elif show == "slow":
        found.slow, more = await _slow(connection, project_id, runs)
        found.limited = found.limited or more
    else:
        found.trends = await _trends(connection, runs, now, days)
    return found


async def _flaky(connection: Any, project_id: UUID, now: datetime) -> tuple[list[FlakyTest], bool]:
    """The flaky tests of the last 30 days, those first that are so on most commits; and whether there may be more."""
    until = first_id(now + timedelta(hours=1))
    wanted = sorted(await marks.flaky_tests(connection, project_id, until, most=marks.MAX_MARKED + 1))
    shown = wanted[: marks.MAX_MARKED]
    histories = await marks.histories(connection, project_id, shown, until)
    newest = await _newest(connection, project_id, shown)

    def marked() -> list[FlakyTest]:
        found = []
        for test_id, history in histories.items():
            for browser in sorted({each.browser for each in history}, key=str):
                mark = _mark([each for each in history if each.browser == browser], now)
                if mark is not None and test_id in newest:
                    name, case_id, status = newest[test_id]
                    found.append(FlakyTest(test_id, name, browser, status, case_id, mark))
        return sorted(found, key=lambda each: (-each.flaky.commits, each.test_id))

    return await aside(1_000 * sum(map(len, histories.values())), marked), len(wanted) > len(shown)


def _mark(history: Sequence[Attempt], now: datetime) -> FlakyMark | None:
    found = rules.flaky(history, marks.looked_at_since(now))
    if found is None:
        return None
    pairs = [marks.FlakyPair(failed.id, passed.id, failed.commit) for failed, passed in found.evidence[:_PAIRS]]
    return FlakyMark(found.commits, found.of, pairs)


async def _newest(connection: Any, project_id: UUID, tests: Sequence[str]) -> dict[str, tuple[str, UUID, Status]]:
    """Name, id and status of the newest result of each test."""
    rows = await connection.fetch(sql.newest_of_tests, project_id, tests)
    return {test_id: (name, case_id, status) for test_id, name, case_id, status in rows}


async def _slow(connection: Any, project_id: UUID, runs: Sequence[Run]) -> tuple[list[SlowTest], bool]:
    rows = await connection.fetch(sql.slow, [run.id for run in runs], _RESULTS, LISTED)
    newest = await _newest(connection, project_id, [row["test_id"] for row in rows])
    found = []
    for row in rows:
        test_id, count, median, p95, total, last, before, _ = row
        slower = None not in (last, before) and last > _SLOWER * before and last - before > _SLOWER_BY
        name, case_id, status = newest[test_id]
        found.append(SlowTest(test_id, name, status, case_id, count, median, p95, total, last, before, slower))
    return found, bool(rows) and rows[0]["read"] >= _RESULTS


async def _selectors(connection: Any, runs: Sequence[Run], text: str | None) -> Selectors:
    """Counts the selectors of runs that are not counted yet, as far as it takes no time; then what the counted show."""
    ids = [run.id for run in runs]
    counted = {row["suite_run_id"] for row in await connection.fetch(sql.counted, ids)}
    end = time.monotonic() + _SECONDS
    for run_id in [each for each in ids if each not in counted][:_AT_ONCE]:
        await connection.execute(sql.count_selectors, run_id, _STEPS, _SELECTORS)
        counted.add(run_id)
        if time.monotonic() > end:
            break
    fragile = [FragileSelector(*row) for row in await connection.fetch(sql.fragile, ids, text, LISTED)]
    changed = []
    for element, selector, before, place in await connection.fetch(sql.changed, ids, LISTED) if text is None else ():
        run = runs[place - 1]
        changed.append(ChangedSelector(element, selector, before, run.id, run.commit_sha, run.started_at))
    return Selectors(len(ids), len(counted), fragile, changed)


async def _trends(connection: Any, runs: Sequence[Run], now: datetime, days: int) -> list[Day]:
    """Every day, also those without runs, the last one at the end."""
    counts = await run_tests.counts(connection, [run.id for run in runs])
    last = now.astimezone(UTC).date()
    names = [(last - timedelta(days=ago)).isoformat() for ago in reversed(range(days))]
    found = {name: Day(name, 0, 0, 0, 0, 0, 0) for name in names}
    for run in runs:
        day, of = found.get(run.started_at.astimezone(UTC).date().isoformat()), counts.get(run.id)
        if day is None or of is None:
            continue
        day.runs += 1
        day.failed_runs += of.failed > 0
        day.failed += of.failed
        day.flaky += of.flaky
        day.passed += of.passed
        day.duration_ms += of.total_duration_ms
    return list(found.values())
