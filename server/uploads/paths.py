"""Where an artifact lies below the storage folder. Pure, and the only place that makes a path."""

import re
from datetime import datetime
from uuid import UUID

STAGING = ".staging"
CONTENT = ".content"


def relative_paths(
    day: datetime,
    case_id: UUID,
    iteration_number: int,
    step_number: int | None,
    category: str | None,
    file_name: str,
    extension: str,
    artifact_id: UUID,
) -> list[str]:
    """The names an artifact may take, best first; the last holds the end of its id and is its own.

    `YYYY/MM/DD/<test case>/[iteration_NNN/]step_NNN[_category].ext` (S1, "File Storage Structure"); `day` in UTC.
    """
    folder = f"{day.year}/{day.month:02}/{day.day:02}/{case_id}/"
    if iteration_number > 1:
        folder += f"iteration_{iteration_number:03d}/"
    stem = f"step_{step_number:03d}" if step_number is not None else _cleaned(file_name)
    if category and step_number is not None:
        stem += f"_{category}"
    path = folder + stem
    numbered = [f"{path}_{n}{extension}" for n in range(2, 10)]
    return [path + extension, *numbered, f"{path}_{artifact_id.hex[-12:]}{extension}"]


def content_path(project_id: UUID, checksum: str) -> str:
    """Where the bytes with this SHA-256 of this project are found again."""
    return f"{CONTENT}/{project_id}/{checksum[:2]}/{checksum}"


def _cleaned(file_name: str) -> str:
    stem = file_name.rpartition(".")[0] or file_name
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem)[:80].strip(".") or "artifact"
