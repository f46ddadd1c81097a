"""Request bodies: JSON, and JSON with files that are read from the spool while they are sent."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from pathlib import Path
from typing import Any, Iterator, Sequence

_CHUNK = 256 << 10
_ODD = re.compile("[\ud800-\udfff]")  # half an emoji, which UTF-8 does not have


class Changed(Exception):
    """A file of the spool has other bytes than when it was attached, or cannot be read: str() says which of both."""

    def __init__(self, path: Path, text: str = "Its bytes have changed since it was attached") -> None:
        super().__init__(text)
        self.path = path


def as_json(value: Any) -> bytes:
    return _ODD.sub("\ufffd", json.dumps(value, ensure_ascii=False, separators=(",", ":"))).encode()


class Json:
    """A JSON body."""

    content_type = "application/json"

    def __init__(self, value: Any) -> None:
        self.data = as_json(value)
        self.length = len(self.data)

    def chunks(self) -> Iterator[bytes]:
        yield self.data


class Upload:
    """A part with JSON and parts with files. Nothing of the files is kept in memory."""

    def __init__(self, name: str, value: Any, files: Sequence[tuple[str, Path, int]]) -> None:
        """`files`: name, path and size of each."""
        boundary = f"reportd-{uuid.uuid4().hex}"  # random: a file may contain the parts of an earlier request
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.data = as_json(value)
        self._head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\nContent-Type: application/json\r\n\r\n'
        ).encode()
        self._parts = [(_header(boundary, file_name), path, size) for file_name, path, size in files]
        self._last = f"--{boundary}--\r\n".encode()
        self.length = len(self._head) + len(self.data) + 2 + len(self._last)
        self.length += sum(len(header) + size + 2 for header, _, size in self._parts)

    def chunks(self) -> Iterator[bytes]:
        """Raises Changed."""
        yield self._head
        yield self.data
        yield b"\r\n"
        for header, path, size in self._parts:
            yield header
            yield from _bytes_of(path, size)
            yield b"\r\n"
        yield self._last


def key_of(spool_id: str, path: str, data: bytes, names: Sequence[str] = ()) -> str:
    """The Idempotency-Key of a request: the same for the same request, also after a crash, and for no other one.

    `data`: its JSON, which has the checksums of its files; `names`: those of the files.
    """
    digest = hashlib.sha256(data)
    digest.update(as_json([path, *names]))
    return f"{spool_id}-{digest.hexdigest()[:32]}"


def _header(boundary: str, file_name: str) -> bytes:
    escaped = file_name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22").replace("\0", "")
    text = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{escaped}"\r\n'
    return f"{text}Content-Type: application/octet-stream\r\n\r\n".encode("utf-8", "replace")


def _bytes_of(path: Path, size: int) -> Iterator[bytes]:
    """Raises Changed: an OSError would look like one of the connection, and be tried again without end."""
    try:
        with path.open("rb") as stream:
            while size > 0:
                chunk = stream.read(min(_CHUNK, size))
                if not chunk:
                    raise Changed(path)
                size -= len(chunk)
                yield chunk
    except OSError as error:
        raise Changed(path, f"Cannot be read: {error.strerror}") from error


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
        raise Changed(path)
