"""The storage folder, asynchronously: stages the files of a request, publishes or takes them back, opens and removes.

Every call that touches the disk runs in this module's own threads. Knows paths and bytes, no rows.
"""

import asyncio
import contextlib
import errno
import fcntl
import glob
import itertools
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TypeVar

from server.errors import ReportError, StorageFull, Unavailable
from server.uploads.disk import FULL, Disk, Placement, Removal
from server.uploads.paths import STAGING

P = ParamSpec("P")
R = TypeVar("R")

_THREADS = 8


class StorageAway(Unavailable):
    """The storage folder is not available right now. Send the request again in a moment."""

    code = "storage_unavailable"


class Storage:
    """One storage folder. open() before use, close() at the end."""

    def __init__(self, root: str | Path, durability: str = "full") -> None:
        self.root = Path(root)
        self.disk = Disk(self.root, durable=durability == "full")
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="storage")
        self._lock: int | None = None
        self.staging = self.root / STAGING
        self.numbers = itertools.count()  # names in a staging folder that no other process uses

    def open(self) -> None:
        """Makes this process's staging folder and clears those of processes that are gone. Blocking.

        Raises OSError when the folder cannot be made or written.
        """
        for missing in reversed([folder for folder in (self.root, *self.root.parents) if not folder.exists()]):
            missing.mkdir(mode=0o750, exist_ok=True)
            self.disk.sync_folder(missing.parent)
        host = self.root / STAGING / f"{socket.gethostname()}-{boot_id()}"
        while self._lock is None:  # a process that starts now may sweep the folder before it is locked
            self.staging = host / uuid.uuid4().hex
            self.staging.mkdir(parents=True, mode=0o750)
            self._lock = try_lock(self.staging)
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

    async def open_file(self, storage_path: str, size: int) -> FileIO | None:
        """The stored file, unbuffered; None when it is missing or not `size` bytes long."""
        return await self.run(self.disk.open_file, storage_path, size)

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

    def remove_now(self, removals: Sequence[Removal]) -> list[str]:
        """What remove() does. Blocking."""
        self.staging.stat()  # a folder that is away holds no files, and has lost none
        return self.disk.remove(removals)

    def _check(self) -> None:
        probe = self.staging / f"probe-{uuid.uuid4().hex}"
        try:
            probe.write_bytes(b"x")
        finally:
            probe.unlink(missing_ok=True)


class Stage:
    """The files of one request, from their first byte to their names. A context manager: what is still staged at
    its end is removed, and what was published is taken back on an exception, unless its rows may have been saved."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._staged: set[str] = set()
        self._published: list[Removal] = []
        self._rows_saved = False
        self.run = storage.run
        self.sync = storage.disk.sync

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

    def new_path(self) -> str:
        """Where the next file of the request is staged."""
        path = f"{self._storage.staging}/{next(self._storage.numbers)}"
        self._staged.add(path)
        return path

    def discard(self, path: str) -> None:
        """Removes a staged file that is not wanted any more. Blocking."""
        self._staged.discard(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    async def publish(self, items: Sequence[Placement]) -> list[str]:
        """Names for the items, in their order, durable when this returns. Raises StorageFull, StorageAway."""
        return await self._storage.run(self._publish, items)

    def _publish(self, items: Sequence[Placement]) -> list[str]:
        paths = []
        for item in items:
            paths.append(self._storage.disk.place(item))
            self._staged.discard(item.staged)
            if not item.existing:
                self._published.append(Removal(paths[-1], item.project_id, item.checksum))
        for folder in {os.path.dirname(path) for path in paths}:
            self._storage.disk.sync_folder(f"{self._storage.root}/{folder}")
        return paths

    def _clean(self, taken_back: list[Removal]) -> None:
        for path in list(self._staged):
            with contextlib.suppress(OSError):
                self.discard(path)
        self._storage.remove_now(taken_back)


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()[:8]


def try_lock(folder: Path) -> int | None:
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
        descriptor = try_lock(folder)
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)
