"""Marks on tests: flaky, new, failing since, slower. Each is a rule over the attempts of one test."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import median
from typing import Any, NamedTuple

DAYS = 30  # flaky: how far back
CLEARED = 20  # results in a row that passed end the mark
SLOWER_RESULTS, SLOWER_BEFORE, SLOWER_LEAST = 5, 30, 5
SLOWER_RATIO, SLOWER_MS = 1.5, 1_000


class Attempt(NamedTuple):
    """One test case result. Ids ascend in time, those of results and those of runs. A page makes up to 15,000 of them:
    a frozen dataclass takes four times as long."""

    id: Any
    run: Any
    status: str
    attempt: int = 1
    browser: str | None = None
    name: str = ""  # of the run
    branch: str | None = None
    commit: str | None = None
    duration_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Flaky:
    """ "7 of 52 commits": in `commits` (or runs that name none) the test passed and failed; of `of` it has a result.

    For each of `commits`, the newest first: one result that failed and one that passed.
    """

    commits: int
    of: int
    evidence: Sequence[tuple[Attempt, Attempt]]


@dataclass(frozen=True, slots=True)
class Slower:
    """The median of the newest results and that of those before, in milliseconds."""

    now: float
    before: float


def results(attempts: Iterable[Attempt]) -> list[Attempt]:
    """The result of the test in each run, by browser: the highest attempt, then the newest. The oldest run first."""
    last: dict[tuple[Any, str | None], Attempt] = {}
    for each in attempts:
        where = each.run, each.browser
        if where not in last or _order(last[where]) < _order(each):
            last[where] = each
    return sorted(last.values(), key=lambda each: (each.run, each.id))


def _order(attempt: Attempt) -> tuple[int, Any]:
    return attempt.attempt, attempt.id


def flaky_here(attempts: Sequence[Attempt]) -> bool:
    """Of the attempts of one run and browser: whether the last one passed and an earlier one failed."""
    found = results(attempts)
    return bool(found) and found[-1].status == "Passed" and any(each.status == "Failed" for each in attempts)


def flaky(attempts: Sequence[Attempt], since: Any) -> Flaky | None:
    """Whether the test passed and failed on one commit with one browser, by its results since the id `since`: those of
    the last 30 days. A run that names no commit counts as a commit of its own. Not with a browser whose last 20 results
    all passed at the first attempt.

    A test that fails on one commit and passes on another is never flaky.
    """
    recent = [each for each in attempts if each.id >= since]
    by_commit: dict[tuple[Any, str | None], dict[str, Attempt]] = {}
    for each in sorted(recent, key=lambda each: (each.run, each.id)):
        by_commit.setdefault((each.commit or each.run, each.browser), {})[each.status] = each
    both = [found for found in by_commit.values() if {"Failed", "Passed"} <= found.keys()]
    browsers = {found["Failed"].browser for found in both}
    cleared = {browser for browser in browsers if _greens(recent, browser) >= CLEARED}
    evidence = [(found["Failed"], found["Passed"]) for found in both if found["Failed"].browser not in cleared]
    if not evidence:
        return None
    commits = {failed.commit or failed.run for failed, _ in evidence}
    evidence.sort(key=lambda pair: (pair[0].run, pair[0].id), reverse=True)
    return Flaky(len(commits), len({commit for commit, _ in by_commit}), evidence)


def _greens(attempts: Sequence[Attempt], browser: str | None) -> int:
    """How many of the newest results in a row passed at the first attempt, with this browser."""
    failed = {each.run for each in attempts if each.status == "Failed" and each.browser == browser}
    ran = [each for each in results(attempts) if each.browser == browser and each.status in ("Passed", "Failed")]
    return sum(1 for _ in takewhile(lambda each: each.run not in failed, reversed(ran)))


def of_series(attempts: Iterable[Attempt], like: Attempt) -> list[Attempt]:
    """The results in runs of the same name and branch as that of `like`, with its browser, up to its run."""
    wanted = like.name, like.branch, like.browser
    return results(
        each for each in attempts if (each.name, each.branch, each.browser) == wanted and each.run <= like.run
    )


def new(series: Sequence[Attempt], previous_run: Any | None) -> bool:
    """Whether the newest result failed, and that in the previous run of the same name and branch passed."""
    if not series or series[-1].status != "Failed":
        return False
    return any(each.run == previous_run and each.status == "Passed" for each in series[:-1])


def failing_since(series: Sequence[Attempt]) -> tuple[Attempt, int] | None:
    """The first of the unbroken row of failures that ends the series, and how many they are.

    Results that were skipped or never ran do not break the row. None when the newest result did not fail.
    """
    if not series or series[-1].status != "Failed":
        return None
    ran = [each for each in series if each.status in ("Passed", "Failed")]
    row = list(takewhile(lambda each: each.status == "Failed", reversed(ran)))
    return row[-1], len(row)


def slower(series: Sequence[Attempt]) -> Slower | None:
    """Whether the median of the last 5 results that passed is more than 1.5 times that of the 30 before, and more than
    a second longer. At least 5 are needed before."""
    durations = [each.duration_ms for each in series if each.status == "Passed" and each.duration_ms is not None]
    now, before = durations[-SLOWER_RESULTS:], durations[-SLOWER_RESULTS - SLOWER_BEFORE : -SLOWER_RESULTS]
    if len(now) < SLOWER_RESULTS or len(before) < SLOWER_LEAST:
        return None
    found = Slower(median(now), median(before))
    return found if found.now > SLOWER_RATIO * found.before and found.now - found.before > SLOWER_MS else None
