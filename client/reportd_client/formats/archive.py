"""Zip files of any origin: bounded, and no name in them ever chooses a path."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO, Optional, Union

from reportd_client.formats.result import Unreadable

MAX_UNPACKED = 2 << 30  # bytes of all files that are read
MAX_RATIO = 200  # of a file's bytes to those that it takes in the zip
MAX_DIRECTORY = 8 << 20  # bytes of the list of files, each of which takes ten times as much memory
_ANY_RATIO = 16 << 20  # up to this size any ratio is allowed: a test may print the same line all the time
_SMALL = 1 << 20  # up to this size files are read into memory
_CHUNK = 1 << 20
_TAIL = 66_000  # bytes of the end of a zip, where its list of files is described
_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, struct.error, MemoryError)


class Archive:
    """An open zip file. Raises Unreadable."""

    def __init__(self, path: Path) -> None:
        self._path, self._unpacked = path, 0
        self._folder: Optional[TemporaryDirectory[str]] = None
        self._counted: set[str] = set()
        try:
            size = _directory_size(path)
            if size > MAX_DIRECTORY:
                raise Unreadable(f"{path} has a list of files of more than {MAX_DIRECTORY >> 20} MiB")
            self._zip = zipfile.ZipFile(path)
        except _ERRORS as error:
            raise Unreadable(f"{path} is damaged, cut or no zip: {error}") from None

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        if self._folder is not None:
            self._folder.cleanup()

    def __contains__(self, name: str) -> bool:
        return name in self._zip.NameToInfo

    def names(self) -> list[str]:
        return self._zip.namelist()

    def open(self, name: str) -> IO[bytes]:
        """The bytes of a file in it, as a stream. Its errors are raised as Unreadable, too."""
        try:
            info = self._zip.getinfo(name)
        except KeyError:
            raise Unreadable("No such file") from None
        if info.file_size > max(_ANY_RATIO, MAX_RATIO * info.compress_size):
            raise Unreadable(f"{name} in {self._path.name} is packed more than {MAX_RATIO} times, like a zip bomb")
        if name not in self._counted:  # a report may name it several times
            self._counted.add(name)
            self._unpacked += info.file_size
        if self._unpacked > MAX_UNPACKED:
            raise Unreadable(f"{self._path.name} has more than {MAX_UNPACKED >> 30} GiB")
        try:
            return io.BufferedReader(_Guarded(self._zip.open(info), name, self._path.name), _CHUNK)
        except (*_ERRORS, NotImplementedError) as error:
            raise Unreadable(f"{name} in {self._path.name} cannot be read: {error}") from None

    def unpack(self, name: str) -> Union[bytes, Path]:
        """The bytes of a file, or the path of a temporary file, which holds until the next is unpacked."""
        with self.open(name) as stream:
            data = stream.read(_SMALL + 1)
            if len(data) <= _SMALL:
                return data
            if self._folder is None:
                self._folder = TemporaryDirectory(prefix="reportd-")
            path = Path(self._folder.name, "file")
            path.unlink(missing_ok=True)  # the one before may be linked from the spool, and must stay as it is
            with path.open("wb") as file:
                while data:
                    file.write(data)
                    data = stream.read(_CHUNK)
            return path


class _Guarded(io.RawIOBase):
    """A stream of a zip, whose errors are one."""

    def __init__(self, stream: IO[bytes], name: str, archive: str) -> None:
        self._stream, self._name, self._archive = stream, name, archive

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            data = self._stream.read(len(buffer))
        except _ERRORS as error:
            raise Unreadable(f"{self._name} in {self._archive} is damaged: {error}") from None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _directory_size(path: Path) -> int:
    """The size of the list of files, as the end of a zip says."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _TAIL))
        tail = file.read(_TAIL)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise zipfile.BadZipFile("its end is missing")
    found: int = struct.unpack_from("<I", tail, at + 12)[0]
    if tail[at - 20 : at - 16] == b"PK\x06\x07" and tail[at - 76 : at - 72] == b"PK\x06\x06":
        return int(struct.unpack_from("<Q", tail, at - 76 + 40)[0])
    return found
