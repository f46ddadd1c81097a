"""Attachments of Allure: files of its folder, and of no other."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Any, Optional

from reportd_client.formats.files import file_of
from reportd_client.formats.result import File, Source, plain
from reportd_client.texts import artifact_type_of, cut

_OUTPUT = ("stdout", "stderr", "log")
_MAX_TEXT = 4 << 20  # bytes; what is larger stays a file
_KINDS = {"image": "screenshot", "video": "video", "text": "log"}


def attachment(source: Source, value: dict[str, Any]) -> File:
    """Its file, named as the test named it."""
    name, path = (each if isinstance(each, str) else "" for each in (value.get("name"), value.get("source")))
    suffix = PurePosixPath(path).suffix
    file_name = os.path.basename(name.replace("\\", "/").strip()) or os.path.basename(path) or "attachment"
    file_name = cut(file_name, 200)
    if suffix and not file_name.lower().endswith(suffix.lower()):
        file_name += suffix[:20]
    kind = artifact_type_of(path)
    mime = value.get("type")
    if kind == "other" and isinstance(mime, str):
        kind = _KINDS.get(mime.partition("/")[0], "other")
    fields = {"file_name": file_name, "artifact_type": kind}
    if not path or os.path.isabs(path) or path.startswith(("file:", "\\")) or ".." in PurePosixPath(path).parts:
        return File(fields, refused=f"{cut(path, 200) or 'It'} is outside of the folder of Allure's results")
    return file_of(source.path / "x", path, fields, source.files)


def is_output(value: dict[str, Any]) -> bool:
    """Whether an attachment is what a test wrote."""
    return value.get("name") in _OUTPUT and value.get("type") == "text/plain"


def text_of(file: File) -> Optional[str]:
    """The text of a file, unless it cannot be read or is large."""
    if file.path is None:
        return None
    try:
        if file.path.stat().st_size > _MAX_TEXT:
            return None
        return str(plain(file.path.read_bytes().decode("utf-8", "replace")))
    except OSError:
        return None
