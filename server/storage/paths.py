"""Paths of artifacts below the storage folder. Pure: no I/O. No other module builds these paths."""

import re
from datetime import datetime
from uuid import UUID

STAGING = ".staging"
CONTENT = ".content"
THUMBS = ".thumbs"
THUMB_WIDTHS = (320, 960)  # in pixels
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OF_A_CASE = re.compile(rf"\d{{4}}/\d\d/\d\d/({_UUID})/(?:iteration_\d{{3,}}/)?[^/]+")
_ENTRY = re.compile(rf"\{CONTENT}/{_UUID}/([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})")


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
    """The paths that an artifact may be stored at, best first. The last one is unique: it has the end of the id.

    `YYYY/MM/DD/<test case>/[iteration_NNN/]step_NNN[_category].ext` (the specification, "File Storage Structure");
    `day` in UTC.
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
    """The content entry for a project's bytes with this SHA-256: later uploads of the same bytes link to it."""
    return f"{CONTENT}/{project_id}/{checksum[:2]}/{checksum}"


def thumb_path(project_id: UUID, checksum: str, width: int) -> str:
    """The thumbnail of a project's image with this SHA-256. Projects never share one, as with content_path."""
    return f"{THUMBS}/{project_id}/{checksum[:2]}/{checksum}-{width}.webp"


def leads_out(path: str) -> bool:
    """Whether a relative path leads out of its folder (path traversal). reportd builds no such path."""
    return path.startswith("/") or (".." in path and ".." in path.split("/"))


def case_of(path: str) -> UUID | None:
    """The test case in whose folder a file is; None when the relative path does not have the form of an artifact's."""
    match = _OF_A_CASE.fullmatch(path)
    return UUID(match[1]) if match else None


def content_checksum(path: str) -> str | None:
    """The SHA-256 in the name of a content entry; None when the relative path is not a content entry's."""
    match = _ENTRY.fullmatch(path)
    return match[2] if match else None


def _cleaned(file_name: str) -> str:
    stem = file_name.rpartition(".")[0] or file_name
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem)[:80].strip(".") or "artifact"
