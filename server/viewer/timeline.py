"""The timeline of an iteration: what happened when, as SVG paths of 1,000 columns, and a film of its screenshots.

Each lane is one path for each status, not an element for each step: 2,000 steps take 20 KB at most.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

COLUMNS = 1_000
FILM = 16  # thumbnails
_HEIGHT = 24  # of the lane of the steps
# What wins in a column with several steps, and how high it is drawn: colour alone would not tell them apart.
_HEIGHTS = {"Failed": 24, "Skipped": 6, "Passed": 14}
_NETWORK_ROWS = 6
_TICKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000,
          600_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000, 86_400_000]  # fmt: skip  # milliseconds


@dataclass(frozen=True, slots=True)
class Span:
    """When a step ran, in milliseconds from the beginning of the axis. `at`: its position in the list of rows."""

    at: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Axis:
    """`origin`: the moment of 0 ms, None when no step has a time. `estimated`: some times follow from durations."""

    origin: datetime | None
    length: int
    spans: Sequence[Span]
    estimated: bool
    backwards: int  # steps that end before they start

    def column(self, milliseconds: float) -> int:
        return max(0, min(COLUMNS - 1, int(milliseconds * COLUMNS / self.length)))

    def starts(self, rows: int) -> str:
        """For each row, the first column as the distance from the one before; empty for a row that is not on the axis.
        Scripts find the step of a column by it."""
        columns, found = [self.column(span.start) for span in self.spans], [""] * rows
        for span, before, column in zip(self.spans, [0, *columns], columns, strict=False):
            found[span.at] = str(column - before)
        return " ".join(found)

    def ticks(self) -> list[tuple[float, int]]:
        """Up to ten marks of the axis: percent of its length, and milliseconds."""
        every = next((tick for tick in _TICKS if self.length / tick <= 10), self.length)
        return [(round(100 * at / self.length, 2), at) for at in range(0, self.length * 95 // 100 + 1, every)]


def axis(rows: Sequence[Any]) -> Axis:
    """When each step ran: by its own times, else from the end of the step before, for as long as its duration says.
    Steps that did not run are not on the axis."""
    origin = min((row.started_at for row in rows if row.started_at is not None), default=None)
    spans, last, estimated, backwards = [], 0, False, 0
    for at, row in enumerate(rows):
        if row.status == "Pending" and row.started_at is None:
            continue
        start = last if row.started_at is None else _since(origin, row.started_at)
        end = start + (row.duration_ms or 0)
        if row.completed_at is not None and row.started_at is not None:
            backwards += row.completed_at < row.started_at
            end = max(start, _since(origin, row.completed_at))
        estimated = estimated or row.started_at is None
        spans.append(Span(at, start, end))
        last = end
    return Axis(origin, max([1, *(span.end for span in spans)]), spans, estimated, backwards)


def _since(origin: datetime | None, moment: datetime) -> int:
    if origin is None:
        return 0
    return int((moment - origin).total_seconds() * 1000)


def steps(axis: Axis, rows: Sequence[Any]) -> list[tuple[str, str]]:
    """The lane of the steps: status and path. A step that is wide enough ends with a gap."""
    columns: list[str | None] = [None] * COLUMNS
    places = {status: list[tuple[int, int]]() for status in _HEIGHTS}
    ends = set()
    for span in axis.spans:
        status = rows[span.at].status
        if status not in places:
            continue
        first, last = axis.column(span.start), axis.column(span.end)
        if last - first >= 6:
            last -= 1
            ends.add(last)
        places[status].append((first, last + 1))
    for status in reversed(places):  # what wins is drawn last
        reach = 0
        for first, behind in sorted(places[status]):
            if behind > reach:  # else others of this status have its columns already
                first = max(first, reach)
                columns[first:behind] = [status] * (behind - first)
                reach = behind
    return [(status, path) for status in places if (path := _bars(columns, status, ends))]


def _bars(columns: Sequence[str | None], status: str, ends: set[int]) -> str:
    """A rectangle for each unbroken run of columns."""
    height, found = _HEIGHTS[status], list[str]()
    start: int | None = None
    for column in range(COLUMNS + 1):
        here = column < COLUMNS and columns[column] == status
        if start is not None and (not here or column - 1 in ends):
            width = column - start
            found.append(f"M{start} {_HEIGHT - height}h{width}v{height}h-{width}z")
            start = None
        if here and start is None:
            start = column
    return "".join(found)


def marks(places: Iterable[tuple[int, str]], heights: dict[str, int], height: int) -> list[tuple[str, str]]:
    """A lane of moments: (column, kind) as one path for each kind. In a column the first kind in `heights` wins."""
    order, columns = list(heights), dict[int, str]()
    for column, kind in places:
        columns[column] = min(columns.get(column, kind), kind, key=order.index)
    drawn = dict.fromkeys(reversed(order), "")
    for column, kind in sorted(columns.items()):
        drawn[kind] += f"M{column} {height - heights[kind]}h3v{heights[kind]}h-3z"
    return [(kind, path) for kind, path in drawn.items() if path]


def network(spans: Sequence[tuple[int, int, bool]]) -> tuple[list[tuple[str, str]], int]:
    """Requests as (first column, last column, failed), packed into six rows of 3 units: the paths, and how many
    requests did not fit."""
    free, paths, left = [0] * _NETWORK_ROWS, {False: "", True: ""}, 0
    for first, last, failed in sorted(spans):
        row = next((row for row, column in enumerate(free) if column <= first), None)
        if row is None:
            left += 1
            continue
        width = max(2, last - first + 1)
        free[row] = first + width + 1
        paths[failed] += f"M{first} {row * 4}h{width}v3h-{width}z"
    return [("Failed" if failed else "Passed", path) for failed, path in paths.items() if path], left


@dataclass(frozen=True, slots=True)
class Timeline:
    """The lanes: each a list of (kind, path). `left`: requests that did not fit. `here`: where the chosen step is."""

    axis: Axis
    film: Sequence[Any]
    steps: list[tuple[str, str]]
    checks: list[tuple[str, str]]
    console: list[tuple[str, str]]
    network: list[tuple[str, str]]
    left: int
    here: tuple[int, int] | None


_CONSOLE = {"error": 10, "warning": 7, "info": 4, "debug": 2}
_CHECKS = {"Failed": 10, "Passed": 6, "Skipped": 4, "Pending": 2}


def timeline(result: Any) -> Timeline | None:
    """The timeline of a reports.results.Result. None when no step ran."""
    along = axis(result.rows)
    if not along.spans:
        return None
    lane, left = network([(along.column(a), along.column(b), failed) for a, b, failed in result.network])
    return Timeline(
        along,
        film(along, result.rows),
        steps(along, result.rows),
        marks(_checks(along, result), _CHECKS, 10),
        marks([(along.column(at), level) for at, level in result.console], _CONSOLE, 10),
        lane,
        left,
        _here(along, result),
    )


def _checks(along: Axis, result: Any) -> list[tuple[int, str]]:
    """The checkpoints of the iteration; those without a time stand at the end of their step."""
    ends = {result.rows[span.at].number: span.end for span in along.spans}
    found = []
    for each in result.checkpoints:
        timed = each.captured_at is not None and along.origin is not None
        at = _since(along.origin, each.captured_at) if timed else ends.get(each.step_number)
        if each.iteration == result.panel.step.iteration and at is not None:
            found.append((along.column(at), each.status))
    return found


def _here(along: Axis, result: Any) -> tuple[int, int] | None:
    """First column and width of the chosen step."""
    for span in along.spans:
        if result.rows[span.at].number == result.panel.step.number:
            first = along.column(span.start)
            return first, max(3, along.column(span.end) - first)
    return None


def film(axis: Axis, rows: Sequence[Any]) -> list[Any]:
    """At most 16 rows with a screenshot, in order: the first, the last, those that failed, then the one nearest to the
    middle of each of 16 equal slots of time, then those farthest from the ones chosen so far."""
    shown = [span for span in axis.spans if rows[span.at].image is not None]
    if len(shown) <= FILM:
        return [rows[span.at] for span in shown]
    failed = [at for at, span in enumerate(shown) if rows[span.at].status == "Failed"]
    chosen = dict.fromkeys([0, len(shown) - 1, *failed[: FILM - 2]])
    slots: dict[int, tuple[float, int]] = {}
    for at, span in enumerate(shown):
        slot = min(FILM - 1, span.start * FILM // axis.length)
        slots[slot] = min(
            slots.get(slot, (float("inf"), at)), (abs(span.start - (slot + 0.5) * axis.length / FILM), at)
        )
    for _, at in slots.values():
        chosen[at] = None
    while len(chosen) < FILM:
        order = sorted(chosen)
        before, after = max(pairwise(order), key=lambda pair: pair[1] - pair[0])
        chosen[(before + after) // 2] = None
    return [rows[shown[at].at] for at in sorted(list(chosen)[:FILM])]
