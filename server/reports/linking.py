"""Decides which steps show new screenshots, and to which step each new artifact belongs. Pure: no I/O.

The rule is that of steps.link in sql/steps.sql, which decides again for steps that are written.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from uuid import UUID


class New(Protocol):
    """A new artifact. `link_name`: see names.py."""

    @property
    def id(self) -> UUID: ...
    @property
    def test_case_result_id(self) -> UUID: ...
    @property
    def artifact_type(self) -> str: ...
    @property
    def artifact_category(self) -> str | None: ...
    @property
    def iteration_number(self) -> int: ...
    @property
    def step_number(self) -> int | None: ...
    @property
    def file_name(self) -> str: ...
    @property
    def link_name(self) -> str | None: ...


class Step(NamedTuple):
    """A step that may match a new artifact: a row of steps.matching. `name`: the base name of its screenshot_path."""

    case_id: UUID
    id: UUID
    iteration: int
    number: int
    name: str | None
    pinned: bool
    shown: UUID | None  # the screenshot that it shows, whose columns follow
    shown_iteration: int | None
    shown_number: int | None
    shown_name: str | None
    shown_category: str | None


@dataclass(slots=True)
class Links:
    """The steps that show a new screenshot now, with its id; those of them that showed another one before, by test case
    result; and the step that each new artifact belongs to."""

    shown: dict[UUID, UUID] = field(default_factory=dict)
    displaced: dict[UUID, list[UUID]] = field(default_factory=dict)
    owners: dict[UUID, UUID] = field(default_factory=dict)


_Key = tuple[int, int, UUID]  # the screenshot with the lowest key is shown
_RANKS = {"error": 0, "after": 1, None: 2}


def names_of(new: Iterable[New]) -> list[str]:
    """The names of the new screenshots, which a step's screenshot_path may have."""
    return [each.link_name or each.file_name for each in new if each.artifact_type == "screenshot"]


def choose(steps: Iterable[Step], new: Sequence[New]) -> Links:
    """What `steps` show once `new` is stored. They are all steps with the number or the name of a new artifact. What
    else a step could show is stored already, and the best of it is what it shows."""
    named: dict[tuple[UUID, int, str | None], _Key] = {}
    numbered: dict[tuple[UUID, int, int | None], _Key] = {}
    for each in new:
        if each.artifact_type == "screenshot":
            place, rank = (each.test_case_result_id, each.iteration_number), _RANKS.get(each.artifact_category, 3)
            _keep_best(named, (*place, each.link_name or each.file_name), (0, rank, each.id))
            _keep_best(numbered, (*place, each.step_number), (1, rank, each.id))
    links, at = Links(), dict[tuple[UUID, int, int | None], UUID]()
    for step in sorted(steps, key=lambda step: step.id, reverse=True):
        place = step.case_id, step.iteration
        at[(*place, step.number)] = step.id
        best = named.get((*place, step.name)) or numbered.get((*place, step.number))
        if best is None or step.pinned or (step.shown is not None and _shown(step, step.shown) < best):
            continue
        links.shown[step.id] = best[2]
        links.owners[best[2]] = step.id  # the first step that shows it, since the last one comes first
        if step.shown is not None:
            links.displaced.setdefault(step.case_id, []).append(step.id)
    for each in new:
        if owner := at.get((each.test_case_result_id, each.iteration_number, each.step_number)):
            links.owners[each.id] = owner
    return links


def _keep_best(found: dict[Any, _Key], place: Any, key: _Key) -> None:
    if key < found.get(place, (9, 0, key[2])):
        found[place] = key


def _shown(step: Step, shown: UUID) -> _Key:
    """The key of the screenshot that a step shows. One that matches no more, by an older rule, is last."""
    way = 2
    if step.shown_iteration == step.iteration:
        way = 0 if step.shown_name == step.name else 1 if step.shown_number == step.number else 2
    return way, _RANKS.get(step.shown_category, 3), shown
