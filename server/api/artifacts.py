"""Artifacts: lists, shows and deletes the screenshots, logs and other files of a test case."""

from typing import Annotated
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.bodies.artifacts import ByteSize
from server.http import reply
from server.http.fields import Name100, Natural, Page, Positive, Sha256
from server.http.projects import named_project
from server.http.reply import Response
from server.reports import artifacts
from server.reports.artifacts import ArtifactPage, MissingContent
from server.reports.words import ArtifactType, Category, Shape
from server.services import CALL, SERVICES


class Content(Struct):
    checksum: Sha256
    file_size: ByteSize


class Contents(Struct):
    files: Annotated[list[Content], Meta(max_length=1000)]
    project: Name100 | None = None


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
    async with request[CALL].reads.acquire() as connection:
        total, items = await artifacts.of_case(connection, case_id, request[CALL].scope, filters, limit, offset)
    if array:
        return await reply.array(request, items, total)
    return await reply.listed(request, ArtifactPage(total, query.number, query.size, items), [items])


async def show(request: web.Request, artifact_id: UUID) -> Response:
    """Shows the metadata of an artifact. Its bytes are at `download_url`."""
    return reply.ok(await artifacts.by_id(request.app[SERVICES].pool, artifact_id, request[CALL].scope))


async def missing(request: web.Request, body: Contents) -> Response:
    """Lists those of the named files whose bytes the project does not have.

    `checksum` is the SHA-256 of a file, and `file_size` its size in bytes. The others need not be sent: a batch names
    them as `known`. The reply is a hint: bytes may be deleted until then. It only looks into one project: the caller's,
    or for a caller with several the one named in `project`, by default `default`.
    """
    storage, project_id = request.app[SERVICES].storage, await named_project(request, body.project)

    def lacking() -> list[str]:
        return [
            each.checksum
            for each in body.files
            if not storage.disk.has(project_id, each.checksum.lower(), each.file_size)
        ]

    storage.admit()
    return reply.ok(MissingContent(await storage.run(lacking)))


async def delete(request: web.Request, artifact_id: UUID) -> Response:
    """Deletes an artifact and its file.

    Steps that show it fall back to the next best screenshot, or to none.
    """
    services, call = request.app[SERVICES], request[CALL]
    async with services.pool.transaction() as connection:
        file = await artifacts.delete(connection, artifact_id, call.scope, call.actor())
    await services.removals.of_delete(services.pool, [file])
    return reply.no_content()
