"""Blocking calls on the storage folder: names that are never overwritten, contents stored once, durable folders.

Knows paths and bytes; what is called when, and in which thread, is storage.py's.
"""

import contextlib
import errno
import logging
import math
import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol
from uuid import UUID

from server.storage.paths import STAGING, content_path, leads_out

LOG = logging.getLogger("reportd.storage")

FULL = {errno.ENOSPC, errno.EDQUOT}
# The file system has no hard links, or this one file has all it can have.
NO_LINK = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
# What an artifact's name says when there is no file, or a symbolic link, which is none of ours.
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
_TRIES = 20
_REMEMBERED_FOLDERS = 10_000


@dataclass(frozen=True, slots=True)
class Placement:
    """A staged file and the relative paths it may take, best first; an `existing` one is only made whole."""

    staged: str
    size: int
    checksum: str
    project_id: UUID
    candidates: Sequence[str]
    existing: bool = False


@dataclass(frozen=True, slots=True)
class Removal:
    """A file whose row is gone."""

    storage_path: str
    project_id: UUID
    checksum: str


class Watch(Protocol):
    """What the disk does, for the metrics; called in the threads that do it."""

    def synced(self, what: Literal["file", "folder"], seconds: float) -> None:
        """An fsync was done."""

    def linked(self, size: int) -> None:
        """Bytes that the project has already were stored by a hard link."""


class _NoWatch:
    """Counts nothing."""

    def synced(self, what: Literal["file", "folder"], seconds: float) -> None:
        pass

    def linked(self, size: int) -> None:
        pass


