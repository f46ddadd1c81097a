"""Which rows of a comparison a reader needs to see, and which are folded."""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Literal

from server.compare.differences import Comparison

# telling: a difference that may explain a failure. unreached: the newer result ended before the step, and the older one
# did not. equal: everything else, also rows with other ids, times or pictures, which nearly every row has.
Sort = Literal["telling", "unreached", "equal"]


def sorts(found: Comparison) -> list[Sort]:
    """The sort of each row."""
    return [_sort(found, at) for at in range(len(found.rows))]


def _sort(found: Comparison, at: int) -> Sort:
    row = found.rows[at]
    if not (row.has("hard") or row.has("soft")):
        return "equal"
    ended = row.base is not None and row.head is not None and found.head.steps[row.head].status == "Pending"
    only = all(each.kind in ("status", "picture") for each in row.differences)
    return "unreached" if ended and only else "telling"


def folded(sorted_rows: Sequence[Sort], start: int, end: int, kept: Collection[int]) -> Iterator[tuple[Sort, range]]:
    """The positions from `start` to `end`: each row that tells something or is `kept` alone, the rows between them in
    ranges of one sort."""

    def place(at: int) -> tuple[Sort, int | None]:
        alone = at in kept or sorted_rows[at] == "telling"
        return ("telling", at) if alone else (sorted_rows[at], None)

    for (sort, _), same in groupby(range(start, end), place):
        positions = list(same)
        yield sort, range(positions[0], positions[-1] + 1)


def window(told: Sequence[int], chosen: int | None, most: int) -> tuple[int, int]:
    """Which of the telling rows are shown when there are more than `most`: as many, around the chosen row."""
    place = 0 if chosen is None else bisect_left(told, chosen)
    start = max(0, min(place - most // 2, len(told) - most))
    return start, min(len(told), start + most)
