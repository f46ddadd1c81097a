"""Which reports of one command hold the same tests in a poorer format."""

from __future__ import annotations

import hashlib
import re
from array import array
from typing import Sequence

_SEPARATOR = re.compile(r" › | > |::")
_MOST = 0.9  # of a report's titles that another one has, so that it is the same tests


class Titles:
    """The titles of a report's tests, without the suites before them, which each format writes in its own way."""

    def __init__(self) -> None:
        self._hashes = array("Q")  # 8 bytes a test

    def add(self, name: str) -> None:
        last = _SEPARATOR.split(name)[-1].strip()
        digest = hashlib.blake2b(last.encode("utf-8", "replace"), digest_size=8).digest()
        self._hashes.append(int.from_bytes(digest, "big"))

    def all(self) -> set[int]:
        return set(self._hashes)


def poorer(reports: Sequence[tuple[int, Titles]]) -> dict[int, int]:
    """{a report: another one that has its tests in a richer format}, by their places in `reports`. A smaller rank is a
    richer format. Titles of reports of one format count together: one file may hold what several others hold."""
    ranks = sorted({rank for rank, _ in reports})
    if len(ranks) < 2:
        return {}
    found: dict[int, int] = {}
    richer: list[tuple[int, set[int]]] = []  # of each richer format: its first report, the titles of all
    for rank in ranks:
        of_rank = [at for at, report in enumerate(reports) if report[0] == rank]
        titles: set[int] = set()
        for at in of_rank:
            own = reports[at][1].all()
            titles |= own
            for other, theirs in richer:
                if len(own & theirs) >= _MOST * len(own):
                    found[at] = other
                    break
        kept = [at for at in of_rank if at not in found]
        if kept:
            richer.append((kept[0], titles))
    return found
