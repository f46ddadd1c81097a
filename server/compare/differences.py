"""What differs between two results of a test, and which difference comes first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

from server.compare.pairs import Pair, pairing
from server.compare.steps import Entry, Side, Step, Texts, Weight, by_step, key_of

Kind = Literal[
    "status", "iteration", "step", "value", "selector", "error", "network", "console", "time", "picture"
]  # the strongest first
# Where a step is: its iteration, its key, and how many steps with that key come before it in the iteration.
Occurrence = tuple[int, tuple[str, str, str], int]

_SLOWER = 3
_SLOWER_MS = 1_000
_NEAR = 10  # steps
_SHOWN = 1_000  # characters of a value
_MOST_ENTRIES = 5  # for each step


@dataclass(frozen=True, slots=True)
class Difference:
    """`field` says which value of the step differs, where a kind has several. `base` and `head` are the two values; of
    a log entry, `head` is its text."""

    kind: Kind
    weight: Weight
    field: str | None = None
    base: str | int | None = None
    head: str | int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One step in both results, as positions in their lists of steps. Its differences, the strongest first."""

    base: int | None
    head: int | None
    differences: tuple[Difference, ...] = ()

    def has(self, weight: Weight) -> bool:
        """Whether a difference has this weight. Pictures have none until their pixels are counted."""
        return any(each.weight == weight and each.kind != "picture" for each in self.differences)


@dataclass(frozen=True, slots=True)
class Comparison:
    base: Side
    head: Side
    rows: Sequence[Row]
    exact: bool  # False: too many steps differ, and only equal beginnings and ends are aligned
    slow: Mapping[int, Occurrence] = field(default_factory=dict)  # for each row with a difference in time


def compare(base: Side, head: Side, texts: Texts) -> Comparison:
    """Compares a result (`head`) with another one of the same test (`base`), usually its last green. Raises TooLong."""
    aligned = pairing(base.steps, head.steps, texts)
    entries = by_step(base), by_step(head)
    counts = [{step.iteration for step in side.steps} for side in (base, head)]
    rows = [Row(*pair, tuple(_of_pair(base, head, pair, entries, counts, texts))) for pair in aligned.pairs]
    slow = _occurrences(head.steps, texts)
    times = {
        at: slow[row.head]
        for at, row in enumerate(rows)
        if row.head is not None and any(each.kind == "time" for each in row.differences)
    }
    return Comparison(base, head, rows, aligned.exact, times)


def _of_pair(
    base: Side,
    head: Side,
    pair: Pair,
    entries: tuple[list[list[Entry]], list[list[Entry]]],
    iterations: Sequence[set[int]],
    texts: Texts,
) -> Iterator[Difference]:
    i, j = pair
    if i is None or j is None:
        step = base.steps[i] if i is not None else head.steps[j or 0]
        kind: Kind = "step" if all(step.iteration in known for known in iterations) else "iteration"
        yield Difference(kind, "hard", None, *((step.label, None) if i is not None else (None, step.label)))
        return
    yield from _of_steps(base.steps[i], head.steps[j], texts)
    # An entry that arrives a little later than in the other result is the same entry.
    near = {_entry_key(each, texts) for at in (i - 1, i, i + 1) if 0 <= at < len(base.steps) for each in entries[0][at]}
    new = {key: each for each in entries[1][j] if (key := _entry_key(each, texts)) not in near}
    order = {"hard": 0, "soft": 1, "grey": 2}
    for each in sorted(new.values(), key=lambda each: (each.kind == "console", order[each.weight]))[:_MOST_ENTRIES]:
        yield Difference(each.kind, each.weight, None, None, each.text[:_SHOWN])
    one, other = base.steps[i], head.steps[j]
    if one.duration_ms is not None and other.duration_ms is not None and slower(other.duration_ms, one.duration_ms):
        yield Difference("time", "soft", "duration_ms", one.duration_ms, other.duration_ms)
    if one.picture and other.picture and one.picture != other.picture:
        yield Difference("picture", "soft")


