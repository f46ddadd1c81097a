"""One step of a result, whole: what the stage of the result's page shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from server.database.queries import SQL

_FAILED = 1_000  # results of a run that are looked at
_MOST = 100  # files, checkpoints and log entries of each kind

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
    """`number`: which entry of the log it is, from 1; 0 when that was not asked for."""

    level: str
    message: str
    source_url: str | None
    line_number: int | None
    step_number: int | None
    logged_at: datetime | None
    number: int = 0


@dataclass(slots=True)
class NetworkEntry:
    """`number`: as of ConsoleEntry."""

    method: str
    url: str
    status_code: int | None
    resource_type: str | None
    response_size: int | None
    duration_ms: int | None
    error_text: str | None
    step_number: int | None
    started_at: datetime | None
    number: int = 0

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
    """One step, whole up to `cut` characters of each text. `files` also has the screenshot of the step before.
    `nearest`: the nearest step with a screenshot, when this one has none. `same_selector`: in how many tests of the run
    a step with the selector of this one failed, when this one did."""

    step: Step
    around: Around
    files: list[File]
    checkpoints: list[Checkpoint]
    console: list[ConsoleEntry]
    network: list[NetworkEntry]
    nearest: At | None
    cut: int
    same_selector: int = 0

    @property
    def length(self) -> int:
        """Characters of all its texts."""
        return length(self.step, *self.checkpoints, *self.console, *self.network)

    def file(self, file_id: UUID | None) -> File | None:
        return next((file for file in self.files if file.id == file_id), None)


def length(*things: Any) -> int:
    """Characters of all texts of these: pages of many are drawn in a thread."""
    values = (getattr(each, name) for each in things for name in each.__slots__)
    return sum(len(value) for value in values if isinstance(value, str))


async def of_step(connection: Any, case_id: UUID, at: At, cut: int, only_images: bool = False) -> Panel | None:
    """The step at this place; None when there is none. Of a text longer than `cut`, `cut + 1` characters are read.
    `only_images`: of the files only these, and no logs."""
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
        listed(File, await connection.fetch(sql.files_of_step, case_id, step.id, shown, only_images, _MOST)),
        listed(Checkpoint, await connection.fetch(sql.checkpoints, case_id, *at, _MOST)),
        [] if only_images else listed(ConsoleEntry, await connection.fetch(sql.console_of_step, *window, _MOST)),
        [] if only_images else listed(NetworkEntry, await connection.fetch(sql.network_of_step, *window, _MOST)),
        At(*nearest) if nearest else None,
        cut,
        0 if only_images else await _same_selector(connection, case_id, step),
    )


async def _same_selector(connection: Any, case_id: UUID, step: Step) -> int:
    if step.status != "Failed" or not step.element_selector:
        return 0
    found: int = await connection.fetchval(sql.tests_failed_at, case_id, step.id, _FAILED)
    return found


def listed(kind: Any, rows: Sequence[Any]) -> list[Any]:
    """Rows of the database as values of this kind."""
    return [kind(*row) for row in rows]
