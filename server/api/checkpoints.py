"""Checkpoints: named verifications within a test case."""

from typing import Annotated, Any
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.bodies.checkpoints import NewCheckpoint, refuse_duplicates
from server.errors import Invalid, Problem
from server.http import reply
from server.http.fields import Natural, Page, Positive
from server.http.idempotency import once
from server.http.reply import Response
from server.reports import checkpoints, test_cases
from server.reports.checkpoints import Appended, CheckpointPage
from server.services import CALL


class NewCheckpoints(Struct):
    checkpoints: Annotated[list[NewCheckpoint], Meta(max_length=10_000)]


class CheckpointFilter(Page):
    step_number: Natural | None = None
    iteration_number: Positive | None = None


async def create_many(request: web.Request, case_id: UUID, body: NewCheckpoints) -> Response:
    """Adds checkpoints to a test case: all of them or none.

    409 when a checkpoint with the same iteration and `checkpoint_number` exists. `screenshot_artifact_id` must be an
    artifact of the same test case.
    """
    refuse_duplicates(body.checkpoints)

    async def work(connection: Any) -> web.Response:
        await test_cases.lock(connection, case_id, request[CALL].scope)
        await _refuse_foreign_screenshots(connection, case_id, body.checkpoints)
        await checkpoints.insert_many(connection, [case_id] * len(body.checkpoints), body.checkpoints)
        return reply.created(Appended(len(body.checkpoints)))

    return await once(request, work)


async def index(request: web.Request, case_id: UUID, query: CheckpointFilter) -> Response:
    """Lists the checkpoints of a test case, in the order in which they were sent.

    `per_page` is 100 by default and at most 500.
    """
    filters = (query.step_number, query.iteration_number)
    async with request[CALL].reads.acquire() as connection:
        total, items = await checkpoints.of_case(
            connection, case_id, request[CALL].scope, filters, query.size, query.offset
        )
    return await reply.listed(request, CheckpointPage(total, query.number, query.size, items), [items])


async def _refuse_foreign_screenshots(connection: Any, case_id: UUID, items: list[NewCheckpoint]) -> None:
    screenshot_ids = [item.screenshot_artifact_id for item in items if item.screenshot_artifact_id is not None]
    own = await checkpoints.own_artifacts(connection, case_id, screenshot_ids)
    for i, item in enumerate(items):
        if item.screenshot_artifact_id is not None and item.screenshot_artifact_id not in own:
            path = f"checkpoints[{i}].screenshot_artifact_id"
            raise Invalid(Problem(path, "must be the id of an artifact of this test case"))
