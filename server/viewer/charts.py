"""Charts as numbers for SVG: the templates draw them, without a style attribute, which the pages' policy forbids."""

from collections.abc import Sequence
from dataclasses import dataclass

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
