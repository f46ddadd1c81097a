"""What a download needs to know of an artifact."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from server.database.queries import SQL
from server.errors import ArtifactNotFound


@dataclass(frozen=True, slots=True)
class Stored:
    """Where the bytes lie below the storage folder, and what is said of them. `file_size` in bytes."""

    storage_path: str
    file_name: str
    file_size: int
    mime_type: str
    checksum: str


async def of_artifact(where: Any, artifact_id: UUID, scope: UUID | None) -> Stored:
    """Raises ArtifactNotFound."""
    return _stored(await where.fetchrow(SQL.artifacts.for_download, artifact_id, scope))


async def of_link(where: Any, link_id: UUID, artifact_id: UUID) -> Stored:
    """Of an artifact that an evidence link covers. Raises ArtifactNotFound."""
    return _stored(await where.fetchrow(SQL.links.covered_artifact, link_id, artifact_id))


def _stored(row: Any) -> Stored:
    if row is None:
        raise ArtifactNotFound()
    return Stored(*row)
