"""Zip files whose end is missing, and with it their list of files: the files are found by their own headers."""

from __future__ import annotations

import io
import mmap
import struct
import zlib
from pathlib import Path
from typing import IO

_HEADER = b"PK\x03\x04"
_FIELDS = struct.Struct("<4sHHHHHIIIHH")
_DEFLATED = 8
_MAX_NAME = 500
_MAX_FILES = 100_000
_CHUNK = 64 << 10


def find(path: Path) -> dict[str, int]:
    """{name: where its packed bytes begin}, of files that are packed in the usual way. Raises OSError, ValueError."""
    found: dict[str, int] = {}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(_HEADER)
        while at >= 0 and at + _FIELDS.size <= len(data) and len(found) < _MAX_FILES:
            _, _, flags, method, _, _, _, _, _, length, extra = _FIELDS.unpack_from(data, at)
            start = at + _FIELDS.size + length + extra
            name = data[at + _FIELDS.size : at + _FIELDS.size + min(length, _MAX_NAME)].decode("utf-8", "replace")
            if (
                method == _DEFLATED
                and not flags & 1
                and name.isprintable()
                and length <= _MAX_NAME
                and start < len(data)
            ):
                found[name] = start
            at = data.find(_HEADER, at + 1)
    return found


class Unpacked(io.RawIOBase):
    """The bytes of a file that are there. `whole`: it must be all of it; else the stream ends where the zip does.
    Raises EOFError, and ValueError when it would be more than `most` bytes, or `ratio` times what it takes."""

    def __init__(self, file: IO[bytes], start: int, whole: bool, most: int, ratio: int, any_ratio: int) -> None:
        file.seek(start)
        self._file, self._whole, self._most = file, whole, most
        self._ratio, self._any_ratio = ratio, any_ratio
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._taken = self._given = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = b""
        while not data and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(_CHUNK)
            data = self._inflate.decompress(packed, max(1, size))
            self._taken += len(packed) - len(self._inflate.unconsumed_tail)
            if not packed and not data and self._whole:
                raise EOFError("the zip is cut")
            if not packed and not data:
                break
        self._given += len(data)
        if self._given > self._most or self._given > max(self._any_ratio, self._ratio * self._taken):
            raise ValueError(f"it is packed more than {self._ratio} times, like a zip bomb, or the zip has too much")
        return data

    def close(self) -> None:
        self._file.close()
        super().close()
