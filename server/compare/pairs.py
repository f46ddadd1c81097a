"""Which step of one result is which step of another."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from math import isqrt

from server.compare import align
from server.compare.steps import Step, Texts, key_of

# Positions of the same step in both results; None: the step is only in the other one.
Pair = tuple[int | None, int | None]
# Steps that have no equal in the other result are paired by weaker keys: a renamed button is still that step.
_LEVELS: tuple[Callable[[tuple[str, str, str]], Hashable], ...] = (
    lambda key: key,
    lambda key: key[:2],
    lambda key: key[0],
)


@dataclass(slots=True)
class Pairing:
    """`pairs` in the order of the steps. `exact`: whether all steps were aligned; else too many of them differ, and
    only the equal beginnings and ends of an iteration are paired."""

    pairs: list[Pair]
    exact: bool


def pairing(base: Sequence[Step], head: Sequence[Step], texts: Texts) -> Pairing:
    """Pairs the steps of each iteration; iterations are paired by their number. Raises TooLong."""
    return _Pairing(base, head, texts).result()


class _Pairing:
    def __init__(self, base: Sequence[Step], head: Sequence[Step], texts: Texts) -> None:
        self._base, self._head = base, head
        self._base_keys = [key_of(step, texts) for step in base]
        self._head_keys = [key_of(step, texts) for step in head]
        self._numbers: dict[Hashable, int] = {}
        self._work = align.MOST**2  # for all iterations together: a thousand of them may be entirely different
        self._exact = True

    def result(self) -> Pairing:
        base, head = _by_iteration(self._base), _by_iteration(self._head)
        pairs = [
            pair
            for iteration in sorted({*base, *head})
            for pair in self._pairs(base.get(iteration, range(0)), head.get(iteration, range(0)), 0)
        ]
        return Pairing(pairs, self._exact)

    def _pairs(self, base: range, head: range, level: int) -> Iterator[Pair]:
        if not base or not head or level == len(_LEVELS):
            yield from ((at, None) for at in base)
            yield from ((None, at) for at in head)
            return
        most = min(align.MOST, isqrt(self._work))
        keys = self._keys(self._base_keys, base, level), self._keys(self._head_keys, head, level)
        matches, distance = align.matches(*keys, most)
        self._work -= (most if distance is None else distance) ** 2
        self._exact = self._exact and distance is not None
        below = level + 1 if distance is not None else len(_LEVELS)
        i = j = 0
        for m, n in [*matches, (len(base), len(head))]:
            yield from self._pairs(base[i:m], head[j:n], below)
            if m < len(base) and n < len(head):
                yield base[m], head[n]
            i, j = m + 1, n + 1

    def _keys(self, keys: Sequence[tuple[str, str, str]], where: range, level: int) -> list[int]:
        """Integers, which are compared faster than texts."""
        cut = _LEVELS[level]
        return [self._numbers.setdefault(cut(keys[at]), len(self._numbers)) for at in where]


def _by_iteration(steps: Sequence[Step]) -> dict[int, range]:
    found: dict[int, range] = {}
    for at, step in enumerate(steps):
        found[step.iteration] = range(found[step.iteration].start if step.iteration in found else at, at + 1)
    return found