def _of_steps(base: Step, head: Step, texts: Texts) -> Iterator[Difference]:
    if base.status != head.status:
        yield Difference("status", "hard", "status", base.status, head.status)
    if _is_other_step(base, head, texts):
        yield Difference("step", "hard", "label", base.label[:_SHOWN], head.label[:_SHOWN])
    if not {base.status, head.status} <= {"Passed", "Failed"}:
        return  # a step that did not run has no values
    for name in ("expected_value", "actual_value", "input_value"):
        one, other = getattr(base, name), getattr(head, name)
        if (one or "") != (other or ""):
            # In a step that failed, also a number that differs explains the failure: 20.00 instead of 19.99.
            hard = texts(one) != texts(other) or (base.status != head.status and head.status == "Failed")
            yield _changed("value", hard, name, one, other)
    if (base.selector or "") != (head.selector or "") and texts(base.element_name) == texts(head.element_name):
        yield _changed(
            "selector", texts(base.selector) != texts(head.selector), "selector", base.selector, head.selector
        )
    errors = [(step.error_type or "", texts(step.error_message)) for step in (base, head)]
    if errors[0] != errors[1]:
        yield _changed(
            "error", True, "error_message", *(step.error_message or step.error_type for step in (base, head))
        )


def _is_other_step(base: Step, head: Step, texts: Texts) -> bool:
    one, other = key_of(base, texts), key_of(head, texts)
    return one[:2] != other[:2] or (one[2] != other[2] and texts(base.element_name) != texts(head.element_name))


def _changed(kind: Kind, hard: bool, name: str, base: str | None, head: str | None) -> Difference:
    return Difference(kind, "hard" if hard else "grey", name, base and base[:_SHOWN], head and head[:_SHOWN])


def _entry_key(entry: Entry, texts: Texts) -> tuple[str, str]:
    return entry.kind, texts(entry.text)


def slower(now: float, before: float) -> bool:
    """Whether a duration is at least three times another one, and at least a second more. In milliseconds."""
    return now >= _SLOWER * before and now - before >= _SLOWER_MS


def _occurrences(steps: Sequence[Step], texts: Texts) -> list[Occurrence]:
    seen: dict[tuple[int, tuple[str, str, str]], int] = {}
    found = []
    for step in steps:
        where = step.iteration, key_of(step, texts)
        found.append((*where, seen.get(where, 0)))
        seen[where] = seen.get(where, 0) + 1
    return found


def medians(greens: Sequence[Sequence[Step]], texts: Texts) -> dict[Occurrence, float]:
    """The median duration, in milliseconds, of each step over results that passed. Raises TooLong."""
    durations: dict[Occurrence, list[int]] = {}
    for steps in greens:
        for step, where in zip(steps, _occurrences(steps, texts), strict=True):
            if step.duration_ms is not None:
                durations.setdefault(where, []).append(step.duration_ms)
    return {where: median(values) for where, values in durations.items()}


def confirmed(comparison: Comparison, usual: Mapping[Occurrence, float]) -> Comparison:
    """Without the differences in time that are usual: the last green may have been unusually fast."""
    rows = list(comparison.rows)
    for at, where in comparison.slow.items():
        row, before = rows[at], usual.get(where)
        (time,) = (each for each in row.differences if each.kind == "time")
        if before is not None and not slower(int(time.head or 0), before):
            rows[at] = replace(row, differences=tuple(each for each in row.differences if each is not time))
    return replace(comparison, rows=rows)


def first_difference(comparison: Comparison) -> int | None:
    """The row to name: the earliest with a hard difference, or the earliest soft one at most 10 rows before it."""
    rows = comparison.rows
    hard = next((at for at, row in enumerate(rows) if row.has("hard")), None)
    start = 0 if hard is None else max(0, hard - _NEAR)
    soft = next((at for at in range(start, len(rows) if hard is None else hard) if rows[at].has("soft")), None)
    return hard if soft is None else soft


def first_failure(steps: Sequence[Step]) -> int | None:
    """The position of the first step that failed."""
    return next((at for at, step in enumerate(steps) if step.status == "Failed"), None)
