"""The list of steps: rows in groups, what never came between them, and steps that a failed test did not reach."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

_GROUP = 50  # rows: a browser lays out and draws only the groups in view


@dataclass(slots=True)
class Group:
    """`items` are rows, and pairs of step numbers: from the first to the last that never came. `unreached`: these steps
    did not run."""

    unreached: bool
    items: list[Any] = field(default_factory=list)
    rows: int = 0


def groups(rows: Sequence[Any], before: int | None, finished: bool, chosen: int) -> Iterator[Group]:
    """The groups of a list of steps. `before`: the number of the step before the first row, if there is one.

    `finished`: the run is, so that steps that are pending were not reached. The `chosen` one is never folded away.
    """
    expected = min(1, rows[0].number) if before is None and rows else (before or 0) + 1
    group = Group(False)
    for row in rows:
        unreached = finished and row.status == "Pending" and row.number != chosen
        if group.rows and (unreached != group.unreached or (group.rows == _GROUP and not unreached)):
            yield group
            group = Group(unreached)
        group.unreached = unreached
        if row.number > expected:
            group.items.append((expected, row.number - 1))
        group.items.append(row)
        group.rows += 1
        expected = row.number + 1
    if group.rows:
        yield group
