"""An archive that somebody has: every name, size and hash is checked before anything of it is used.

Blocking. Nothing is ever unpacked to a name of the archive's choosing. What is read later is hashed again: the file may
have been replaced since it was checked.
"""

import hashlib
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, NoReturn

from server.archive import names
from server.archive.zip_stream import MANIFEST

MAX_DATA = 64 << 20  # bytes of one entry that is read as a whole; an export writes about 1 MiB
_MAX_MANIFEST = 256 << 20
_MAX_GROWTH, _FREE_GROWTH = 200, 100 << 20  # how often its own size an archive may unpack to, beside so many bytes
_CHUNK = 1 << 20
_LINE = re.compile(r"([0-9a-f]{64})  (\S+)", re.ASCII)
_NOTE = re.compile(r"# (missing|changed): (files/[0-9a-f]{64}\.[a-z0-9]{2,4})( .*)?", re.ASCII)
# What zipfile raises for a file that was cut or changed.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError)


class BadArchive(Exception):
    """The file is not an archive of a run, or was cut or changed; the message says where."""


class Opened:
    """An archive, checked. A context manager that closes it. `missing`: the files that its server had lost."""

    def __init__(self, path: Path) -> None:
        """Read and check all of it. Raises BadArchive, OSError."""
        self.path, self.missing = path, set[str]()
        with _read_errors(path):
            self._zip = zipfile.ZipFile(path)
        try:
            self._check_names()
            self._sums = self._manifest()
            self._check_sums()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> "Opened":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    @property
    def names(self) -> list[str]:
        """Of all entries but the manifest, in the order of the archive."""
        return list(self._sums)

    def has(self, name: str) -> bool:
        return name in self._sums

    def sum(self, name: str) -> str:
        """The SHA-256 of an entry."""
        return self._sums[name]

    def size(self, name: str) -> int:
        """Bytes of an entry."""
        return self._zip.getinfo(name).file_size

    def read(self, name: str) -> bytes:
        """The whole of an entry. Raises BadArchive for one that is missing, larger than MAX_DATA, or changed."""
        if name not in self._sums:
            raise BadArchive(f"{self.path} has no {name}. It is not an archive of a run, or was cut.")
        if self.size(name) > MAX_DATA:
            raise BadArchive(f"{name} has more than {MAX_DATA >> 20} MiB. No archive of reportd has such an entry.")
        return b"".join(self.parts(name))

    def parts(self, name: str) -> Iterator[bytes]:
        """The bytes of an entry. Raises BadArchive at the end if they are not those of the manifest."""
        found = hashlib.sha256()
        with _read_errors(self.path, name), self._zip.open(name) as stream:
            while part := stream.read(_CHUNK):
                found.update(part)
                yield part
        if found.hexdigest() != self._sums[name]:
            raise BadArchive(f"{name} does not have the SHA-256 of {MANIFEST}: it was changed or damaged.")

    def open(self, name: str) -> IO[bytes]:
        """A stream of an entry, without a check of its hash."""
        return self._zip.open(name)

    def _check_names(self) -> None:
        entries = self._zip.infolist()
        if len({each.filename for each in entries}) < len(entries):
            self._refuse("two entries have the same name")
        for each in entries:
            if not names.ALLOWED.fullmatch(each.filename):
                self._refuse(f"no archive of reportd has an entry {each.filename[:200]!a}")
            if stat.S_IFMT(each.external_attr >> 16) not in (0, stat.S_IFREG):
                self._refuse(f"{each.filename} is not a regular file but a link or a device")
            if each.flag_bits & 1:
                self._refuse(f"{each.filename} is encrypted")
            if each.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                self._refuse(f"{each.filename} is compressed by another method than deflate")
        size = self.path.stat().st_size
        if sum(each.compress_size for each in entries) > size:
            self._refuse("its entries overlap")
        if sum(each.file_size for each in entries) > _FREE_GROWTH + _MAX_GROWTH * size:
            self._refuse(f"it unpacks to more than {_MAX_GROWTH} times its size (a zip bomb)")

    def _manifest(self) -> dict[str, str]:
        """The SHA-256 of every entry by name, in the order of the archive. Also sets `missing`."""
        if MANIFEST not in self._zip.namelist():
            self._refuse(f"it has no {MANIFEST}: it is not an archive of a run, or was cut")
        if self._zip.getinfo(MANIFEST).file_size > _MAX_MANIFEST:
            self._refuse(f"its {MANIFEST} is larger than {_MAX_MANIFEST >> 20} MiB")
        with _read_errors(self.path, MANIFEST):
            text = self._zip.read(MANIFEST).decode()
        sums = {}
        for line in text.splitlines():
            if match := _LINE.fullmatch(line):
                sums[match[2]] = match[1]
            elif note := _NOTE.fullmatch(line):
                if note[1] == "missing":
                    self.missing.add(note[2])
            else:
                self._refuse(f"its {MANIFEST} has a line that is no SHA-256 and name: {line[:200]!a}")
        found = {each.filename for each in self._zip.infolist()} - {MANIFEST}
        for name in sorted(found ^ sums.keys()):
            self._refuse(f"{name} is in {MANIFEST} alone" if name in sums else f"{name} is not in {MANIFEST}")
        return sums

    def _check_sums(self) -> None:
        for name in self._sums:
            for _ in self.parts(name):
                pass

    def _refuse(self, reason: str) -> NoReturn:
        raise BadArchive(f"{self.path} is refused: {reason}.")


@contextmanager
def _read_errors(path: Path, name: str = "") -> Iterator[None]:
    """Turns the errors of zipfile into BadArchive."""
    try:
        yield
    except _DAMAGED as error:
        if name:
            raise BadArchive(f"{name} of {path} cannot be read: it was cut or changed ({error}).") from error
        raise BadArchive(f"{path} is not a zip, or was cut: {error}.") from error
