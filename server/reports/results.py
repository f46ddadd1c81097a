"""The page of one test case result, read from the database: the chosen step whole, all others as rows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from server.compare import missing
from server.compare.runs import Outcome
from server.database.queries import SQL
from server.database.reads import Reads
from server.errors import CaseNotFound, StepNotFound
from server.reports import panels
from server.reports.panels import At, Checkpoint, ConsoleEntry, File, NetworkEntry, Panel, listed

ROWS = 2_000  # steps in view
ENTRIES = 500  # of each log in view
FILES = 100  # a page of the list of files
_ITERATIONS = 1_000
_ATTEMPTS = 50
_CHECKPOINTS = 500
_CHECKPOINT_TEXT = 256 << 10  # characters
OUTLINE = 5_000  # steps that are checked for what is missing
_ROWS_OF_VIDEO = 500
_DEEPEST = 4
_MARKS = 1_000  # requests in the timeline
CUT = 20_000  # characters of a text in the page; a step's own page has it whole
WHOLE = 1 << 20  # characters: no text is longer

sql = SQL.results


@dataclass(slots=True)
class Head:
    """A result and its run. Long texts are cut."""

    id: UUID
    name: str
    test_id: str
    status: str
    duration_ms: int | None
    attempt: int
    error_message: str | None
    error_type: str | None
    stack_trace: str | None
    browser: str | None
    tags: list[str]
    metadata: str
    started_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    project_id: UUID
    project: str
    run_id: UUID
    run_name: str
    run_key: str | None
    run_status: str
    branch: str | None
    commit_sha: str | None
    environment: str | None
    build_url: str | None
    platform: str | None
    triggered_by: str | None
    run_started_at: datetime
    error_fingerprint: str | None

    @property
    def finished(self) -> bool:
        """Whether nothing more is expected."""
        return self.run_status != "Running"

    def metadata_items(self) -> list[tuple[str, str]]:
        """Keys and values as texts; values that are not text as JSON."""
        items = msgspec.json.decode(self.metadata, type=dict[str, Any])
        return [(key, _text(each)) for key, each in items.items()]


@dataclass(slots=True)
class Iteration:
    number: int
    steps: int
    status: str
    opens: int


@dataclass(slots=True)
class Row:
    number: int
    status: str
    duration_ms: int | None
    title: str
    image: UUID | None
    has_error: bool
    started_at: datetime | None
    completed_at: datetime | None
    parent: int | None = None
    depth: int = 0  # how many steps of the list it is inside of, at most 4


@dataclass(slots=True)
class Attempt:
    id: UUID
    number: int
    status: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address asks for: a step, which page of files and of logs (0: no logs), and a window of time in
    milliseconds from the first step in view. `only_images`: of the files only these, and no logs: what an evidence link
    covers."""

    step: str | None = None
    files: int = 1
    logs: int = 0
    window: tuple[int, int] | None = None
    only_images: bool = False


@dataclass(slots=True)
class Logs:
    console: list[ConsoleEntry]
    network: list[NetworkEntry]
    page: int
    more: bool
    window: tuple[int, int] | None


@dataclass(slots=True)
class Totals:
    """`left_out`: files that the page does not list."""

    files: int
    left_out: int
    checkpoints: int
    console: int
    network: int


