"""Checkpoints: named verifications within a test case."""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.context import CALLER, POOL, SQL
from server.errors import CaseNotFound, Invalid, Problem
from server.http import reply
from server.http.fields import FreeText, Instant, Moment, Natural, Page, Positive, RequiredText, Status, Text50
from server.http.idempotency import once
from server.http.lock import lock_case
from server.http.reply import Response
from server.ids import bucket_of, new_ids


class NewCheckpoint(Struct):
    checkpoint_number: Natural
    name: RequiredText
    checkpoint_type: Text50 | None = None
    status: Status | None = None
    expected_value: FreeText | None = None
    actual_value: FreeText | None = None
    message: FreeText | None = None
    step_number: Natural | None = None
    iteration_number: Positive | None = None
    screenshot_artifact_id: UUID | None = None
    captured_at: Instant | None = None


class NewCheckpoints(Struct):
    checkpoints: Annotated[list[NewCheckpoint], Meta(max_length=10_000)]


class CheckpointFilter(Page):
    step_number: Natural | None = None
    iteration_number: Positive | None = None


@dataclass(slots=True)
class Checkpoint:
    id: UUID
    test_case_result_id: UUID
    iteration_number: int
    checkpoint_number: int
    step_number: int | None
    name: str
    checkpoint_type: str | None
    status: Status
    expected_value: str | None
    actual_value: str | None
    message: str | None
    screenshot_artifact_id: UUID | None
    captured_at: Moment | None
    created_at: Moment


@dataclass(slots=True)
class CheckpointPage:
    total: int
    page: int
    per_page: int
    items: list[Checkpoint]


@dataclass(slots=True)
class Appended:
    created: int


async def create_many(request: web.Request, case_id: UUID, body: NewCheckpoints) -> Response:
    """Appends checkpoints; 409 when one with the same iteration and number exists."""
    _refuse_twins(body.checkpoints)

    async def work(connection: Any) -> web.Response:
        await lock_case(request, connection, case_id)
        await _refuse_foreign_screenshots(request, connection, case_id, body.checkpoints)
        items = body.checkpoints
        await connection.execute(
            request.app[SQL].checkpoints.insert_many,
            case_id,
            new_ids(bucket_of(case_id), len(items)),
            [item.iteration_number or 1 for item in items],
            [item.checkpoint_number for item in items],
            [item.step_number for item in items],
            [item.name for item in items],
            [item.checkpoint_type for item in items],
            [item.status or "Pending" for item in items],
            [item.expected_value for item in items],
            [item.actual_value for item in items],
            [item.message for item in items],
            [item.screenshot_artifact_id for item in items],
            [item.captured_at for item in items],
        )
        return reply.created(Appended(len(items)))

    return await once(request, work)


async def index(request: web.Request, case_id: UUID, query: CheckpointFilter) -> Response:
    """The checkpoints of a test case, in the order sent."""
    sql, filters = request.app[SQL].checkpoints, (query.step_number, query.iteration_number)
    async with request.app[POOL].acquire() as connection:
        total = await connection.fetchval(sql.count_for_case, case_id, request[CALLER].project_id, *filters)
        if total is None:
            raise CaseNotFound()
        rows = await connection.fetch(sql.for_case, case_id, *filters, query.size, query.offset)
    return reply.ok(CheckpointPage(total, query.number, query.size, [Checkpoint(*row) for row in rows]))


async def _refuse_foreign_screenshots(
    request: web.Request, connection: Any, case_id: UUID, items: list[NewCheckpoint]
) -> None:
    wanted = [item.screenshot_artifact_id for item in items if item.screenshot_artifact_id is not None]
    own = {row["id"] for row in await connection.fetch(request.app[SQL].checkpoints.own_artifacts, case_id, wanted)}
    for i, item in enumerate(items):
        if item.screenshot_artifact_id is not None and item.screenshot_artifact_id not in own:
            path = f"checkpoints[{i}].screenshot_artifact_id"
            raise Invalid(Problem(path, "must be the id of an artifact of this test case"))


def _refuse_twins(items: list[NewCheckpoint]) -> None:
    seen: set[tuple[int, int]] = set()
    for i, item in enumerate(items):
        place = (item.iteration_number or 1, item.checkpoint_number)
        if place in seen:
            raise Invalid(Problem(f"checkpoints[{i}].checkpoint_number", "is sent twice for the same iteration"))
        seen.add(place)
