"""The results of a run: rows with their verdicts, the machine, the printed tables, and the JSON file."""

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.processes import CHECKOUT

Values = Sequence[tuple[float, float]]  # for each round: (server, its PostgreSQL)
SERVER, POSTGRES, WHOLE = "server", "PostgreSQL", "whole"  # both together


@dataclass
class Row:
    """One line of the table: the values of each round, of reportd and of what it is compared with.

    PostgreSQL's values are separate, in the same unit.
    """

    name: str
    figure: str
    unit: str
    compared: str
    goal: float | None = None
    at_most: bool = True  # the ratio must be at most the goal; False: at least
    inverted: bool = False  # the ratio is theirs over ours
    part: str = SERVER  # of which CPU time the ratio is
    ours: list[float] = field(default_factory=list)
    ours_postgres: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    theirs_postgres: list[float] = field(default_factory=list)
    missing: str = ""  # the reason when it is not measured
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The ratio of the medians. Without a comparison, the median itself."""
        if not self.ours:
            return None
        ours = self._median(self.ours, self.ours_postgres)
        if not self.theirs:
            return ours if not self.compared else None
        theirs = self._median(self.theirs, self.theirs_postgres)
        upper, lower = (theirs, ours) if self.inverted else (ours, theirs)
        return upper / lower if lower else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal or a value."""
        if self.goal is None or self.ratio is None:
            return None
        return self.ratio <= self.goal if self.at_most else self.ratio >= self.goal

    def _median(self, server: list[float], postgres: list[float]) -> float:
        values = {SERVER: server, POSTGRES: postgres, WHOLE: list(map(sum, zip(server, postgres, strict=True)))}
        return statistics.median(values[self.part])

    def fill(self, ours: Values, theirs: Values = ()) -> "Row":
        """Sets the values of all rounds."""
        self.ours, self.ours_postgres = [pair[0] for pair in ours], [pair[1] for pair in ours]
        self.theirs, self.theirs_postgres = [pair[0] for pair in theirs], [pair[1] for pair in theirs]
        return self


@dataclass
class Point:
    """A line of the growth table: what grows, and the medians of all rounds."""

    series: str
    value: str
    mbs: float = 0.0  # 10⁶ bytes of requests per second
    per_gb: float = 0.0  # CPU seconds per 10⁹ bytes of requests
    postgres_per_gb: float = 0.0
    p50: float = 0.0  # milliseconds
    p99: float = 0.0
    busy: float = 0.0  # CPU use of the load generator as a share of one core: near 1 it limits the throughput
    missing: str = ""


@dataclass
class Results:
    """Everything that a run measured."""

    machine: dict[str, str]
    commit: str
    date: str
    quick: bool
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    growth: list[Point] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """The content of the JSON file: every row with its rounds, ratio and verdict."""
        rows = [{**asdict(row), "ratio": row.ratio, "met": row.met} for row in self.rows]
        return {**asdict(self), "rows": rows}

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.plain(), indent=1, ensure_ascii=False) + "\n", "utf-8")


def new(quick: bool) -> Results:
    """Empty results, with the commit and the machine."""
    return Results(_machine(), _commit(), datetime.now(UTC).isoformat(timespec="seconds"), quick)


HEAD = ("measured", "ours", "compared with", "ratio", "goal", "")


def cells(row: Row) -> tuple[str, ...]:
    """The cells of a row in the table."""
    goal = "" if row.goal is None else f"{'≤' if row.at_most else '≥'} {row.goal:g}"
    ours = f"{_value_text(row.part, row.ours, row.ours_postgres)} {row.unit}" if row.ours else ""
    if row.missing:
        return row.figure, ours, f"{row.compared}: {row.missing}".removeprefix(": "), "", goal, "not measured"
    theirs = _value_text(row.part, row.theirs, row.theirs_postgres) if row.theirs else ""
    compared = f"{row.compared} {theirs}".strip()
    ratio = "" if row.ratio is None or not row.theirs else f"{row.ratio:.{2 if row.ratio >= 0.1 else 4}f}"
    verdict = {None: "", True: "met", False: "missed"}[row.met]
    return row.figure, ours, compared, ratio, goal, verdict


GROWTH_HEAD = ("", "", "MB/s", "CPU s/GB", "PostgreSQL", "p50 ms", "p99 ms", "")


def point_cells(point: Point) -> tuple[str, ...]:
    """The cells of a point in the growth table."""
    if point.missing:
        return point.series, point.value, "", "", "", "", "", point.missing
    numbers = [f"{point.mbs:.0f}", f"{point.per_gb:.2f}", f"+{point.postgres_per_gb:.2f}"]
    limit = "limited by the load generator" if point.busy > 0.9 else ""
    return point.series, point.value, *numbers, f"{point.p50:.1f}", f"{point.p99:.1f}", limit


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(line[i]) for line in [head, *rows]) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])


def tables(rows: Sequence[Row]) -> list[str]:
    """The table of the rows with a goal, and that of the others; without those that have no row."""
    halves = ([row for row in rows if (row.goal is None) is other] for other in (False, True))
    return [table(HEAD, [cells(row) for row in half]) for half in halves if half]


def report(found: Results) -> str:
    """The printed report: the rows with a goal, the other rows, growth, notes and machine."""
    parts = tables(found.rows)
    if found.growth:
        parts.append(table(GROWTH_HEAD, [point_cells(point) for point in found.growth]))
    machine = ", ".join(f"{name} {value}" for name, value in found.machine.items())
    notes = [*found.notes, f"commit {found.commit}, {found.seconds:.0f} s; {machine}"]
    return "\n\n".join([*parts, "\n".join(notes)])


def _value_text(part: str, own: list[float], postgres: list[float]) -> str:
    """The values that the ratio compares. What it leaves out is in brackets."""
    text, share = _number(statistics.median(own)), _number(statistics.median(postgres or [0.0]))
    if part == POSTGRES:
        return share
    if share == "0":
        return text
    return f"{text} + {share}" if part == WHOLE else f"{text} (+{share})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _machine() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version()
        + ("" if sys.implementation.name == "cpython" else platform.python_implementation()),
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
