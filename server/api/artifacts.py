"""Artifacts: lists, shows and deletes the screenshots, logs and other files of a test case."""

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
    """Lists the artifacts of a test case, by iteration, step and time of upload.

    Artifacts without a step come first in their iteration. The reply is an object with a page of the artifacts or, with
    `shape=array`, an array with the number of all matches in `X-Total-Count`. The array has all of them unless `page`
    or `per_page` is sent. Without `shape`, the setting of the token applies, else the configuration. `per_page` is 100
    by default and at most 500.
    """
    array = reply.wants_array(request, query.shape)
    limit, offset = (None, 0) if array and not query.requested else (query.size, query.offset)
    filters = (query.artifact_type, query.step_number, query.iteration_number, query.artifact_category)
    async with request.app[SERVICES].pool.acquire() as connection:
        total, items = await artifacts.of_case(connection, case_id, request[CALL].scope, filters, limit, offset)
    if array:
        return await reply.array(request, items, total)
    return await reply.listed(request, ArtifactPage(total, query.number, query.size, items), [items])


async def show(request: web.Request, artifact_id: UUID) -> Response:
    """Shows the metadata of an artifact. Its bytes are at `download_url`."""
    return reply.ok(await artifacts.by_id(request.app[SERVICES].pool, artifact_id, request[CALL].scope))


async def delete(request: web.Request, artifact_id: UUID) -> Response:
    """Deletes an artifact and its file.

    Steps that show it fall back to the next best screenshot, or to none.
    """
    services, call = request.app[SERVICES], request[CALL]
    async with services.pool.transaction() as connection:
        file = await artifacts.delete(connection, artifact_id, call.scope, call.actor())
    await services.removals.of_delete(services.pool, [file])
    return reply.no_content()
