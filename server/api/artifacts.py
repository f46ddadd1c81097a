"""Artifacts: screenshots, logs and other files of a test case; how they are listed, shown and deleted."""

from uuid import UUID

from aiohttp import web

from server.http import reply
from server.http.fields import Natural, Page, Positive
from server.http.reply import Response
from server.reports import artifacts
from server.reports.artifacts import ArtifactPage
from server.reports.words import ArtifactType, Category, Shape
from server.services import CALL, SERVICES


class ArtifactFilter(Page):
    artifact_type: ArtifactType | None = None
    step_number: Natural | None = None
    iteration_number: Positive | None = None
    artifact_category: Category | None = None
    shape: Shape | None = None


async def index(request: web.Request, case_id: UUID, query: ArtifactFilter) -> Response:
    """The artifacts of a test case by iteration, step and age."""
    array = reply.wants_array(request, query.shape)
    limit, offset = (None, 0) if array and not query.asked else (query.size, query.offset)
    filters = (query.artifact_type, query.step_number, query.iteration_number, query.artifact_category)
    async with request.app[SERVICES].pool.acquire() as connection:
        total, items = await artifacts.of_case(connection, case_id, request[CALL].scope, filters, limit, offset)
    return reply.array(items, total) if array else reply.ok(ArtifactPage(total, query.number, query.size, items))


async def show(request: web.Request, artifact_id: UUID) -> Response:
    """What is known of one artifact."""
    return reply.ok(await artifacts.by_id(request.app[SERVICES].pool, artifact_id, request[CALL].scope))


async def delete(request: web.Request, artifact_id: UUID) -> Response:
    """Removes one artifact and its file."""
    services, call = request.app[SERVICES], request[CALL]
    async with services.pool.transaction() as connection:
        file = await artifacts.delete(connection, artifact_id, call.scope, call.actor())
    await services.removals.of_delete(services.pool, [file])
    return reply.no_content()