@dataclass(slots=True)
class Result:
    """`panel` is None for a result without steps. `unknown`: the address names a step that does not exist.

    `total`: the steps of the iteration in view; `offset`: how many of them come before `rows`; `earlier` and `later`:
    the numbers of the nearest steps outside `rows`. `console` and `network`: what was logged while the steps in `rows`
    ran, in milliseconds from `starts_at`: (at, level), (start, end, failed).
    """

    head: Head
    totals: Totals
    attempts: list[Attempt]
    previous_failed: UUID | None
    next_failed: UUID | None
    files: list[File]
    checkpoints: list[Checkpoint]
    outline: list[missing.Step]
    panel: Panel | None = None
    unknown: bool = False
    iterations: list[Iteration] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    total: int = 0
    offset: int = 0
    earlier: int | None = None
    later: int | None = None
    console: list[tuple[int, str]] = field(default_factory=list)
    network: list[tuple[int, int, bool]] = field(default_factory=list)
    starts_at: datetime | None = None
    logs: Logs | None = None
    quiet: timedelta | None = None  # how long nothing has been sent to the run, if that is long

    @property
    def length(self) -> int:
        """Characters of all its texts, without the step in view."""
        logged = [*self.logs.console, *self.logs.network] if self.logs else []
        return panels.length(self.head, *self.checkpoints, *logged)

    def outcome(self) -> Outcome:
        """The result as its marks need it."""
        head = self.head
        again = head.status == "Passed" and any(each.status == "Failed" for each in self.attempts)
        status: Any = head.status
        return Outcome(head.id, head.test_id, head.browser, head.name, status, head.duration_ms, flaky_here=again)


async def of_case(reads: Reads, case_id: UUID, scope: UUID | None, asked: Asked, cut: int) -> Result:
    """The page of a result. Raises CaseNotFound."""
    async with _snapshot(reads) as connection:
        head = await _head(connection, case_id, scope, cut)
        result = await _surroundings(connection, head, asked)
        at = At.parse(asked.step) if asked.step else None
        only = asked.only_images
        panel = await panels.of_step(connection, case_id, at, CUT, only) if at else None
        result.unknown = bool(asked.step) and panel is None
        if panel is None and (row := await connection.fetchrow(sql.first, case_id)):
            panel = await panels.of_step(connection, case_id, At(*row), CUT, only)
        if panel is not None:
            await _add_rows(connection, case_id, result, panel)
            if not only:
                await _add_log_marks(connection, result)
        if asked.logs:
            result.logs = await _logs(connection, result, asked)
    return result


@dataclass(slots=True)
class Progress:
    """What changes of a result while its run is running. `steps`: of all iterations."""

    head: Head
    attempts: list[Attempt]
    steps: int


async def progress(where: Any, case_id: UUID, scope: UUID | None) -> Progress:
    """Raises CaseNotFound."""
    head = await _head(where, case_id, scope, 1)
    return Progress(head, await _attempts(where, head), await where.fetchval(sql.step_count, case_id))


async def panel(
    reads: Reads, case_id: UUID, scope: UUID | None, asked: str, cut: int, only_images: bool = False
) -> tuple[Head, Panel]:
    """One step of a result. `only_images`: as of Asked. Raises CaseNotFound, StepNotFound."""
    async with _snapshot(reads) as connection:
        head = await _head(connection, case_id, scope, 1)
        at = At.parse(asked)
        found = await panels.of_step(connection, case_id, at, cut, only_images) if at else None
    if found is None:
        raise StepNotFound()
    return head, found


async def _logs(connection: Any, result: Result, asked: Asked) -> Logs:
    """The log entries that the address asks for, a page of them."""
    case_id, start = result.head.id, result.starts_at
    window: tuple[datetime | None, ...] = (None, None)
    if asked.window is not None and start is not None:
        window = tuple(start + timedelta(milliseconds=each) for each in asked.window)
    page = case_id, *window, ENTRIES + 1, (asked.logs - 1) * ENTRIES
    console = listed(ConsoleEntry, await connection.fetch(sql.console, *page))
    network = listed(NetworkEntry, await connection.fetch(sql.network, *page))
    more = max(len(console), len(network)) > ENTRIES
    return Logs(console[:ENTRIES], network[:ENTRIES], asked.logs, more, asked.window if window[0] else None)


@asynccontextmanager
async def _snapshot(reads: Reads) -> AsyncIterator[Any]:
    """A connection whose statements all see the same state: otherwise a page could show half of a concurrent PUT."""
    async with reads.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        yield connection


