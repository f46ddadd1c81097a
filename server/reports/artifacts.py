"""Artifacts in the database. saving.py adds them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from server.database.queries import SQL
from server.errors import ArtifactNotFound, CaseNotFound
from server.observe.audit import Action, Actor, Subject, record
from server.reports import listing, steps, test_cases
from server.reports.words import ArtifactType, Category, Moment, TextEncoding
from server.storage.disk import Removal


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
    text_encoding: TextEncoding | None
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


@dataclass(slots=True)
class MissingContent:
    missing: list[str]


@dataclass(slots=True)
class SentArtifact(Artifact):
    duplicate: bool


@dataclass(slots=True)
class BatchArtifact(SentArtifact):
    file_index: int | None
    known_index: int | None


@dataclass(slots=True)
class FailedFile:
    file_index: int | None
    known_index: int | None
    file_name: str | None
    error: str
    code: str


@dataclass(slots=True)
class BatchUploaded:
    message: str
    artifacts: list[BatchArtifact]
    failed: list[FailedFile]


async def by_id(where: Any, artifact_id: UUID, scope: UUID | None) -> Artifact:
    """The artifact. Raises ArtifactNotFound."""
    row = await where.fetchrow(SQL.artifacts.by_id, artifact_id, scope)
    if row is None:
        raise ArtifactNotFound()
    return Artifact(*row)


async def of_case(
    connection: Any,
    case_id: UUID,
    scope: UUID | None,
    filters: Sequence[Any],
    limit: int | None,
    offset: int,
) -> tuple[int, Any]:
    """How many artifacts of a test case match, and a Listing of a page of Artifact. `filters`: type, step, iteration,
    category.

    Raises CaseNotFound.
    """
    total = await connection.fetchval(SQL.artifacts.count_for_case, case_id, scope, *filters)
    if total is None:
        raise CaseNotFound()
    return total, await some(connection, case_id, (*filters, None), total, limit, offset)


async def some(
    connection: Any, case_id: UUID, filters: Sequence[Any], total: int, limit: int | None, offset: int = 0
) -> Any:
    """A Listing of a page of the `total` artifacts that match. `filters`: those of of_case(), and the beginning of the
    MIME type."""
    fetch = listing.rows(SQL.artifacts.for_case, (case_id, *filters), Artifact, len(fields(Artifact)))
    return await listing.read(connection, fetch, (0, -1, UUID(int=0)), total, limit, offset)


async def delete(connection: Any, artifact_id: UUID, scope: UUID | None, actor: Actor) -> Removal:
    """Deletes an artifact's row and returns its file, to be unlinked after the commit. Raises ArtifactNotFound."""
    found = await connection.fetchrow(SQL.artifacts.case_of, artifact_id, scope)
    if found is None:
        raise ArtifactNotFound()
    case_id = found["test_case_result_id"]
    await test_cases.touch(connection, case_id, scope)
    showing = [row["id"] for row in await connection.fetch(SQL.steps.unpin, case_id, artifact_id)]
    gone = await connection.fetchrow(SQL.artifacts.delete, artifact_id)
    if gone is None:
        raise ArtifactNotFound()
    if showing:
        await steps.link(connection, case_id, showing, [])
    subject = Subject("artifact", artifact_id, found["file_name"], found["project_id"])
    await record(connection, Action.ARTIFACT_DELETED, actor, subject, test_case_result_id=case_id)
    return Removal(*gone)
