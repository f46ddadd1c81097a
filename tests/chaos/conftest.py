"""Fault tests: how many rounds each test runs, and the counts that it reports.

The short form is part of every test run. `make chaos` is the long form: the same tests with more rounds, and a table of
their counts.
"""

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
# Fixed in the short form: otherwise a failure might come from a new seed and not from the change under test. The long
# form draws a new seed, to find more failures. CHAOS_SEED sets it in either form.
SEED = int(os.environ.get("CHAOS_SEED") or (secrets.randbits(32) if LONG else 1))


@dataclass(frozen=True)
class Effort:
    """How much a test does. Its random choices come from `random`, which is seeded with SEED and the test's name."""

    random: random.Random

    def times(self, short: int, long: int) -> int:
        """How many rounds: `short`, or `long` in the long form."""
        return long if LONG else short


@dataclass
class Tally:
    """The counts of a test: the evidence that the fault really happened."""

    values: dict[str, Any] = field(default_factory=dict)  # only plain values: pytest-xdist sends them between processes

    def add(self, what: str, count: int = 1) -> None:
        self.values[what] = self.values.get(what, 0) + count

    def maximum(self, what: str, value: float) -> None:
        """Keeps the largest of several measurements."""
        self.values[what] = round(max(self.values.get(what, 0.0), value), 2)

    def record(self, what: str, value: Any) -> None:
        self.values[what] = value


@pytest.fixture
def effort(request) -> Effort:
    print(f"CHAOS_SEED={SEED}")  # pytest shows it with a failure
    return Effort(random.Random(f"{SEED} {request.node.name}"))


@pytest.fixture
def tally(record_property) -> Iterator[Tally]:
    tally = Tally()
    record_property("tally", tally.values)  # by reference: pytest builds the report after the test has filled the dict
    yield tally
    print(tally.values)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints the table of the long form. Writes the same data as JSON to the file that CHAOS_OUTPUT names."""
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
            counts = "; ".join(f"{what} {_formatted(value)}" for what, value in list(row.items())[2:])
            terminalreporter.write_line(f"| `{row['test'].partition('::')[2]}` | {row['outcome']} | {counts} |")
    if path := os.environ.get("CHAOS_OUTPUT"):
        Path(path).write_text(json.dumps({"seed": SEED, "long": LONG, "tests": found}, indent=1) + "\n")


def _formatted(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
