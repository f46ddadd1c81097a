"""The storage folder: stages files, publishes them under names that are never overwritten, opens and removes them.

Every call that touches the disk runs in this module's own threads. Knows paths and bytes, no rows.
"""

import asyncio
import contextlib
import errno
import fcntl
import glob
import logging
import os
import shutil
import socket
import stat
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TypeVar
from uuid import UUID

from server.errors import ReportError, StorageFull, Unavailable
from server.uploads.paths import STAGING, content_path

LOG = logging.getLogger("reportd.storage")
P = ParamSpec("P")
R = TypeVar("R")

FULL = {errno.ENOSPC, errno.EDQUOT}
# The file system has no hard links, or this one file has all it can have.
_NO_LINK = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_THREADS = 8
_TRIES = 20
_REMEMBERED_FOLDERS = 10_000


class StorageAway(Unavailable):
    """The storage folder is not available right now. Send the request again in a moment."""

    code = "storage_unavailable"


@dataclass(frozen=True, slots=True)
class Placement:
    """A staged file and the relative paths it may take, best first; an `existing` one is only made whole."""

    staged: Path
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


class Storage:
    """One storage folder. open() before use, close() at the end."""

    def __init__(self, root: str | Path, durability: str = "full") -> None:
        self.root = Path(root)
        self._sync = durability == "full"
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="storage")
        self._durable_folders: set[Path] = set()
        self._lock: int | None = None
        self.staging = self.root / STAGING

    def open(self) -> None:
        """Makes this process's staging folder and clears those of processes that are gone. Blocking.

        Raises OSError when the folder cannot be made or written.
        """
        for missing in reversed([folder for folder in (self.root, *self.root.parents) if not folder.exists()]):
            missing.mkdir(mode=0o750, exist_ok=True)
            self.sync_folder(missing.parent)
        host = self.root / STAGING / f"{socket.gethostname()}-{_boot_id()}"
        while self._lock is None:  # a process that starts now may sweep the folder before it is locked
            self.staging = host / uuid.uuid4().hex
            self.staging.mkdir(parents=True, mode=0o750)
            self._lock = _try_lock(self.staging)
        for other in (self.root / STAGING).glob(f"{glob.escape(socket.gethostname())}-{'?' * 8}/*"):
            _sweep(other)

    def close(self) -> None:
        """Removes this process's staging folder. Blocking."""
        self._threads.shutdown(wait=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            shutil.rmtree(self.staging, ignore_errors=True)

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`work` in a thread. What the disk says comes back as StorageFull or StorageAway.

        Returns, also when it is cancelled, only when the thread has done its work: nothing that it uses is taken away.
        """
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._threads, lambda: self._worded(work, *args, **kwargs))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            while not done.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([done])
            raise

    def stage(self) -> "Stage":
        """A place for the files of one request."""
        return Stage(self)

    def sync(self, descriptor: int) -> None:
        """Makes a file's data, or a folder's entries, durable."""
        if self._sync:
            os.fdatasync(descriptor)

    async def open_file(self, storage_path: str, size: int) -> FileIO | None:
        """The stored file, unbuffered; None when it is missing or not `size` bytes long."""
        return await self.run(self._open_file, storage_path, size)

    async def remove(self, removals: Iterable[Removal]) -> list[str]:
        """Unlinks files, and their content entries when nothing else has those bytes.

        The paths that are durably gone; missing files are. Raises StorageAway when it is the folder that is missing.
        """
        return await self.run(self.remove_now, list(removals))

    async def check(self) -> None:
        """Raises StorageFull or StorageAway unless a file can be written."""
        await self.run(self._check)

    def _worded(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return work(*args, **kwargs)
        except OSError as error:
            raise (StorageFull() if error.errno in FULL else StorageAway()) from error

    def _open_file(self, storage_path: str, size: int) -> FileIO | None:
        try:
            file = FileIO(self.root / storage_path, "rb")
        except (FileNotFoundError, NotADirectoryError):
            return None
        if os.fstat(file.fileno()).st_size != size:
            file.close()
            return None
        return file

    def remove_now(self, removals: list[Removal]) -> list[str]:
        """What remove() does. Blocking."""
        self.staging.stat()  # a folder that is away holds no files, and has lost none
        gone: dict[Path, list[str]] = {}
        for item in removals:
            path = self.root / item.storage_path
            try:
                path.unlink(missing_ok=True)
                content = self.root / content_path(item.project_id, item.checksum)
                with contextlib.suppress(FileNotFoundError):
                    if content.stat().st_nlink == 1:
                        content.unlink()
            except NotADirectoryError:
                pass  # nothing lies there
            except OSError as error:
                LOG.error("a removed artifact's file stays: %r", error)
                continue
            gone.setdefault(path.parent, []).append(item.storage_path)
        for folder in sorted(gone, key=lambda path: -len(path.parts)):
            self._tidy(folder)
        return [path for paths in gone.values() for path in paths]

    def _tidy(self, folder: Path) -> None:
        """Makes removals from a folder durable, and removes it when nothing is left in it."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self.sync_folder(folder)
        with contextlib.suppress(OSError):  # not empty: something else lies there
            folder.rmdir()
            if folder.name.startswith("iteration_"):
                folder.parent.rmdir()

    def _check(self) -> None:
        probe = self.staging / f"probe-{uuid.uuid4().hex}"
        try:
            probe.write_bytes(b"x")
        finally:
            probe.unlink(missing_ok=True)

    def place(self, item: Placement) -> str:
        """Gives a staged file its name. Blocking; returns the relative path taken."""
        if item.existing:
            self._make_whole(item)
            return item.candidates[0]
        source = self._same_bytes(item)
        for relative in item.candidates:
            with contextlib.suppress(FileExistsError):
                self._link(source or item.staged, item.staged, self.root / relative)
                if source is None:
                    self._remember_bytes(item, self.root / relative)
                return relative
        raise FileExistsError(errno.EEXIST, "every name is taken", item.candidates[-1])

    def make_folder(self, folder: Path) -> None:
        """Makes a folder and makes its entry, and those above it, durable; a folder known to be so costs nothing."""
        if folder in self._durable_folders or folder == self.root:
            return
        self.make_folder(folder.parent)
        try:
            folder.mkdir(mode=0o750)
        except FileExistsError:
            if not folder.is_dir():  # it was removed again meanwhile
                raise FileNotFoundError(errno.ENOENT, "the folder has gone", str(folder)) from None
        self.sync_folder(folder.parent)
        if len(self._durable_folders) >= _REMEMBERED_FOLDERS:
            self._durable_folders.clear()
        self._durable_folders.add(folder)

    def sync_folder(self, folder: Path) -> None:
        """Makes the entries of a folder durable."""
        if self._sync:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _link(self, source: Path, staged: Path, final: Path) -> None:
        """A new name for the bytes of `source`, or of `staged`. Raises FileExistsError, never overwrites."""
        for _ in range(_TRIES):
            try:
                self.make_folder(final.parent)
                return _link_or_move(source, staged, final)
            except FileNotFoundError:
                # The folder was removed as empty, or the content entry with its last file, since we looked.
                self._durable_folders.clear()
                source = staged
        raise FileNotFoundError(errno.ENOENT, "the folder is removed again and again", str(final.parent))

    def _same_bytes(self, item: Placement) -> Path | None:
        content = self.root / content_path(item.project_id, item.checksum)
        try:
            known = content.lstat()
        except OSError:
            return None
        return content if stat.S_ISREG(known.st_mode) and known.st_size == item.size else None

    def _remember_bytes(self, item: Placement, final: Path) -> None:
        # A cache: losing an entry costs disk space, never a file.
        content = self.root / content_path(item.project_id, item.checksum)
        with contextlib.suppress(OSError):
            content.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            content.unlink(missing_ok=True)
            os.link(final, content)

    def _make_whole(self, item: Placement) -> None:
        final = self.root / item.candidates[0]
        try:
            if final.stat().st_size == item.size:
                return
        except FileNotFoundError:
            self._durable_folders.clear()
        self.make_folder(final.parent)
        os.replace(item.staged, final)


class Stage:
    """The files of one request, from their first byte to their names. A context manager: what is still staged at
    its end is removed, and what was published is taken back on an exception, unless its rows may have been saved."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._staged: set[Path] = set()
        self._published: list[Removal] = []
        self._rows_saved = False
        self.run = storage.run
        self.sync = storage.sync

    async def __aenter__(self) -> "Stage":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        taken_back = [] if error is None or self._rows_saved else self._published
        if self._staged or taken_back:
            with contextlib.suppress(ReportError):  # a disk that is gone must not hide the reply
                await self._storage.run(self._clean, taken_back)

    def settle(self, saved: bool) -> None:
        """Told that the rows may be saved from now on, or that they are known not to be."""
        self._rows_saved = saved

    def new_path(self) -> Path:
        """Where the next file of the request is staged."""
        path = self._storage.staging / uuid.uuid4().hex
        self._staged.add(path)
        return path

    def discard(self, path: Path) -> None:
        """Removes a staged file that is not wanted any more. Blocking."""
        self._staged.discard(path)
        path.unlink(missing_ok=True)

    async def publish(self, items: Sequence[Placement]) -> list[str]:
        """Names for the items, in their order, durable when this returns. Raises StorageFull, StorageAway."""
        return await self._storage.run(self._publish, items)

    def _publish(self, items: Sequence[Placement]) -> list[str]:
        paths = []
        for item in items:
            paths.append(self._storage.place(item))
            if not item.existing:
                self._published.append(Removal(paths[-1], item.project_id, item.checksum))
        for folder in {(self._storage.root / path).parent for path in paths}:
            self._storage.sync_folder(folder)
        for path in list(self._staged):
            self.discard(path)
        return paths

    def _clean(self, taken_back: list[Removal]) -> None:
        for path in list(self._staged):
            with contextlib.suppress(OSError):
                self.discard(path)
        self._storage.remove_now(taken_back)


def _link_or_move(source: Path, staged: Path, final: Path) -> None:
    try:
        os.link(source, final)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        # Claim the name, then move the staged bytes over our own empty file: still nothing is overwritten.
        os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640))
        try:
            os.replace(staged, final)
        except OSError:
            final.unlink()
            raise


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()[:8]


def _try_lock(folder: Path) -> int | None:
    """A lock on a folder that lasts as long as this process; None when another has it, or the folder is gone."""
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.stat()
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if error.errno not in {errno.EWOULDBLOCK, errno.ENOENT}:
            raise
        return None
    return descriptor


def _sweep(folder: Path) -> None:
    """Removes a staging folder whose process is gone: a process holds the lock on its own as long as it lives."""
    with contextlib.suppress(OSError):
        descriptor = _try_lock(folder)
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)
