"""Charts as numbers for SVG: the templates draw them, without a style attribute, which the pages' policy forbids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 1000  # of a bar, in units of its viewBox
_LEAST = 16  # of a part: one failure among 5,000 tests must be seen
_GAP = 4


@dataclass(frozen=True, slots=True)
class Part:
    x: int
    width: int
    status: str


def bar(counts: Sequence[tuple[str, int]]) -> list[Part]:
    """A bar of the parts (status, number), in this order, without those that are 0."""
    shown = [(status, number) for status, number in counts if number > 0]
    total = sum(number for _, number in shown)
    free = WIDTH - _GAP * max(0, len(shown) - 1) - _LEAST * len(shown)
    parts, x = [], 0
    for index, (status, number) in enumerate(shown):
        last = index == len(shown) - 1
        width = WIDTH - x if last else _LEAST + round(free * number / total)
        parts.append(Part(x, width, status))
        x += width + _GAP
    return parts


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a chart: where it is, and its value. `y` and `height` are those of the part that is filled."""

    x: float
    width: float
    y: float
    height: float
    value: Any


HEIGHT = 100  # of a chart of columns, in units of its viewBox
_FEWEST = 30  # columns: with three results, each would be a third of the chart
_LOWEST = 2  # a value of 0 must be seen


def columns(values: Sequence[Any], sizes: Sequence[int | None], top: int) -> list[Column]:
    """A chart of columns, the last one at the right end. `sizes`: of each value, of at most `top`; None: unknown."""
    slots = max(_FEWEST, len(values))
    width = WIDTH / slots
    found = []
    for index, (value, size) in enumerate(zip(values, sizes, strict=True), slots - len(values)):
        height = 0.0 if size is None else max(_LOWEST, level(size, top))
        found.append(Column(round(index * width, 2), round(width * 0.8, 2), round(HEIGHT - height, 2), height, value))
    return found


def level(value: float, top: float) -> float:
    """How high `value` is in a chart whose top is `top`."""
    return round(HEIGHT * min(1.0, value / top), 2) if top > 0 else 0.0
