"""Alignment of two lists by their keys: which items of one are those of the other (Myers, "An O(ND) Difference
Algorithm and Its Variations", 1986).

Not difflib: on 2,000 steps that repeat two keys it takes minutes.
"""

from collections.abc import Sequence

MOST = 1_000  # insertions and deletions; the time grows with their square


def matches(left: Sequence[int], right: Sequence[int], most: int = MOST) -> tuple[list[tuple[int, int]], int | None]:
    """The pairs of positions with equal keys, ascending on both sides, as many as possible; and the number of other
    items on both sides, the distance.

    When the distance is greater than `most`, only the equal beginnings and ends are paired, and it is None.
    """
    first, last = _equal_ends(left, right)
    here, there = left[first : len(left) - last], right[first : len(right) - last]
    inner = _inner(here, there, most)
    pairs = [(at, at) for at in range(first)]
    pairs += [(first + i, first + j) for i, j in inner or ()]
    pairs += [(len(left) - at, len(right) - at) for at in range(last, 0, -1)]
    return pairs, None if inner is None else len(here) + len(there) - 2 * len(inner)


def _equal_ends(left: Sequence[int], right: Sequence[int]) -> tuple[int, int]:
    most = min(len(left), len(right))
    first = next((at for at in range(most) if left[at] != right[at]), most)
    last = next((at for at in range(most - first) if left[-1 - at] != right[-1 - at]), most - first)
    return first, last


def _inner(left: Sequence[int], right: Sequence[int], most: int) -> list[tuple[int, int]] | None:
    """The pairs of equal keys; None when the distance is greater than `most`."""
    if not left or not right:
        return [] if len(left) + len(right) <= most else None
    reached = _reached(left, right, most)
    return None if reached is None else _path(reached, len(left), len(right))


def _reached(left: Sequence[int], right: Sequence[int], most: int) -> list[list[int]] | None:
    """For each distance, until both ends are reached: how far `left` can be read on each diagonal, -1: not at all.

    The diagonal k, which is the position in `left` minus that in `right`, has the index k + distance. None when the
    distance is greater than `most`.
    """
    width, height = len(left), len(right)
    most = min(most, width + height)
    if abs(width - height) > most:
        return None
    middle = most + 1
    furthest = [-1] * (2 * middle + 1)
    reached = []
    for distance in range(most + 1):
        # A diagonal beyond an end of either list leads nowhere.
        lowest = -distance + 2 * max(0, distance - height)
        highest = distance - 2 * max(0, distance - width)
        for diagonal in range(lowest, highest + 1, 2):
            above, below = furthest[middle + diagonal + 1], furthest[middle + diagonal - 1]
            x = above if above > below else below + 1
            y = x - diagonal
            while x < width and y < height and left[x] == right[y]:
                x += 1
                y += 1
            furthest[middle + diagonal] = x
        reached.append(furthest[middle - distance : middle + distance + 1])
        if furthest[middle + width - height] == width:
            return reached
    return None


def _path(reached: list[list[int]], width: int, height: int) -> list[tuple[int, int]]:
    """The equal pairs on the way, read back from the ends."""
    pairs, x, y = [], width, height
    for distance in range(len(reached) - 1, 0, -1):
        former, at = reached[distance - 1], x - y + distance - 1
        above = former[at + 1] if at + 1 < len(former) else -1
        below = former[at - 1] if at > 0 else -1
        start = above if above > below else below + 1
        came_from = (above, above - (x - y) - 1) if above > below else (below, below - (x - y) + 1)
        while x > start:
            x, y = x - 1, y - 1
            pairs.append((x, y))
        x, y = came_from
    pairs += [(at, at) for at in range(x - 1, -1, -1)]
    return pairs[::-1]
