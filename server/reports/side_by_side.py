"""Two results side by side, as their page shows them: rows that differ, the others folded, pictures of both."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from server.compare import differences, folds, sentences
from server.database.queries import SQL
from server.database.reads import Reads
from server.reports import comparisons
from server.reports.comparisons import Compared, ComparedResult, ComparedRow

MOST_TOLD = 300  # rows that differ
_MOST_FOLDED = 500  # rows in all folds


@dataclass(slots=True)
class Line:
    """A row. `name` is its place in addresses: the step of the newer result, else that of the older one. `pictures`:
    those of both results, None without one; the whole is None when they are the same."""

    name: str
    row: ComparedRow
    tells: bool
    pictures: tuple[UUID | None, UUID | None] | None = None


@dataclass(slots=True)
class Folded:
    """Rows that tell nothing, of which `lines` are drawn. `grey`: how many of them differ in ids, times or numbers, and
    `pictured` in pictures."""

    sort: folds.Sort
    number: int
    grey: int
    pictured: int
    lines: list[Line]


@dataclass(slots=True)
class SideBySide:
    """`sentence` is in parts, see compare/sentences.py. `marked` is the name of the row to look at, `unknown` whether
    the one that was asked for does not exist; `told` are the names of all rows that differ, of which those from `start`
    to `end` are shown."""

    head: ComparedResult
    base: ComparedResult | None
    limited: list[str] = field(default_factory=list)
    sentence: list[sentences.Part] = field(default_factory=list)
    parts: list[Line | Folded] = field(default_factory=list)
    total: int = 0
    several: bool = False
    marked: str | None = None
    unknown: bool = False
    told: list[str] = field(default_factory=list)
    start: int = 0
    end: int = 0

    def beside(self, by: int) -> str | None:
        """The name of the row that differs before (-1) or after (1) the marked one."""
        place = self.told.index(self.marked) + by if self.marked in self.told else min(by, 0)
        return self.told[place] if 0 <= place < len(self.told) else None


async def read(reads: Reads, head: ComparedResult, base: ComparedResult | None, chosen: str | None) -> SideBySide:
    """The comparison of two results. `chosen`: the name of the row to look at, by default the first difference."""
    shown = SideBySide(head, base)
    if base is None:
        return shown
    compared = await comparisons.compare(reads, head, base)
    shown.limited = compared.limited
    if compared.comparison is None:
        return shown
    _arrange(shown, compared, chosen)
    await _add_pictures(reads, shown.parts)
    return shown


def _arrange(shown: SideBySide, compared: Compared, chosen: str | None) -> None:
    found: Any = compared.comparison
    rows, names = found.rows, _names(compared)
    sorts = folds.sorts(found)
    told = [at for at, sort in enumerate(sorts) if sort == "telling"]
    known = {name: at for at, name in reversed(list(enumerate(names)))}
    first = differences.first_difference(found)
    marked = known.get(chosen or "", first)
    failed = differences.first_failure(found.head.steps)
    kept = {at for at, row in enumerate(rows) if at == marked or (failed is not None and row.head == failed)}
    start, end = folds.window(told, marked, MOST_TOLD)
    low, high = (told[start] if start else 0), (told[end - 1] + 1 if end < len(told) else len(rows))
    left = _MOST_FOLDED
    for sort, positions in folds.folded(sorts, low, high, kept):
        if sort == "telling":
            shown.parts.append(_line(compared, names, positions[0], sorts[positions[0]] == "telling"))
        else:
            drawn = positions[:left]
            left -= len(drawn)
            shown.parts.append(_fold(compared, names, positions, drawn, sort))
    shown.total, shown.several = len(rows), any(step.iteration > 1 for step in (*found.base.steps, *found.head.steps))
    shown.sentence, shown.told, shown.start, shown.end = sentences.line(found), [names[at] for at in told], start, end
    shown.marked, shown.unknown = names[marked] if marked is not None else None, bool(chosen and chosen not in known)


def _names(compared: Compared) -> list[str]:
    """`1.12`, and of a step that only the older result has, `was-1.12`."""
    found: Any = compared.comparison
    names = []
    for row in found.rows:
        step = found.base.steps[row.base] if row.head is None else found.head.steps[row.head]
        names.append(f"{'was-' if row.head is None else ''}{step.iteration}.{step.number}")
    return names


def _line(compared: Compared, names: Sequence[str], at: int, tells: bool) -> Line:
    row: Any = compared.row(at)
    return Line(names[at], row, tells)


def _fold(compared: Compared, names: Sequence[str], positions: range, drawn: range, sort: folds.Sort) -> Folded:
    found: Any = compared.comparison
    lines = [_line(compared, names, at, False) for at in drawn]
    kinds = [
        {each.kind if each.kind == "picture" else each.weight for each in found.rows[at].differences}
        for at in positions
    ]
    grey, pictured = (sum(1 for kind in kinds if name in kind) for name in ("grey", "picture"))
    return Folded(sort, len(positions), grey, pictured, lines)


async def _add_pictures(reads: Reads, parts: Iterable[Line | Folded]) -> None:
    """Reads the pictures of rows that differ in something that can be seen."""
    lines = [line for part in parts for line in ([part] if isinstance(part, Line) else part.lines)]
    wanted = [line for line in lines if line.tells or any(each.kind == "picture" for each in line.row.differences)]
    steps = [step.id for line in wanted for step in (line.row.base, line.row.head) if step is not None]
    if not steps:
        return
    async with reads.acquire() as connection:
        rows = await connection.fetch(SQL.comparisons.pictures, steps)
    found = {row["id"]: (row["picture"], row["checksum"]) for row in rows}
    for line in wanted:
        one, other = (
            found.get(step.id, (None, None)) if step else (None, None) for step in (line.row.base, line.row.head)
        )
        if one[1] != other[1]:
            line.pictures = one[0], other[0]
