"""A multipart body whose files are read from the spool while it is sent."""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any, Iterator, Sequence

_CHUNK = 256 << 10


class Changed(Exception):
    """A hard-linked file has other bytes than when it was attached."""


class Upload:
    """A part with JSON and parts with files. Nothing of the files is kept in memory."""

    def __init__(self, name: str, value: Any, files: Sequence[tuple[str, Path, int]]) -> None:
        """`files`: name, path and size of each."""
        boundary = f"reportd-{uuid.uuid4().hex}"  # random: a file may contain the parts of an earlier request
        self.content_type = f"multipart/form-data; boundary={boundary}"
        text = json.dumps(value, separators=(",", ":"))
        self._first = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n'
            f"Content-Type: application/json\r\n\r\n{text}\r\n"
        ).encode()
        self._parts = [(_header(boundary, file_name), path, size) for file_name, path, size in files]
        self._last = f"--{boundary}--\r\n".encode()
        self.length = len(self._first) + len(self._last)
        self.length += sum(len(header) + size + 2 for header, _, size in self._parts)

    def chunks(self) -> Iterator[bytes]:
        yield self._first
        for header, path, size in self._parts:
            yield header
            yield from _bytes_of(path, size)
            yield b"\r\n"
        yield self._last


def _header(boundary: str, file_name: str) -> bytes:
    escaped = file_name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22").replace("\0", "")
    text = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{escaped}"\r\n'
    return f"{text}Content-Type: application/octet-stream\r\n\r\n".encode("utf-8", "replace")


def _bytes_of(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while size > 0:
            chunk = stream.read(min(_CHUNK, size))
            if not chunk:
                raise Changed(path.name)
            size -= len(chunk)
            yield chunk


def checksum_of(path: Path, entry: dict[str, Any]) -> str:
    """The SHA-256 of a file in the spool. Raises Changed when a linked file is not what was attached; OSError."""
    name = str(entry["file"])
    if entry.get("mtime_ns") is None and not name.startswith("link-"):
        return name
    _check(path, entry)
    digest = hashlib.sha256()
    for chunk in _bytes_of(path, entry["file_size"]):
        digest.update(chunk)
    _check(path, entry)
    return digest.hexdigest()


def _check(path: Path, entry: dict[str, Any]) -> None:
    found = path.stat()
    expected = entry.get("mtime_ns")
    if found.st_size != entry["file_size"] or (expected is not None and found.st_mtime_ns != expected):
        raise Changed(path.name)
