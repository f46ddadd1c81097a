"""How often a fault happens, and what was counted meanwhile. The short form is part of every run of the tests;
`make chaos` is the long one: the same tests, more often, and their counts as a table."""

import json
import os
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

LONG = os.environ.get("CHAOS") == "long"
# Always the same in the short form, that a failure is of the change; given or new in the long one, to find more.
SEED = int(os.environ.get("CHAOS_SEED") or (secrets.randbits(32) if LONG else 1))


@dataclass(frozen=True)
class Effort:
    """How much a test does. What it does is drawn from `random`, which the seed and the test's name decide."""

    random: random.Random

    def times(self, short: int, long: int) -> int:
        """The count of this run."""
        return long if LONG else short


@dataclass
class Tally:
    """What a test counted: the evidence that it did something."""

    figures: dict[str, Any] = field(default_factory=dict)  # plain values: they go from process to process

    def add(self, what: str, count: int = 1) -> None:
        self.figures[what] = self.figures.get(what, 0) + count

    def most(self, what: str, value: float) -> None:
        """The largest value of something that is measured more than once."""
        self.figures[what] = round(max(self.figures.get(what, 0.0), value), 2)

    def note(self, what: str, value: Any) -> None:
        self.figures[what] = value


@pytest.fixture
def effort(request) -> Effort:
    print(f"CHAOS_SEED={SEED}")  # pytest shows it with a failure
    return Effort(random.Random(f"{SEED} {request.node.name}"))


@pytest.fixture
def tally(record_property) -> Iterator[Tally]:
    tally = Tally()
    record_property("tally", tally.figures)  # by reference: the report is made after the test has filled it
    yield tally
    print(tally.figures)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of the long form, and the same as JSON where CHAOS_OUTPUT says."""
    found = [
        {"test": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 1), **properties["tally"]}
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call" and "tally" in (properties := dict(report.user_properties))
    ]
    if LONG and found:
        terminalreporter.section(f"CHAOS_SEED={SEED}")
        terminalreporter.write_line("| fault | outcome | counts |\n|---|---|---|")
        for row in found:
            counts = "; ".join(f"{what} {_written(value)}" for what, value in list(row.items())[2:])
            terminalreporter.write_line(f"| `{row['test'].partition('::')[2]}` | {row['outcome']} | {counts} |")
    if path := os.environ.get("CHAOS_OUTPUT"):
        Path(path).write_text(json.dumps({"seed": SEED, "long": LONG, "tests": found}, indent=1) + "\n")


def _written(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
