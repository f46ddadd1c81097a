"""The contents of backups: each once, named by its SHA-256, as a hard link to the stored file or as a copy. Blocking.

A linked file shares its bytes with the storage folder, where no stored file is ever written again: an upload makes a
new file, and a damaged one is replaced by another.
"""

import errno
import gzip
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from heapq import merge
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from server.commands.backup.layout import sync_folder
from server.storage.disk import NO_LINK
from server.storage.linked import add_linked, entry_path
from server.storage.walk import sha256, stat_or_none

_CHUNK = 1 << 20
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


class Listed(NamedTuple):
    """An artifact of a backup: a line of its list. The lines are in the order of `checksum`."""

    checksum: str
    size: int
    project_id: str
    storage_path: str


class Contents:
    """The folder `files` of a folder of backups. `root`: the storage folder. `verify`: read everything, also links."""

    def __init__(self, folder: str, root: str, verify: bool) -> None:
        self._verify = verify
        self._folder = folder
        self._root = root
        self._linkable = may_link(folder, root)
        self.changed: set[str] = set()  # folders to sync

    def add(self, files: Iterable[Listed]) -> str:
        """Add the content of files that all have the same; "had", "linked", "copied", or "missing". Raises OSError."""
        tried = list(files)
        checksum, size, *_ = tried[0]
        entry = entry_path(self._folder, checksum)
        found = stat_or_none(entry)
        if found is not None and found.st_size == size and self._is_intact(entry, checksum):
            return "had"
        if found is not None:  # otherwise a damaged one would be "had" by the next backup
            os.unlink(entry)
        folder = os.path.dirname(entry)
        os.makedirs(folder, 0o700, exist_ok=True)
        self.changed |= {folder, self._folder}
        for file in tried:
            done = self._take(f"{self._root}/{file.storage_path}", size, checksum, entry)
            if done:
                return done
        return "missing"

    def _take(self, source: str, size: int, checksum: str, entry: str) -> str | None:
        written = f"{os.path.dirname(entry)}/.{uuid4().hex}"
        try:
            found = os.lstat(source)
            if not stat.S_ISREG(found.st_mode) or found.st_size != size:
                return None
            if self._linkable and self._is_intact(source, checksum) and link(source, written):
                done = "linked"
            elif copy(source, written) == checksum:
                done = "copied"
            else:
                return None
            os.replace(written, entry)
            return done
        except OSError as error:
            if error.errno in _GONE or (error.errno == errno.EIO and error.filename == source):
                return None
            raise
        finally:
            with suppress(FileNotFoundError):
                os.unlink(written)

    def _is_intact(self, path: str, checksum: str) -> bool:
        try:
            return not self._verify or sha256(path) == checksum
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return False

    def sync(self) -> None:
        """Make new entries durable; the copies are."""
        for folder in sorted(self.changed, reverse=True):
            sync_folder(folder)
        self.changed.clear()


def may_link(folder: str, root: str) -> bool:
    """Whether stored files may have hard links in a folder of contents. Then the storage folder has a note of it."""
    if os.stat(folder).st_dev != os.stat(root).st_dev:
        return False
    try:
        add_linked(root, folder)
    except OSError as error:
        if error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
            raise
        return False  # the storage folder may only be read: copy
    return True


def link(source: str, target: str) -> bool:
    """Whether a hard link could be made. False where the file system, or a mount between, allows none."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        return False
    return True


def copy(source: str, target: str) -> str:
    """Copy a file, durably; the SHA-256 of the bytes that were read. Raises OSError."""
    digest = hashlib.sha256()
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(reading, "rb", buffering=0) as read, open(target, "xb") as written:
        os.fchmod(written.fileno(), 0o640)  # as the server stores it
        while part := _read(read.fileno(), source):
            digest.update(part)
            written.write(part)
        written.flush()
        os.fsync(written.fileno())
    return digest.hexdigest()


def _read(descriptor: int, source: str) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except OSError as error:  # a bad sector: with the name, to tell it from an error of the target
        raise OSError(error.errno, error.strerror, source) from None


def prune(folder: str, lists: Iterable[Path]) -> int:
    """Remove the contents that none of these lists has; their number. In memory: those of one of 256 folders."""
    wanted = merge(*(_checksums(path) for path in lists))
    following = next(wanted, None)
    removed = 0
    for prefix in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)):
        kept = set()
        while following is not None and following[:2] <= prefix:
            kept.add(following)
            following = next(wanted, None)
        for name in os.listdir(f"{folder}/{prefix}"):
            if name not in kept:
                os.unlink(f"{folder}/{prefix}/{name}")
                removed += 1
    return removed


def write_line(file: gzip.GzipFile, listed: Listed) -> None:
    file.write(" ".join(map(str, listed)).encode() + b"\n")


def read_list(path: Path) -> Iterator[Listed]:
    """The artifacts of a backup, whose list was compared with its manifest."""
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            checksum, size, project_id, storage_path = line.rstrip("\n").split(" ", 3)
            yield Listed(checksum, int(size), project_id, storage_path)


def _checksums(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield line[:64]
