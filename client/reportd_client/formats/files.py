"""Which files of the machine a report may have sent: those beside it, and pictures and the like that it names whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator, Optional
from urllib.parse import unquote, urlsplit

from reportd_client.formats.result import File

_SENT_FROM_ANYWHERE = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".webm", ".mp4", ".txt", ".md", ".log", ".zip", ".har")
_MAX_PARTS = 30  # of a path that is looked for elsewhere


def file_of(report: Path, name: str, fields: dict[str, Any], moved: Optional[Path] = None) -> File:
    """A file that a report names. Outside of the report's folder and of `moved`, only pictures and the like are sent,
    and only when their whole path is given: a report must not fetch the files of the machine that sends it."""
    if name.startswith("file:"):
        name = unquote(urlsplit(name).path)
    fields = {"file_name": os.path.basename(name.replace("\\", "/")) or "file", **fields}
    try:
        found = next(_candidates(report, name, moved), None)
        if found is not None:
            return File(fields, found)
        path = (report.parent / name).resolve()
        inside = report.parent.resolve() in path.parents
        if not inside and not _is_allowed(name, path):
            return File(fields, refused=f"{name} is outside of the folder of {report.name}")
    except (OSError, ValueError, RuntimeError):
        return File(fields, refused="Cannot be read")
    return File(fields, refused="No such file")


def _candidates(report: Path, name: str, moved: Optional[Path]) -> Iterator[Path]:
    """Where the file is: beside the report, at its whole path, or below one of the folders by the end of its path,
    since reports are often moved with their files."""
    path = (report.parent / name).resolve()
    folders = [folder.resolve() for folder in (report.parent, moved) if folder is not None]
    if (folders[0] in path.parents or _is_allowed(name, path)) and path.is_file():
        yield path
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    for folder in folders:
        for first in range(len(parts) if ".." not in parts and len(parts) <= _MAX_PARTS else 0):
            path = folder.joinpath(*parts[first:]).resolve()
            if folder in path.parents and path.is_file():
                yield path


def _is_allowed(name: str, path: Path) -> bool:
    whole = os.path.isabs(name) and path == Path(name) and path.suffix.lower() in _SENT_FROM_ANYWHERE
    return whole and not any(part.startswith(".") for part in path.parts)
