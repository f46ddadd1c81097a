"""The columns of an artifact that a download needs."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from server.database.queries import SQL
from server.errors import ArtifactNotFound
from server.ids import seconds_of


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored file: its path below the storage folder, and its metadata. `file_size` in bytes."""

    storage_path: str
    file_name: str
    file_size: int
    mime_type: str
    text_encoding: str | None
    checksum: str
    project_id: UUID


async def of_artifact(where: Any, artifact_id: UUID, scope: UUID | None) -> Stored:
    """The file of an artifact. Raises ArtifactNotFound."""
    return _stored(await where.fetchrow(SQL.artifacts.for_download, artifact_id, scope))


async def of_link(where: Any, link_id: UUID, artifact_id: UUID) -> Stored:
    """The file of an artifact that an evidence link covers. Raises ArtifactNotFound."""
    return _stored(await where.fetchrow(SQL.links.covered_artifact, link_id, artifact_id))


async def stored_at(where: Any, artifact_id: UUID) -> float:
    """About when the file of an artifact was stored here, in Unix time: an imported one has its first id."""
    return await where.fetchval(SQL.artifacts.imported_at, artifact_id) or seconds_of(artifact_id)


def _stored(row: Any) -> Stored:
    if row is None:
        raise ArtifactNotFound()
    return Stored(*row)