async def head_of(reads: Reads, case_id: UUID, scope: UUID | None) -> Head:
    """The result and its run, without long texts. Raises CaseNotFound."""
    return await _head(reads, case_id, scope, 1)


async def _head(connection: Any, case_id: UUID, scope: UUID | None, cut: int) -> Head:
    row = await connection.fetchrow(sql.head, case_id, scope, cut)
    if row is None:
        raise CaseNotFound()
    return Head(*row)


async def _attempts(connection: Any, head: Head) -> list[Attempt]:
    same = head.project_id, head.test_id, head.run_id, head.browser
    return listed(Attempt, await connection.fetch(sql.attempts, *same, _ATTEMPTS))


async def _surroundings(connection: Any, head: Head, asked: Asked) -> Result:
    previous, following = await connection.fetchrow(sql.failed_tests, head.run_id, head.id, head.test_id)
    return Result(
        head,
        Totals(*await connection.fetchrow(sql.totals, head.id, asked.only_images)),
        await _attempts(connection, head),
        previous,
        following,
        listed(File, await connection.fetch(sql.files, head.id, asked.only_images, FILES, (asked.files - 1) * FILES)),
        _fitting(listed(Checkpoint, await connection.fetch(sql.checkpoints, head.id, None, None, _CHECKPOINTS))),
        listed(missing.Step, await connection.fetch(sql.outline, head.id, OUTLINE)),
    )


async def _add_rows(connection: Any, case_id: UUID, result: Result, panel: Panel) -> None:
    """The rows around the chosen step. Page numbers do not depend on the step, so that its neighbours have the same."""
    at = panel.step.at
    result.panel = panel
    result.iterations = listed(Iteration, await connection.fetch(sql.iterations, case_id, _ITERATIONS))
    result.total, before = await connection.fetchrow(sql.position, case_id, *at)
    result.offset = before - before % ROWS
    first = 1 if result.offset else 0  # one row before those in view, and one after them
    rows = listed(Row, await connection.fetch(sql.rows, case_id, at.iteration, ROWS + 1 + first, result.offset - first))
    _set_depths(rows)
    result.rows = rows[first : ROWS + first]
    result.earlier = rows[0].number if first else None
    result.later = rows[-1].number if len(rows) > ROWS + first else None
    result.starts_at = min(_times(result), default=None)


async def _add_log_marks(connection: Any, result: Result) -> None:
    """What was logged while the steps in view ran."""
    if result.starts_at is None or result.panel is None:
        return
    case_id, start = result.head.id, result.starts_at
    length = max(1, (max(_times(result)) - start).total_seconds() * 1000)
    console = await connection.fetch(sql.console_marks, case_id, result.panel.step.iteration, start, length)
    network = await connection.fetch(sql.network_marks, case_id, start, length, _MARKS)
    result.console, result.network = [tuple(row) for row in console], [tuple(row) for row in network]


def _times(result: Result) -> list[datetime]:
    return [moment for row in result.rows for moment in (row.started_at, row.completed_at) if moment is not None]


def _fitting(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """As many of them as have _CHECKPOINT_TEXT characters: 500 checkpoints may have three million."""
    size = 0
    for at, each in enumerate(checkpoints):
        size += sum(len(text or "") for text in (each.name, each.expected_value, each.actual_value, each.message))
        if size > _CHECKPOINT_TEXT:
            return checkpoints[:at]
    return checkpoints


async def rows_of(where: Any, case_id: UUID, iteration: int) -> list[Row]:
    """The first steps of an iteration."""
    return listed(Row, await where.fetch(sql.rows, case_id, iteration, _ROWS_OF_VIDEO, 0))


def _set_depths(rows: list[Row]) -> None:
    """A parent has a smaller number, so its depth is known; one that is not in the list counts as none."""
    known: dict[int | None, int] = {None: -1}
    for row in rows:
        row.depth = min(known.get(row.parent, -1) + 1, _DEEPEST)
        known[row.number] = row.depth


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
