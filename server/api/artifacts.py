"""Artifacts: screenshots, logs and other files of a test case; how they are listed, shown and deleted."""

from dataclasses import dataclass
from uuid import UUID

from aiohttp import web

from server.audit import Action, Subject, note, requester
from server.context import CALLER, POOL, SQL, STORAGE
from server.db import transaction
from server.errors import ArtifactNotFound, CaseNotFound
from server.http import reply
from server.http.fields import ArtifactType, Category, Moment, Natural, Page, Positive, Shape
from server.http.lock import lock_case
from server.http.reply import Response
from server.removal import remove_files_now


class ArtifactFilter(Page):
    artifact_type: ArtifactType | None = None
    step_number: Natural | None = None
    iteration_number: Positive | None = None
    artifact_category: Category | None = None
    shape: Shape | None = None


@dataclass(slots=True)
class Artifact:
    id: UUID
    test_case_result_id: UUID
    step_result_id: UUID | None
    artifact_type: ArtifactType
    artifact_category: Category | None
    step_number: int | None
    iteration_number: int
    file_name: str
    file_size: int
    mime_type: str
    checksum: str
    storage_path: str
    description: str | None
    download_url: str
    captured_at: Moment | None
    uploaded_at: Moment
    created_at: Moment


@dataclass(slots=True)
class ArtifactPage:
    total: int
    page: int
    per_page: int
    items: list[Artifact]


async def index(request: web.Request, case_id: UUID, query: ArtifactFilter) -> Response:
    """The artifacts of a test case by iteration, step and age."""
    array = reply.wants_array(request, query.shape)
    whole = array and not query.asked
    filters = (query.artifact_type, query.step_number, query.iteration_number, query.artifact_category)
    sql = request.app[SQL].artifacts
    async with request.app[POOL].acquire() as connection:
        total = await connection.fetchval(sql.count_for_case, case_id, request[CALLER].project_id, *filters)
        if total is None:
            raise CaseNotFound()
        limit, offset = (None, 0) if whole else (query.size, query.offset)
        rows = await connection.fetch(sql.for_case, case_id, *filters, None, limit, offset)
    items = [Artifact(*row) for row in rows]
    return reply.array(items, total) if array else reply.ok(ArtifactPage(total, query.number, query.size, items))


async def show(request: web.Request, artifact_id: UUID) -> Response:
    """What is known of one artifact."""
    row = await request.app[POOL].fetchrow(request.app[SQL].artifacts.by_id, artifact_id, request[CALLER].project_id)
    if row is None:
        raise ArtifactNotFound()
    return reply.ok(Artifact(*row))


async def delete(request: web.Request, artifact_id: UUID) -> Response:
    """Removes one artifact and its file."""
    sql, project_id = request.app[SQL], request[CALLER].project_id
    async with transaction(request.app[POOL]) as connection:
        found = await connection.fetchrow(sql.artifacts.case_of, artifact_id, project_id)
        if found is None:
            raise ArtifactNotFound()
        case_id = found["test_case_result_id"]
        await lock_case(request, connection, case_id)
        await connection.execute(sql.steps.unpin, case_id, artifact_id)
        if await connection.fetchval(sql.artifacts.delete, artifact_id) is None:
            raise ArtifactNotFound()
        await connection.execute(sql.steps.link, case_id)
        subject = Subject("artifact", artifact_id, found["file_name"], found["project_id"])
        await note(connection, sql, Action.ARTIFACT_DELETED, requester(request), subject, test_case_result_id=case_id)
    await remove_files_now(request.app[POOL], sql, request.app[STORAGE])
    return reply.no_content()
