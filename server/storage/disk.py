"""Blocking calls on the storage folder: never overwrites a name, stores equal content once, makes folders durable.

Handles paths and bytes only. folder.py and stage.py decide when, and in which thread, these calls run.
"""

import contextlib
import errno
import logging
import math
import os
import shutil
import socket
import stat
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Literal, Protocol
from uuid import UUID

from server.storage.equal import is_equal
from server.storage.linked import linked_folders, own_links
from server.storage.paths import STAGING, THUMB_WIDTHS, content_path, leads_out, thumb_path
from server.storage.threads import Threads
from server.storage.walk import stat_or_none

LOG = logging.getLogger("reportd.storage")

FULL = {errno.ENOSPC, errno.EDQUOT}
# Errors of os.link(): hard links do not work here, or the file already has the maximum number of links.
NO_LINK = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
# Errors of os.open() that mean "no stored file". ELOOP: a symbolic link, which reportd never creates.
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
_TRIES = 20
_CACHED_FOLDERS = 10_000
_SYNC_THREADS = 16
_AT_ONCE = 1 << 20  # bytes of a file that a thread may send


@dataclass(frozen=True, slots=True)
class Placement:
    """A staged file and the relative paths that it may be stored at, best first.

    `existing`: the artifact is stored already. Its file is only replaced if it is missing or has other bytes.
    """

    staged: str
    size: int
    checksum: str
    project_id: UUID
    candidates: Sequence[str]
    existing: bool = False


@dataclass(frozen=True, slots=True)
class Removal:
    """A stored file whose row was deleted."""

    storage_path: str
    project_id: UUID
    checksum: str


class Watch(Protocol):
    """Callbacks for the metrics, called in the threads that do the I/O."""

    def synced(self, what: Literal["file", "folder"], seconds: float) -> None:
        """One fsync took this long."""

    def linked(self, size: int) -> None:
        """`size` bytes were stored as a hard link to content that the project already had."""

    def damaged(self, what: Literal["artifact", "content"]) -> None:
        """The file of an artifact, or a content entry, did not have the bytes that were just received again."""


class _NoWatch:
    """Records nothing."""

    def synced(self, what: Literal["file", "folder"], seconds: float) -> None:
        pass

    def linked(self, size: int) -> None:
        pass

    def damaged(self, what: Literal["artifact", "content"]) -> None:
        pass


