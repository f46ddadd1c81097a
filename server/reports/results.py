"""The page of one test case result, read from the database: the chosen step whole, all others as rows."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from server.database.pool import Pool
from server.database.queries import SQL
from server.errors import CaseNotFound, StepNotFound

ROWS = 2_000  # steps in view
FILES = 100  # a page of the list of files
_OF_STEP = 100  # files, checkpoints and log entries of each kind in a step's panel
_ITERATIONS = 1_000
_ATTEMPTS = 50
_CHECKPOINTS = 500
_MARKS = 1_000  # requests in the timeline
CUT = 20_000  # characters of a text in the page; a step's own page has it whole
WHOLE = 1 << 20  # characters: no text is longer

sql = SQL.results


class At(NamedTuple):
    """Where a step is. It survives a PUT of the steps, which its id does not."""

    iteration: int
    number: int

    def __str__(self) -> str:
        return f"{self.iteration}.{self.number}"

    @classmethod
    def parse(cls, text: str) -> "At | None":
        """`2.17`, or `17` in the first iteration. None for any other text."""
        parts = text.split(".")
        if len(parts) > 2 or not all(part.isascii() and part.isdecimal() and len(part) < 11 for part in parts):
            return None
        at = cls(*map(int, parts)) if len(parts) == 2 else cls(1, int(parts[0]))
        return at if max(at) < 2**31 else None


@dataclass(slots=True)
class Head:
    """A result and its run. Long texts may have been cut, see `Text`."""

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


@dataclass(slots=True)
class Step:
    id: UUID
    iteration: int
    number: int
    step_type: str
    action: str | None
    title: str
    status: str
    duration_ms: int | None
    element_selector: str | None
    element_name: str | None
    element_type: str | None
    input_value: str | None
    expected_value: str | None
    actual_value: str | None
    error_message: str | None
    error_type: str | None
    stack_trace: str | None
    screenshot_path: str | None
    screenshot: UUID | None
    started_at: datetime | None
    completed_at: datetime | None

    @property
    def at(self) -> At:
        return At(self.iteration, self.number)

    @property
    def window(self) -> tuple[datetime | None, datetime | None]:
        """When it ran, as far as is known."""
        ends = self.completed_at
        if self.started_at is not None and (ends is None or ends < self.started_at):
            ends = self.started_at + timedelta(milliseconds=self.duration_ms or 0)
        return self.started_at, ends


@dataclass(slots=True)
class File:
    id: UUID
    type: str
    category: str | None
    step_number: int | None
    iteration: int
    name: str
    size: int
    mime_type: str
    checksum: str
    description: str | None
    captured_at: datetime | None
    uploaded_at: datetime

    @property
    def is_image(self) -> bool:
        return self.mime_type.startswith("image/")


@dataclass(slots=True)
class Checkpoint:
    iteration: int
    number: int
    step_number: int | None
    name: str
    type: str | None
    status: str
    expected_value: str | None
    actual_value: str | None
    message: str | None
    screenshot: UUID | None
    captured_at: datetime | None


@dataclass(slots=True)
class ConsoleEntry:
    level: str
    message: str
    source_url: str | None
    line_number: int | None
    step_number: int | None
    logged_at: datetime | None


@dataclass(slots=True)
class NetworkEntry:
    method: str
    url: str
    status_code: int | None
    resource_type: str | None
    response_size: int | None
    duration_ms: int | None
    error_text: str | None
    step_number: int | None
    started_at: datetime | None

    @property
    def failed(self) -> bool:
        return self.error_text is not None or (self.status_code or 0) >= 400


@dataclass(slots=True)
class Around:
    """The steps that the keys j, k, n and N lead to. `failed`: how many steps failed; `rank`: how many of these come
    before this step, or are it. `image_before`: the screenshot of the step before, in the same iteration."""

    previous: At | None
    next: At | None
    previous_failed: At | None
    next_failed: At | None
    failed: int
    rank: int
    iterated: bool
    image_before: UUID | None


@dataclass(slots=True)
class Panel:
    """One step, whole. `files` also has the screenshot of the step before. `nearest`: the nearest step with a
    screenshot, when this one has none."""

    step: Step
    around: Around
    files: list[File]
    checkpoints: list[Checkpoint]
    console: list[ConsoleEntry]
    network: list[NetworkEntry]
    nearest: At | None
    cut: int

    def file(self, file_id: UUID | None) -> File | None:
        return next((file for file in self.files if file.id == file_id), None)


@dataclass(slots=True)
class Attempt:
    id: UUID
    number: int
    status: str


@dataclass(slots=True)
class Totals:
    files: int
    checkpoints: int
    console: int
    network: int


@dataclass(slots=True)
class Result:
    """`panel` is None for a result without steps. `total`: the steps of the iteration in view; `offset`: how many of
    them come before `rows`. `unknown`: the address names a step that does not exist. `console` and `network`: what was
    logged while the steps in `rows` ran, in milliseconds from the first of them: (at, level), (start, end, failed)."""

    head: Head
    totals: Totals
    attempts: list[Attempt]
    previous_failed: UUID | None
    next_failed: UUID | None
    files: list[File]
    checkpoints: list[Checkpoint]
    panel: Panel | None = None
    unknown: bool = False
    iterations: list[Iteration] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    total: int = 0
    offset: int = 0
    console: list[tuple[int, str]] = field(default_factory=list)
    network: list[tuple[int, int, bool]] = field(default_factory=list)


async def of_case(pool: Pool, case_id: UUID, scope: UUID | None, asked: str | None, files: int, cut: int) -> Result:
    """The page of a result. `asked`: the step in the address. `files`: which page of files. Raises CaseNotFound."""
    async with _snapshot(pool) as connection:
        head = await _head(connection, case_id, scope, cut)
        result = await _surroundings(connection, head, files)
        at = At.parse(asked) if asked else None
        panel = await _panel(connection, case_id, at, CUT) if at else None
        result.unknown = bool(asked) and panel is None
        if panel is None and (row := await connection.fetchrow(sql.first, case_id)):
            panel = await _panel(connection, case_id, At(*row), CUT)
        if panel is not None:
            await _add_rows(connection, case_id, result, panel)
    return result


async def panel(pool: Pool, case_id: UUID, scope: UUID | None, asked: str, cut: int) -> tuple[Head, Panel]:
    """One step of a result. Raises CaseNotFound, StepNotFound."""
    async with _snapshot(pool) as connection:
        head = await _head(connection, case_id, scope, 1)
        at = At.parse(asked)
        found = await _panel(connection, case_id, at, cut) if at else None
    if found is None:
        raise StepNotFound()
    return head, found


@asynccontextmanager
async def _snapshot(pool: Pool) -> AsyncIterator[Any]:
    """A connection whose statements all see the same state: otherwise a page could show half of a concurrent PUT."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        yield connection


