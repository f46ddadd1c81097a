"""Files that a report has within itself, as text or as base64."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Optional

from reportd_client.formats.result import File
from reportd_client.texts import artifact_type_of

MOST = 64 << 20  # bytes of the files of one test, which are in memory together
TOO_LARGE = f"The files within the report are larger than {MOST >> 20} MiB for one test"
IMAGES = {"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp"}
_SUFFIXES = {
    **IMAGES,
    "image/svg+xml": ".svg",
    "video/webm": ".webm",
    "video/mp4": ".mp4",
    "text/plain": ".txt",
    "text/html": ".html",
    "text/csv": ".csv",
    "text/xml": ".xml",
    "application/xml": ".xml",
    "application/json": ".json",
    "application/pdf": ".pdf",
    "application/zip": ".zip",
}


def decoded(text: str) -> Optional[bytes]:
    """The bytes of base64; None when it is none."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            return None


def suffix_of(kind: str) -> str:
    """The end of the name of a file of this media type."""
    return _SUFFIXES.get(kind, ".txt" if kind.startswith("text/") else ".bin")


def file_with(data: Optional[bytes], name: str, fields: dict[str, Any], used: int) -> File:
    """A file with these bytes. `used`: bytes of the test's other files."""
    fields = {"file_name": name, "artifact_type": artifact_type_of(name), **fields}
    if data is None:
        return File(fields, refused="Its content is no base64")
    if not data:
        return File(fields, refused="It is empty")
    if used + len(data) > MOST:
        return File(fields, refused=TOO_LARGE)
    return File(fields, data=data)
