"""A multipart body of fields and files. Files on disk are read while they are sent, and never kept in memory."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Iterator, Mapping, Sequence, Union

from reportd_client.rest.connection import ApiError

File = Union[str, "os.PathLike[str]", "tuple[str, Union[bytes, str, os.PathLike[str]]]"]
"""A path; or a name, and bytes or a path."""

_CHUNK = 256 << 10
_ESCAPES = str.maketrans({"\r": "%0D", "\n": "%0A", '"': "%22", "\0": None})


class Form:
    """Raises OSError for a file that cannot be read."""

    def __init__(self, fields: Mapping[str, object], files: Sequence[File], name: str) -> None:
        """`name` is that of the parts with files."""
        boundary = f"reportd-{uuid.uuid4().hex}"  # random: a file may contain the parts of another request
        self.content_type = f"multipart/form-data; boundary={boundary}"
        start = f"--{boundary}\r\nContent-Disposition: form-data; name="
        self._parts: list[Union[bytes, _OnDisk]] = []
        for field, value in fields.items():
            if value is not None:
                self._parts.append(f'{start}"{field}"\r\n\r\n{value}\r\n'.encode("utf-8", "replace"))
        for file in files:
            file_name, source = file if isinstance(file, tuple) else (os.path.basename(os.fspath(file)), file)
            head = f'{start}"{name}"; filename="{file_name.translate(_ESCAPES)}"\r\n'
            self._parts.append(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode("utf-8", "replace"))
            self._parts += [source if isinstance(source, bytes) else _OnDisk(Path(source)), b"\r\n"]
        self._parts.append(f"--{boundary}--\r\n".encode())
        self.length = sum(len(part) for part in self._parts)

    def chunks(self) -> Iterator[bytes]:
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
            else:
                yield from part.chunks()


class _OnDisk:
    """The bytes that a file has when the request is made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:  # now, since a request that breaks off looks like a lost connection
            self._size = os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        return self._size

    def chunks(self) -> Iterator[bytes]:
        left, reason = self._size, "it became smaller"
        try:
            with self._path.open("rb") as file:
                while left and (chunk := file.read(min(_CHUNK, left))):
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            reason = error.strerror or str(error)
        if left:
            raise ApiError(f"{self._path} cannot be read while it is sent: {reason}", "file_changed")
