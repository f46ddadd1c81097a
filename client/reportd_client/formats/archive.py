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

from reportd_client.formats import archive_cut
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
    """An open zip file, also one whose end is missing: `is_cut`. Raises Unreadable."""

    def __init__(self, path: Path) -> None:
        self._path, self._unpacked = path, 0
        self._folder: Optional[TemporaryDirectory[str]] = None
        self._counted: set[str] = set()
        self._zip: Optional[zipfile.ZipFile] = None
        self._starts: dict[str, int] = {}  # of the files of a zip that is cut
        try:
            size = _directory_size(path)
            self.is_cut = size is None
            if size is None:
                self._starts = archive_cut.find(path)
            elif size > MAX_DIRECTORY:
                raise Unreadable(f"{path} has a list of files of more than {MAX_DIRECTORY >> 20} MiB")
            else:
                self._zip = zipfile.ZipFile(path)
        except _ERRORS as error:
            raise Unreadable(f"{path} is damaged or no zip: {error}") from None
        if self.is_cut and not self._starts:
            raise Unreadable(f"{path} is cut or no zip: its end is missing")

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._zip is not None:
            self._zip.close()
        if self._folder is not None:
            self._folder.cleanup()

    def __contains__(self, name: str) -> bool:
        return name in (self._starts if self._zip is None else self._zip.NameToInfo)

    def names(self) -> list[str]:
        return list(self._starts) if self._zip is None else self._zip.namelist()

    def open(self, name: str, whole: bool = True) -> IO[bytes]:
        """The bytes of a file in it, as a stream. Its errors are raised as Unreadable, too. In a zip that is cut, a
        file that need not be `whole` ends where the zip does."""
        if self._zip is None:
            return self._open_cut(name, whole)
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

    def _open_cut(self, name: str, whole: bool) -> IO[bytes]:
        if name not in self._starts:
            raise Unreadable("No such file")
        try:
            file = self._path.open("rb")
        except OSError as error:
            raise Unreadable(f"Cannot read {self._path}: {error.strerror}") from None
        limits = (MAX_UNPACKED - self._unpacked, MAX_RATIO, _ANY_RATIO)
        unpacked = archive_cut.Unpacked(file, self._starts[name], whole, *limits)
        return io.BufferedReader(_Guarded(unpacked, name, self._path.name), _CHUNK)

    def unpack(self, name: str) -> Union[bytes, Path]:
        """The bytes of a file, or the path of a temporary file, which holds until the next is unpacked."""
        with self.open(name) as stream:
            data = stream.read(_SMALL + 1)
            self._count(data)
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
                    self._count(data)
            return path

    def _count(self, data: bytes) -> None:
        """Bytes of a zip that is cut; the others say before how many they have."""
        self._unpacked += len(data) if self._zip is None else 0


class _Guarded(io.RawIOBase):
    """A stream of a zip, whose errors are one."""

    def __init__(self, stream: Union[IO[bytes], io.RawIOBase], name: str, archive: str) -> None:
        self._stream, self._name, self._archive = stream, name, archive

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            data = self._stream.read(len(buffer)) or b""
        except _ERRORS as error:
            raise Unreadable(f"{self._name} in {self._archive} is damaged: {error}") from None
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _directory_size(path: Path) -> Optional[int]:
    """The size of the list of files, as the end of a zip says; None when the end is missing."""
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _TAIL))
        tail = file.read(_TAIL)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        return None
    found: int = struct.unpack_from("<I", tail, at + 12)[0]
    if tail[at - 20 : at - 16] == b"PK\x06\x07" and tail[at - 76 : at - 72] == b"PK\x06\x06":
        return int(struct.unpack_from("<Q", tail, at - 76 + 40)[0])
    return found
