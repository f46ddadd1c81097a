"""Two results of a test, step by step, and the first difference from the last green."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any
from uuid import UUID

from server.background import aside
from server.compare import differences, sentences
from server.compare.differences import Comparison, Difference, first_failure
from server.compare.steps import Entry, Side, Step, Texts, TooLong
from server.database.queries import SQL
from server.database.reads import Reads
from server.errors import CaseNotFound
from server.reports.words import Moment, Status

MAX_STEPS = 5_000  # of each result
MAX_ENTRIES = 2_000  # failed requests, and errors in the console, of each result
MAX_ROWS = 2_000
SEARCHED = 500  # results before this one in which its last green is looked for
SECONDS = 2.0  # the work thread is shared: others wait meanwhile
_MAX_DURATIONS = 20_000


@dataclass(slots=True)
class ComparedResult:
    id: UUID
    project_id: UUID
    suite_run_id: UUID
    name: str
    test_id: str
    status: Status
    browser: str | None
    attempt: int
    duration_ms: int | None
    run_name: str
    branch: str | None
    commit_sha: str | None
    started_at: Moment


@dataclass(slots=True)
class LastGreen:
    test_case_result_id: UUID
    last_green: ComparedResult | None
    same_browser: bool | None
    searched: int


@dataclass(slots=True)
class ComparedStep:
    id: UUID
    iteration_number: int
    step_number: int
    label: str
    status: Status
    duration_ms: int | None


@dataclass(slots=True)
class ComparedRow:
    base: ComparedStep | None
    head: ComparedStep | None
    differences: list[Difference]


@dataclass(slots=True)
class FirstDifference:
    test_case_result_id: UUID
    compared_with: ComparedResult | None
    sentence: str | None
    row: ComparedRow | None
    failed_step: ComparedStep | None
    reason: str | None
    limited: list[str]


@dataclass(slots=True)
class ResultComparison:
    test_case_result_id: UUID
    compared_with: ComparedResult | None
    total: int
    differing: int
    first_difference: int | None
    rows: list[ComparedRow]
    limited: list[str]


@dataclass(slots=True)
class Compared:
    """Two results, `base` the earlier one. `comparison` is None when it would have taken too long. `limited`: which
    limits cut it: `steps`, `entries`, `alignment`, `time`. `ids` are those of the steps, of base and head."""

    base: ComparedResult
    head: ComparedResult
    comparison: Comparison | None
    ids: tuple[list[UUID], list[UUID]]
    limited: list[str]

    def step(self, side: int, at: int | None) -> ComparedStep | None:
        """A step of base (0) or head (1); None for no step."""
        if at is None or self.comparison is None:
            return None
        one = (self.comparison.base, self.comparison.head)[side].steps[at]
        status: Any = one.status
        return ComparedStep(self.ids[side][at], one.iteration, one.number, one.label[:500], status, one.duration_ms)

    def row(self, at: int | None) -> ComparedRow | None:
        """A row of the comparison; None for no row."""
        if at is None or self.comparison is None:
            return None
        row = self.comparison.rows[at]
        return ComparedRow(self.step(0, row.base), self.step(1, row.head), list(row.differences))


async def of_case(where: Any, case_id: UUID, scope: UUID | None) -> ComparedResult:
    """The result with what is shown of its run. Raises CaseNotFound."""
    row = await where.fetchrow(SQL.comparisons.of_case, case_id, scope)
    if row is None:
        raise CaseNotFound()
    return ComparedResult(*row)


async def last_green(where: Any, head: ComparedResult) -> ComparedResult | None:
    """The result that passed and is compared with this one: with its browser, on its branch or the main one if there
    are such results. None when none of the 500 results before it passed."""
    place = head.project_id, head.test_id, head.id, head.browser, head.branch
    row = await where.fetchrow(SQL.comparisons.last_green, *place)
    return None if row is None else ComparedResult(*row)


async def compare(reads: Reads, head: ComparedResult, base: ComparedResult) -> Compared:
    """Compares two results, most of the time in a thread. Reads at most 5,000 steps of each."""
    async with (
        reads.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        loaded = [await _load(connection, each.id) for each in (base, head)]
    limited = [name for at, name in ((2, "steps"), (3, "entries")) if any(each[at] for each in loaded)]
    before, after, ids = loaded[0][0], loaded[1][0], (loaded[0][1], loaded[1][1])
    texts = Texts(SECONDS)
    try:
        comparison = await aside(_work([before, after]), differences.compare, before, after, texts)
        comparison = await _confirmed(reads, head, comparison, texts)
    except TooLong:
        return Compared(base, head, None, ids, [*limited, "time"])
    return Compared(base, head, comparison, ids, limited if comparison.exact else [*limited, "alignment"])


async def first_difference(reads: Reads, case_id: UUID, scope: UUID | None, other: UUID | None) -> FirstDifference:
    """The first difference of a result from another one of its project, by default its last green. Raises CaseNotFound.

    `reason` says why there is no row: `never_passed`, `too_long`, `no_steps`, `no_difference`.
    """
    head, base = await both(reads, case_id, scope, other)
    if base is None:
        return FirstDifference(case_id, None, None, None, None, "never_passed", [])
    compared = await compare(reads, head, base)
    found = compared.comparison
    if found is None:
        return FirstDifference(case_id, base, None, None, None, "too_long", compared.limited)
    at = differences.first_difference(found)
    reason = "no_steps" if not found.rows else None if at is not None else "no_difference"
    sentence = "".join(text for text, _ in sentences.line(found)) or None
    failed = compared.step(1, first_failure(found.head.steps))
    return FirstDifference(case_id, base, sentence, compared.row(at), failed, reason, compared.limited)


async def of_results(
    reads: Reads, case_id: UUID, scope: UUID | None, other: UUID | None, differing: bool
) -> ResultComparison:
    """The rows of a comparison, at most 2,000; with `differing`, only those with differences.

    None of them when there is no last green to compare with. Raises CaseNotFound.
    """
    head, base = await both(reads, case_id, scope, other)
    if base is None:
        return ResultComparison(case_id, None, 0, 0, None, [], [])
    compared = await compare(reads, head, base)
    rows = compared.comparison.rows if compared.comparison else []
    wanted = [at for at, row in enumerate(rows) if row.differences or not differing]
    first = differences.first_difference(compared.comparison) if compared.comparison else None
    shown = [row for at in wanted[:MAX_ROWS] if (row := compared.row(at))]
    limited = compared.limited if len(wanted) <= MAX_ROWS else [*compared.limited, "rows"]
    differ = sum(1 for row in rows if row.differences)
    place = wanted.index(first) if first is not None and first in wanted[:MAX_ROWS] else None
    return ResultComparison(case_id, base, len(rows), differ, place, shown, limited)


async def both(
    where: Any, case_id: UUID, scope: UUID | None, other: UUID | None
) -> tuple[ComparedResult, ComparedResult | None]:
    """A result and the one to compare it with: `other`, a result of the same project, or its last green, None when
    there is none. Raises CaseNotFound."""
    head = await of_case(where, case_id, scope)
    return head, await (last_green(where, head) if other is None else of_case(where, other, head.project_id))


async def _load(connection: Any, case_id: UUID) -> tuple[Side, list[UUID], bool, bool]:
    """The steps and log entries of a result, the ids of the steps, and whether there are more of each."""
    rows = await connection.fetch(SQL.comparisons.steps, case_id, MAX_STEPS + 1)
    steps = [Step(*row[:-1]) for row in rows[:MAX_STEPS]]
    console = await connection.fetch(SQL.comparisons.console_errors, case_id, MAX_ENTRIES + 1)
    requests = await connection.fetch(SQL.comparisons.failed_requests, case_id, MAX_ENTRIES + 1)
    entries = [Entry("console", *row) for row in console[:MAX_ENTRIES]]
    for method, url, status_code, error_text, resource_type, *place in requests[:MAX_ENTRIES]:
        reply = f"HTTP {status_code}" if status_code else error_text
        entries.append(Entry("network", f"{method} {url}: {reply}", *[*place, status_code, resource_type]))
    ids = [row["id"] for row in rows[:MAX_STEPS]]
    return Side(steps, entries), ids, len(rows) > MAX_STEPS, max(len(console), len(requests)) > MAX_ENTRIES


async def _confirmed(reads: Reads, head: ComparedResult, found: Comparison, texts: Texts) -> Comparison:
    """Without differences in time that are usual for the last 10 greens; they are read only for such differences."""
    if not found.slow:
        return found
    place = head.project_id, head.test_id, head.id, head.browser
    wanted = {where[:2] for where in found.slow.values()}
    iterations, types = {iteration for iteration, _ in wanted}, {key[0] for _, key in wanted}
    async with reads.acquire() as connection:
        greens = [row["id"] for row in await connection.fetch(SQL.comparisons.greens, *place)]
        rows = await connection.fetch(SQL.comparisons.durations, greens, list(iterations), list(types), _MAX_DURATIONS)
    results = [
        [replace(Step(*row[1:-1]), duration_ms=row["duration_ms"]) for row in same]
        for _, same in groupby(rows, key=lambda row: row["test_case_result_id"])
    ]
    usual = await aside(_work([Side(steps) for steps in results]), differences.medians, results, texts)
    return differences.confirmed(found, usual)


def _work(sides: Sequence[Side]) -> int:
    """How much work a comparison is, for aside()."""
    size = 0
    for side in sides:
        size += 2_000 * len(side.steps) + sum(20 * len(entry.text) for entry in side.entries)
        for step in side.steps:
            texts = (step.description, step.selector, step.expected_value, step.actual_value, step.error_message)
            size += 20 * sum(len(text) for text in texts if text)
    return size