class Disk:
    """One storage folder. `durable` False skips every fsync; `min_free` bytes stay free. Raises OSError.

    Without `hard_links` no file gets a second name, and equal content is stored several times.
    """

    watch: Watch = _NoWatch()

    def __init__(self, root: Path, durable: bool, min_free: int = 0, hard_links: bool = True) -> None:
        # Plain strings: every uploaded file passes through here, and each Path object costs microseconds.
        self._root = str(root)
        self._durable = durable
        self._durable_folders: set[str] = set()
        self._syncs = Threads(_SYNC_THREADS, "sync")
        self._min_free = min_free
        self._hard_links = hard_links
        self._available = 0
        self._measured = -math.inf
        self.undiscarded: set[str] = set()  # staged files that discard() could not unlink yet

    def ensure_space(self, size: int) -> None:
        """Raises OSError (ENOSPC) when writing `size` bytes would leave less than `min_free` bytes on the disk.

        Calls statvfs once a second, or when the last result is used up. In between, it subtracts this process's writes.
        """
        now = time.monotonic()
        if self._available < size or now - self._measured >= 1:
            found = os.statvfs(self._root)
            self._available, self._measured = found.f_bavail * found.f_frsize - self._min_free, now
        if self._available < size:
            raise OSError(errno.ENOSPC, "free disk space would fall below min_free_bytes", self._root)
        self._available -= size

    def start_sync(self, descriptor: int) -> None:
        """Starts to write a file's data to the disk, and does not wait."""
        if self._durable:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def sync(self, descriptor: int) -> None:
        """Makes a file's data durable."""
        if self._durable:
            started = time.perf_counter()
            os.fdatasync(descriptor)
            self.watch.synced("file", time.perf_counter() - started)

    def sync_files(self, descriptors: Sequence[int]) -> list[OSError | None]:
        """Makes the data of files durable, all at once: one commit of the file system then covers many of them. Returns
        the error of each."""
        if not self._durable:
            return [None] * len(descriptors)
        return self._syncs.at_once([partial(self.sync, descriptor) for descriptor in descriptors])

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

    def sync_folders(self, folders: Iterable[str], made: Collection[str]) -> None:
        """Makes the entries of `folders` durable, and those of the folders that make_folder() has added to `made`."""
        if self._durable:
            every = {*folders, *map(os.path.dirname, made)}
            for error in self._syncs.at_once([partial(self.sync_folder, folder) for folder in every]):
                if error is not None:
                    raise error
        if len(self._durable_folders) + len(made) > _CACHED_FOLDERS:
            self._durable_folders.clear()
        self._durable_folders.update(made)

    def end(self) -> None:
        """Ends the threads that sync."""
        self._syncs.end(0)

    def make_folder(self, folder: str, made: set[str]) -> None:
        """Creates a folder and its parents, but those in `made`. Adds to it those that are not known to be durable:
        sync_folders() must follow."""
        if folder in self._durable_folders or folder in made or folder == self._root:
            return
        parent = os.path.dirname(folder)
        if parent == self._root:
            # Raises if the disk was unmounted: otherwise files would be written into the empty mount point.
            os.stat(f"{parent}/{STAGING}")
        self.make_folder(parent, made)
        try:
            os.mkdir(folder, 0o750)
        except OSError as error:
            if not os.path.isdir(folder):
                if error.errno != errno.EEXIST:
                    raise
                # A DELETE removed it between mkdir and isdir.
                raise FileNotFoundError(errno.ENOENT, "the folder was removed again", folder) from None
        made.add(folder)

    def _make_anew(self, folder: str, made: set[str]) -> None:
        """make_folder(), but also those folders that this process has made before: they may be gone."""
        self._durable_folders.clear()
        anew = set[str]()
        self.make_folder(folder, anew)
        made |= anew

    def place(self, item: Placement, made: set[str], taken: Collection[str] = ()) -> str:
        """Moves a staged file to the first candidate path that is free and not in `taken`, and returns that relative
        path. Adds to `made` what make_folder() does.

        New content takes a link and a rename. Content that the project already has is compared with the staged file,
        then takes a link and an unlink: without the comparison, one damaged file would spread to all later uploads of
        the same content. More system calls would cost time: each one releases the GIL and has to wait to get it back.
        """
        if item.existing:
            self._restore(item, made)
            return item.candidates[0]
        entry = content_path(item.project_id, item.checksum)
        content = self._absolute(entry)
        known = self._hard_links and self._is_intact(entry, item, "content")
        for relative in item.candidates:
            if relative in taken:
                continue
            try:
                linked = self._link(content if known else item.staged, item.staged, self._absolute(relative), made)
            except FileExistsError:
                continue
            if linked == content:
                self.watch.linked(item.size)
            if self._hard_links and (known or not _moved(item.staged, content)):
                self.discard(item.staged)
            return relative
        raise FileExistsError(errno.EEXIST, "all candidate paths exist already", item.candidates[-1])

    def discard(self, staged: str) -> None:
        """Unlinks a staged file that is not needed any more. Never raises: what needs the file is done already.

        A file that cannot be unlinked is added to `undiscarded`, and Storage.clean() tries again.
        """
        try:
            os.unlink(staged)
        except FileNotFoundError:
            if not os.path.isdir(os.path.dirname(staged)):  # another folder is mounted, and ours may come back
                self.undiscarded.add(staged)
                return
        except OSError:
            self.undiscarded.add(staged)
            return
        self.undiscarded.discard(staged)

    def has(self, project_id: UUID, checksum: str, size: int) -> bool:
        """Whether a project has a content entry with this SHA-256 and size, to link to. Its bytes are not read."""
        if not self._hard_links:
            return False
        try:
            found = os.lstat(self._absolute(content_path(project_id, checksum)))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == size

    def adopt(self, project_id: UUID, checksum: str, size: int, staged: str) -> int | None:
        """Stages a project's content entry, as a hard link or else as a copy; returns a descriptor to read it.

        None when the project has no such entry, or one of another size. From here on a DELETE of the last artifact
        with these bytes only removes other names of them.
        """
        if not self._hard_links:
            return None
        entry = content_path(project_id, checksum)
        try:
            os.link(self._absolute(entry), staged)
        except (FileNotFoundError, NotADirectoryError):
            os.lstat(os.path.dirname(staged))  # raises if the disk was unmounted: the bytes may be there
            return None
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            self._copy(entry, size, staged)
        return self.open(os.path.relpath(staged, self._root), size)

    def _copy(self, entry: str, size: int, staged: str) -> None:
        """Copies a content entry into staging, where it has the maximum number of links. Nothing if it is missing."""
        descriptor = self.open(entry, size)
        if descriptor is not None:
            self.ensure_space(size)
            with open(descriptor, "rb", buffering=0) as source, open(staged, "xb", buffering=0) as copy:
                shutil.copyfileobj(source, copy)
                self.sync(copy.fileno())

    def remove(self, removals: Sequence[Removal]) -> list[str]:
        """Unlinks files, and each content entry that no other file links to, with its thumbnails.

        Returns the paths that are durably removed, also of files that were missing. What fails is logged and left out:
        a file that cannot be unlinked, and all files of a folder that cannot be synced. The others are still removed.
        """
        gone: dict[str, list[str]] = {}
        for item in removals:
            try:
                path = self._absolute(item.storage_path)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                self._remove_last(item)
            except NotADirectoryError:
                pass  # a parent is not a folder, so there is no file
            except OSError as error:
                LOG.error("cannot unlink the file of a deleted artifact: %r", error)
                continue
            gone.setdefault(os.path.dirname(path), []).append(item.storage_path)
        removed: list[str] = []
        for folder in sorted(gone, key=len, reverse=True):
            try:
                self.tidy(folder)
            except OSError as error:
                LOG.error("cannot sync a folder, so the removal of its files is not durable yet: %s: %r", folder, error)
            else:
                removed += gone[folder]
        return removed

    def _remove_last(self, item: Removal) -> None:
        """Unlinks the content entry and the thumbnails of a file, unless another file has the same content."""
        content = self._absolute(content_path(item.project_id, item.checksum))
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(content)
            if found.st_nlink > 1 and own_links(found, item.checksum, linked_folders(self._root)) > 1:
                return
            os.unlink(content)
        for width in THUMB_WIDTHS:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._absolute(thumb_path(item.project_id, item.checksum, width)))

    def tidy(self, folder: str) -> None:
        """Makes removals from a folder durable, and removes the folder if it is empty."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.sync_folder(folder)
        with contextlib.suppress(OSError):  # not empty
            os.rmdir(folder)
            if os.path.basename(folder).startswith("iteration_"):
                os.rmdir(os.path.dirname(folder))

    def open(self, storage_path: str, size: int) -> int | None:
        """A descriptor of the stored file; None when that is missing, not a regular file, or not `size` bytes long.

        O_NOFOLLOW: reportd creates no symbolic links. O_NONBLOCK: open() of a FIFO must not wait for a writer.
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

    def stat(self, storage_path: str) -> os.stat_result | None:
        """The lstat() of a stored file; None when it is missing or not a regular file."""
        found = None if leads_out(storage_path) else stat_or_none(self._absolute(storage_path))
        return found if found and stat.S_ISREG(found.st_mode) else None

    def read(self, storage_path: str, size: int, start: int, count: int) -> bytes | None:
        """At most `count` bytes of the stored file from offset `start`; None when open() returns None."""
        descriptor = self.open(storage_path, size)
        if descriptor is None:
            return None
        try:
            return os.pread(descriptor, count, start)
        finally:
            os.close(descriptor)

    def send(
        self,
        storage_path: str,
        size: int,
        start: int,
        count: int,
        head: bytes,
        to: socket.socket,
        may_begin: Callable[[], bool],
    ) -> tuple[int, FileIO | None] | None:
        """Sends `head`, then `count` bytes of the stored file from offset `start`, as far as a socket takes them
        without waiting, and at most 1 MiB; nothing when `may_begin()` is False. Returns how many bytes of both, and the
        open file at its next byte, unless that was all; None if open() does.

        The kernel sends the file, so that this process does not copy it. After an error, the caller sends the rest, and
        meets the error again.
        """
        descriptor = self.open(storage_path, size)
        if descriptor is None:
            return None
        sent, end = 0, len(head) + min(count, _AT_ONCE)
        try:
            if may_begin():
                sent = part = to.send(head, socket.MSG_MORE)
                while part and len(head) <= sent < end:  # 0: the file was truncated
                    part = os.sendfile(to.fileno(), descriptor, start + sent - len(head), end - sent)
                    sent += part
        except OSError as error:
            LOG.debug("sending a file from the disk stopped after %d of %d bytes: %r", sent, end, error)
        if sent == len(head) + count:
            os.close(descriptor)
            return sent, None
        os.lseek(descriptor, start + max(0, sent - len(head)), os.SEEK_SET)
        return sent, FileIO(descriptor)

    def _absolute(self, relative: str) -> str:
        if leads_out(relative):  # only in a row that reportd did not write: a restore, or manual SQL
            raise FileNotFoundError(errno.ENOENT, "not a path inside the storage folder", relative)
        return f"{self._root}/{relative}"

    def _link(self, source: str, staged: str, final: str, made: set[str]) -> str:
        """Creates `final` from `source`, else from `staged`; returns the one that was used.

        Never overwrites: raises FileExistsError.
        """
        folder, make = final.rpartition("/")[0], self.make_folder
        for _ in range(_TRIES):
            try:
                make(folder, made)
                if self._hard_links:
                    return _link_or_move(source, staged, final)
                _move(staged, final)
                return staged
            except FileNotFoundError:
                # Race condition: a DELETE removed the empty folder, or the content entry with the last link to it.
                os.lstat(staged)  # raises if the whole disk was unmounted
                source, make = staged, self._make_anew
        raise FileNotFoundError(errno.ENOENT, "the folder was removed again on every attempt", folder)

    def _restore(self, item: Placement, made: set[str]) -> None:
        final = self._absolute(item.candidates[0])
        if self._is_intact(item.candidates[0], item, "artifact"):
            self.discard(item.staged)
            return
        self._make_anew(os.path.dirname(final), made)
        os.replace(item.staged, final)

    def _is_intact(self, relative: str, item: Placement, what: Literal["artifact", "content"]) -> bool:
        """Whether a stored file exists and has the bytes of the staged file. Logs and counts one with other bytes."""
        equal = is_equal(self._absolute(relative), item.staged, item.size)
        if equal is False:
            LOG.error("stored file %s is damaged; replacing it by the same bytes, which were just sent again", relative)
            self.watch.damaged(what)
            if what == "content":
                # It may be another name of the staged file, which could not be read: then a rename would do nothing,
                # and leave both names.
                with contextlib.suppress(OSError):
                    os.unlink(self._absolute(relative))
        return bool(equal)


def _moved(staged: str, content: str) -> bool:
    """Renames the staged file to its content entry, for later uploads to link to. False only costs disk space."""
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
        # Network file systems may create the link and yet report an error. It would be a file without a row.
        if _is_same_file(staged, final):
            return staged
        if source != staged and error.errno != errno.EEXIST and _is_same_file(source, final):
            with contextlib.suppress(OSError):
                os.unlink(final)
        if error.errno not in NO_LINK:
            raise
    _move(staged, final)
    return staged


def _move(staged: str, final: str) -> None:
    """Renames the staged file, where hard links are not possible. Raises FileExistsError.

    Creates the name exclusively, then renames over this own empty file: so nothing else is overwritten.
    """
    created = False
    try:
        descriptor = os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        created = True
        os.close(descriptor)
        os.replace(staged, final)
    except OSError as error:
        # The call that failed may have done its work. An empty file at this path is our own: none is ever stored.
        if created or (error.errno != errno.EEXIST and _is_empty(final)):
            with contextlib.suppress(OSError):
                os.unlink(final)
        raise


def _is_same_file(one: str, other: str) -> bool:
    try:
        return os.path.samestat(os.lstat(one), os.lstat(other))
    except OSError:
        return False


def _is_empty(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == 0