class Disk:
    """One storage folder. `durable` False skips every fsync; `min_free` bytes stay free. Raises OSError."""

    watch: Watch = _NoWatch()

    def __init__(self, root: Path, durable: bool, min_free: int = 0) -> None:
        # Plain strings: this is where every file of every upload passes, and a Path costs microseconds each time.
        self._root = str(root)
        self._durable = durable
        self._durable_folders: set[str] = set()
        self._min_free = min_free
        self._room = 0
        self._asked = -math.inf

    def ensure_room(self, size: int) -> None:
        """Raises OSError (ENOSPC) when `size` bytes more would leave less than `min_free` on the disk.

        The disk is asked once a second; in between, what is written here is counted.
        """
        now = time.monotonic()
        if self._room < size or now - self._asked >= 1:
            found = os.statvfs(self._root)
            self._room, self._asked = found.f_bavail * found.f_frsize - self._min_free, now
        if self._room < size:
            raise OSError(errno.ENOSPC, "the rest of the disk is kept free", self._root)
        self._room -= size

    def sync(self, descriptor: int) -> None:
        """Makes a file's data durable."""
        if self._durable:
            started = time.perf_counter()
            os.fdatasync(descriptor)
            self.watch.synced("file", time.perf_counter() - started)

    def sync_folder(self, folder: str | Path) -> None:
        """Makes the entries of a folder durable."""
        if self._durable:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                started = time.perf_counter()
                os.fsync(descriptor)
                self.watch.synced("folder", time.perf_counter() - started)
            finally:
                os.close(descriptor)

    def make_folder(self, folder: str) -> None:
        """Makes a folder and makes its entry, and those above it, durable; a folder known to be so costs nothing."""
        if folder in self._durable_folders or folder == self._root:
            return
        parent = os.path.dirname(folder)
        if parent == self._root:
            os.stat(f"{parent}/{STAGING}")  # a disk that was unmounted leaves a folder in which nothing may be made
        self.make_folder(parent)
        try:
            os.mkdir(folder, 0o750)
        except FileExistsError:
            if not os.path.isdir(folder):  # it was removed again meanwhile
                raise FileNotFoundError(errno.ENOENT, "the folder has gone", folder) from None
        self.sync_folder(parent)
        if len(self._durable_folders) >= _REMEMBERED_FOLDERS:
            self._durable_folders.clear()
        self._durable_folders.add(folder)

    def place(self, item: Placement) -> str:
        """Gives a staged file its name, and returns it, relative; the staged name is gone then.

        Two links and a move for new bytes, one link for bytes that the project has: every call here gives the
        interpreter to another thread and must get it back.
        """
        if item.existing:
            self._make_whole(item)
            return item.candidates[0]
        content = self._absolute(content_path(item.project_id, item.checksum))
        known = _has_size(content, item.size)
        for relative in item.candidates:
            try:
                linked = self._link(content if known else item.staged, item.staged, self._absolute(relative))
            except FileExistsError:
                continue
            if linked == content:
                self.watch.linked(item.size)
            if known or not _moved(item.staged, content):
                with contextlib.suppress(OSError):
                    os.unlink(item.staged)
            return relative
        raise FileExistsError(errno.EEXIST, "every name is taken", item.candidates[-1])

    def remove(self, removals: Sequence[Removal]) -> list[str]:
        """Unlinks files, and their content entries when nothing else has those bytes.

        The paths that are durably gone; missing files are. What cannot be unlinked is logged, and holds up no other.
        """
        gone: dict[str, list[str]] = {}
        for item in removals:
            try:
                path = self._absolute(item.storage_path)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                content = self._absolute(content_path(item.project_id, item.checksum))
                with contextlib.suppress(FileNotFoundError):
                    if os.stat(content).st_nlink == 1:
                        os.unlink(content)
            except NotADirectoryError:
                pass  # nothing lies there
            except OSError as error:
                LOG.error("a removed artifact's file stays: %r", error)
                continue
            gone.setdefault(os.path.dirname(path), []).append(item.storage_path)
        for folder in sorted(gone, key=len, reverse=True):
            self.tidy(folder)
        return [path for paths in gone.values() for path in paths]

    def tidy(self, folder: str) -> None:
        """Makes removals from a folder durable, and removes it when nothing is left in it."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.sync_folder(folder)
        with contextlib.suppress(OSError):  # not empty: something else lies there
            os.rmdir(folder)
            if os.path.basename(folder).startswith("iteration_"):
                os.rmdir(os.path.dirname(folder))

    def open(self, storage_path: str, size: int) -> int | None:
        """A descriptor of the stored file; None when that is missing, no regular file, or not `size` bytes long.

        Not through a symbolic link, and without waiting for who would write to a pipe: neither is ours.
        """
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(self._absolute(storage_path), flags)
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            return None
        try:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_size == size:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def read(self, storage_path: str, size: int, start: int, count: int) -> bytes | None:
        """A part of the stored file; None as open() gives it."""
        descriptor = self.open(storage_path, size)
        if descriptor is None:
            return None
        try:
            return os.pread(descriptor, count, start)
        finally:
            os.close(descriptor)

    def _absolute(self, relative: str) -> str:
        if leads_out(relative):  # what was restored or written into the database by other means than ours
            raise FileNotFoundError(errno.ENOENT, "no path of the storage folder", relative)
        return f"{self._root}/{relative}"

    def _link(self, source: str, staged: str, final: str) -> str:
        """A new name for the bytes of `source`, or of `staged`; which of them it was.

        Raises FileExistsError, never overwrites.
        """
        folder = os.path.dirname(final)
        for _ in range(_TRIES):
            try:
                self.make_folder(folder)
                return _link_or_move(source, staged, final)
            except FileNotFoundError:
                # The folder was removed as empty, or the content entry with its last file, since we looked.
                os.lstat(staged)  # or the whole disk is away
                self._durable_folders.clear()
                source = staged
        raise FileNotFoundError(errno.ENOENT, "the folder is removed again and again", folder)

    def _make_whole(self, item: Placement) -> None:
        final = self._absolute(item.candidates[0])
        if _has_size(final, item.size):
            os.unlink(item.staged)
            return
        self._durable_folders.clear()
        self.make_folder(os.path.dirname(final))
        os.replace(item.staged, final)


def _has_size(path: str, size: int) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size


def _moved(staged: str, content: str) -> bool:
    """Makes the staged name the entry under which the same bytes are found again. A cache: False costs disk space."""
    with contextlib.suppress(OSError):
        try:
            os.replace(staged, content)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(content), 0o750, exist_ok=True)
            os.replace(staged, content)
        return True
    return False


def _link_or_move(source: str, staged: str, final: str) -> str:
    try:
        os.link(source, final)
        return source
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        # Claim the name, then move the staged bytes over our own empty file: still nothing is overwritten.
        os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
        try:
            os.replace(staged, final)
        except OSError:
            os.unlink(final)
            raise
        return staged
