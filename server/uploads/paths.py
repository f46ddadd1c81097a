"""Where an artifact lies below the storage folder. Pure, and the only place that makes a path."""

import re
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

STAGING = ".staging"
CONTENT = ".content"


def relative_path(
    day: datetime,
    case_id: UUID,
    iteration_number: int,
    step_number: int | None,
    category: str | None,
    file_name: str,
    extension: str,
) -> str:
    """The best name for an artifact.

    `YYYY/MM/DD/<test case>/[iteration_NNN/]step_NNN[_category].ext` (S1, "File Storage Structure"); `day` in UTC.
    """
    folder = f"{day.year}/{day.month:02}/{day.day:02}/{case_id}/"
    if iteration_number > 1:
        folder += f"iteration_{iteration_number:03d}/"
    stem = f"step_{step_number:03d}" if step_number is not None else _cleaned(file_name)
    if category and step_number is not None:
        stem += f"_{category}"
    return f"{folder}{stem}{extension}"


def numbered_paths(path: str) -> Iterator[str]:
    """What it may be called instead when that name is taken, best first."""
    stem, _, extension = path.rpartition(".")
    return (f"{stem}_{n}.{extension}" for n in range(2, 10))


def own_path(path: str, artifact_id: UUID) -> str:
    """The name that nobody else can have: it holds the end of the artifact's id."""
    stem, _, extension = path.rpartition(".")
    return f"{stem}_{artifact_id.hex[-12:]}.{extension}"


def content_path(project_id: UUID, checksum: str) -> str:
    """Where the bytes with this SHA-256 of this project are found again."""
    return f"{CONTENT}/{project_id}/{checksum[:2]}/{checksum}"


def _cleaned(file_name: str) -> str:
    stem = file_name.rpartition(".")[0] or file_name
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem)[:80].strip(".") or "artifact"
