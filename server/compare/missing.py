"""What is missing in a result, or contradicts itself: a page says it instead of showing an empty box."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Literal

Kind = Literal[
    "never_arrived", "not_sent_yet", "steps_never_came", "iterations_never_came", "not_reached", "no_steps",
    "no_failed_step", "several_failed_steps", "ends_before_start",
]  # fmt: skip
_MOST = 100  # findings of one kind


@dataclass(frozen=True, slots=True)
class Step:
    iteration: int
    number: int
    status: str
    named: str | None = None  # the path of its screenshot, as the client sent it
    shown: bool = False  # whether the screenshot is there
    started_at: datetime | None = None
    completed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """One finding. `iteration` and `first` to `last` say at which steps; `count` how many there are of them; `name` is
    the file that a client named."""

    kind: Kind
    count: int = 1
    iteration: int | None = None
    first: int | None = None
    last: int | None = None
    name: str | None = None


def missing(steps: Sequence[Step], status: str, finished: bool) -> list[Missing]:
    """What is missing in a result with this status. `finished`: whether its run is: until then, more may arrive.

    `steps` are in the order of iterations and numbers. At most 100 findings of each kind.
    """
    if not steps:
        return [Missing("no_steps", 0)] if finished and status in ("Passed", "Failed") else []
    found = [*_pictures(steps, finished), *_gaps(steps), *_iterations(steps)]
    if finished:
        found += _pending(steps)
    found += _failures(steps, status)
    found += _clocks(steps)
    return [each for _, same in groupby(found, lambda each: each.kind) for each in list(same)[:_MOST]]


def nearest_picture(steps: Sequence[Step], at: int) -> int | None:
    """The position of the step with a screenshot that is nearest to `at`, an earlier one first."""
    for distance in range(1, len(steps)):
        for other in (at - distance, at + distance):
            if 0 <= other < len(steps) and steps[other].shown:
                return other
    return None


def _pictures(steps: Sequence[Step], finished: bool) -> Iterator[Missing]:
    kind: Kind = "never_arrived" if finished else "not_sent_yet"
    for step in steps:
        if step.named and not step.shown:
            yield Missing(kind, 1, step.iteration, step.number, step.number, step.named)


def _gaps(steps: Sequence[Step]) -> Iterator[Missing]:
    """Numbers between those that came. Numbers may start with 0 or 1."""
    for iteration, same in groupby(steps, lambda step: step.iteration):
        expected = None
        for step in same:
            before = min(step.number, 1) if expected is None else expected
            if step.number > before:
                yield Missing("steps_never_came", step.number - before, iteration, before, step.number - 1)
            expected = step.number + 1


def _iterations(steps: Sequence[Step]) -> Iterator[Missing]:
    expected = 1
    for iteration in sorted({step.iteration for step in steps}):
        if iteration > expected:
            yield Missing("iterations_never_came", iteration - expected, None, expected, iteration - 1)
        expected = iteration + 1


def _pending(steps: Sequence[Step]) -> Iterator[Missing]:
    for (iteration, pending), same in groupby(steps, lambda step: (step.iteration, step.status == "Pending")):
        numbers = [step.number for step in same]
        if pending:
            yield Missing("not_reached", len(numbers), iteration, numbers[0], numbers[-1])


def _failures(steps: Sequence[Step], status: str) -> Iterator[Missing]:
    failed = [step for step in steps if step.status == "Failed"]
    if status == "Failed" and not failed:
        yield Missing("no_failed_step", 0)
    if len(failed) > 1:
        yield Missing("several_failed_steps", len(failed), failed[0].iteration, failed[0].number, failed[0].number)


def _clocks(steps: Sequence[Step]) -> Iterator[Missing]:
    wrong = [step for step in steps if step.started_at and step.completed_at and step.completed_at < step.started_at]
    if wrong:
        yield Missing("ends_before_start", len(wrong), wrong[0].iteration, wrong[0].number, wrong[-1].number)
