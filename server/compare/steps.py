"""The steps of a result as the comparison needs them, and which log entries belong to which step."""

import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from server.compare.stable import stable

# hard: explains a failure. soft: may explain one. grey: ids, times or numbers that differ in every run, or no reason.
Weight = Literal["hard", "soft", "grey"]
# How Chromium repeats a failed request in the console, without its address.
_ECHO = "Failed to load resource"
_DECORATION = {"image", "font", "media", "stylesheet", "ping", "beacon", "texttrack", "manifest", "prefetch"}


@dataclass(frozen=True, slots=True)
class Step:
    iteration: int
    number: int
    step_type: str
    status: str
    action: str | None = None
    description: str | None = None
    selector: str | None = None
    element_name: str | None = None
    input_value: str | None = None
    expected_value: str | None = None
    actual_value: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    duration_ms: int | None = None
    picture: str | None = None  # the checksum of its screenshot
    started_at: datetime | None = None

    @property
    def label(self) -> str:
        """What people call the step."""
        what, name = self.action or self.step_type, self.element_name
        return self.description or (f"{what} {name}" if name and name not in what else what)


@dataclass(frozen=True, slots=True)
class Entry:
    """A failed request or an error in the console. `text` is what a reader sees: `GET https://…/basket: HTTP 503`."""

    kind: Literal["network", "console"]
    text: str
    iteration: int = 1
    step_number: int | None = None
    moment: datetime | None = None
    status_code: int | None = None
    resource_type: str | None = None

    @property
    def weight(self) -> Weight:
        """How well it explains a failure. That the server failed is seldom harmless. Requests that are cancelled or not
        found, and errors in the console, often are; a missing picture nearly always."""
        if self.kind == "network" and (self.status_code or 0) >= 500:
            return "hard"
        if self.text.startswith(_ECHO) and "status of 5" not in self.text:
            return "grey"
        return "grey" if (self.resource_type or "").lower() in _DECORATION else "soft"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two results. The steps are in the order of iterations and numbers."""

    steps: Sequence[Step]
    entries: Sequence[Entry] = ()


class TooLong(Exception):
    """The texts of the two results are too long to be compared within the time limit."""


class Texts:
    """stable() of each text, computed once. Raises TooLong after `seconds`: a result may have a gigabyte of texts."""

    def __init__(self, seconds: float) -> None:
        self._known: dict[str, str] = {}
        self._until = time.monotonic() + seconds

    def __call__(self, text: str | None) -> str:
        if not text:
            return ""
        known = self._known.get(text)
        if known is None:
            if time.monotonic() > self._until:
                raise TooLong()
            known = self._known[text] = stable(text)
        return known


def key_of(step: Step, texts: Texts) -> tuple[str, str, str]:
    """Two steps with the same key are the same step in two results."""
    return step.step_type, texts(step.action or step.description), texts(step.selector or step.element_name)


def by_step(side: Side) -> list[list[Entry]]:
    """For each step, its log entries: those with its number, else those logged from its start to that of the next step.

    Entries that have neither a step nor a time, and those before the first step, belong to none.
    """
    found: list[list[Entry]] = [[] for _ in side.steps]
    positions = {(step.iteration, step.number): at for at, step in enumerate(side.steps)}
    timed = sorted((step.started_at, at) for at, step in enumerate(side.steps) if step.started_at is not None)
    starts = [moment for moment, _ in timed]
    for entry in side.entries:
        at = None if entry.step_number is None else positions.get((entry.iteration, entry.step_number))
        if at is None and entry.moment is not None and (before := bisect_right(starts, entry.moment)):
            at = timed[before - 1][1]
        if at is not None:
            found[at].append(entry)
    return found