async def _head(connection: Any, case_id: UUID, scope: UUID | None, cut: int) -> Head:
    row = await connection.fetchrow(sql.head, case_id, scope, cut)
    if row is None:
        raise CaseNotFound()
    return Head(*row)


async def _surroundings(connection: Any, head: Head, files: int) -> Result:
    attempts = await connection.fetch(sql.attempts, head.project_id, head.test_id, head.run_id, head.browser, _ATTEMPTS)
    previous, following = await connection.fetchrow(sql.failed_tests, head.run_id, head.id, head.test_id)
    return Result(
        head,
        Totals(*await connection.fetchrow(sql.totals, head.id)),
        [Attempt(*row) for row in attempts],
        previous,
        following,
        [File(*row) for row in await connection.fetch(sql.files, head.id, FILES, (files - 1) * FILES)],
        [Checkpoint(*row) for row in await connection.fetch(sql.checkpoints, head.id, None, None, _CHECKPOINTS)],
    )


async def _add_rows(connection: Any, case_id: UUID, result: Result, panel: Panel) -> None:
    """The rows around the chosen step. Page numbers do not depend on the step, so that its neighbours have the same."""
    at = panel.step.at
    result.panel = panel
    result.iterations = [Iteration(*row) for row in await connection.fetch(sql.iterations, case_id, _ITERATIONS)]
    result.total, before = await connection.fetchrow(sql.position, case_id, *at)
    result.offset = before - before % ROWS
    rows = await connection.fetch(sql.rows, case_id, at.iteration, ROWS, result.offset)
    result.rows = [Row(*row) for row in rows]
    times = [moment for row in result.rows for moment in (row.started_at, row.completed_at) if moment is not None]
    if times:
        length = max(1, (max(times) - min(times)).total_seconds() * 1000)
        console = await connection.fetch(sql.console_marks, case_id, at.iteration, min(times), length)
        network = await connection.fetch(sql.network_marks, case_id, min(times), length, _MARKS)
        result.console, result.network = [tuple(row) for row in console], [tuple(row) for row in network]


async def _panel(connection: Any, case_id: UUID, at: At, cut: int) -> Panel | None:
    row = await connection.fetchrow(sql.step, case_id, *at, cut)
    if row is None:
        return None
    step = Step(*row)
    *places, failed, rank, iterated, image_before = await connection.fetchrow(sql.around, case_id, *at)
    previous, following, previous_failed, next_failed = (At(*place) if place else None for place in places)
    around = Around(previous, following, previous_failed, next_failed, failed, rank, iterated, image_before)
    shown = [each for each in (step.screenshot, image_before) if each is not None]
    window = case_id, *at, *step.window
    nearest = None if step.screenshot else await connection.fetchrow(sql.nearest_image, case_id, *at)
    return Panel(
        step,
        around,
        _of(File, await connection.fetch(sql.files_of_step, case_id, step.id, shown, _OF_STEP)),
        _of(Checkpoint, await connection.fetch(sql.checkpoints, case_id, *at, _OF_STEP)),
        _of(ConsoleEntry, await connection.fetch(sql.console_of_step, *window, _OF_STEP)),
        _of(NetworkEntry, await connection.fetch(sql.network_of_step, *window, _OF_STEP)),
        At(*nearest) if nearest else None,
        cut,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _of(kind: Any, rows: Sequence[Any]) -> list[Any]:
    return [kind(*row) for row in rows]
