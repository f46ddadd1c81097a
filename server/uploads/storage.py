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
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from server.errors import ReportError, StorageFull, Unavailable
from server.uploads.disk import FULL, Disk, Placement, Removal
from server.uploads.paths import STAGING
from server.uploads.threads import Threads

P = ParamSpec("P")
R = TypeVar("R")

_THREADS = 8
_CLEAN_SECONDS = 1.0
_CLOSE_SECONDS = 10.0


class StorageAway(Unavailable):
    """The storage folder is not available right now. Send the request again in a moment."""

    code = "storage_unavailable"


class Storage:
    """One storage folder. open() before use, close() at the end.

    `file_timeout` is how many seconds a call to the disk may take, and `min_free_bytes` what stays free on the disk.
    """

    def __init__(
        self, root: str | Path, durability: str = "full", file_timeout: float = 30.0, min_free_bytes: int = 0
    ) -> None:
        self.root = Path(root)
        self.disk = Disk(self.root, durability == "full", min_free_bytes)
        self._seconds = file_timeout
        self._threads = Threads(_THREADS, "storage")
        self.is_ours = True  # False while the database has not said so, see folder.py
        self.refused = 0  # requests, because the disk did not answer earlier ones
        self._unwanted: set[str] = set()
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
        """Removes this process's staging folder, once the last call has ended. Blocking, but not for a disk that
        stalls: then the folder is left to the next process that starts."""
        if self._threads.end(_CLOSE_SECONDS) and self._lock is not None:
            os.close(self._lock)
            self._lock = None
            shutil.rmtree(self.staging, ignore_errors=True)

    @property
    def stalled(self) -> bool:
        """Whether every thread waits for a disk that does not answer. It ends when the first of them is answered."""
        return self._threads.stuck(self._seconds)

    def admit(self) -> None:
        """Raises StorageAway, and counts that, when a request would wait for the disk in vain."""
        if self.stalled or not self.is_ours:
            self.refused += 1
            raise StorageAway()

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`work` in a thread. What the disk says comes back as StorageFull or StorageAway.

        A thread cannot be ended. After `file_timeout`, or when cancelled, this returns all the same, and the thread
        goes on: `work` must need nothing that is taken away then. The files of a request have a Stage for that.
        """
        return await self.outcome(self.submit(work, *args, **kwargs))

    def submit(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """`work` begun in a thread, or about to; see outcome(). Raises StorageAway when no thread will be free."""
        if self.stalled or not self.is_ours:
            raise StorageAway()
        return self.submit_anyway(work, *args, **kwargs)

    def submit_anyway(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """What must be done some day, even if the disk does not answer now."""
        return self._threads.submit(partial(_worded, partial(work, *args, **kwargs)))

    async def outcome(self, call: Future[R]) -> R:
        """What a call comes to. One that takes too long is given up: if it has not begun, it never will."""
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.wrap_future(call)
        except TimeoutError as error:
            raise StorageAway() from error

    def stage(self) -> "Stage":
        """A place for the files of one request."""
        return Stage(self)

    async def read(self, storage_path: str, size: int, start: int, count: int) -> bytes | None:
        """A part of the stored file; None when that is missing or not `size` bytes long."""
        self.admit()
        return await self.run(self._read, storage_path, size, start, count)

    async def remove(self, removals: Iterable[Removal]) -> list[str]:
        """Unlinks files, and their content entries when nothing else has those bytes.

        The paths that are durably gone; missing files are. Raises StorageAway when it is the folder that is missing.
        """
        return await self.run(self.remove_now, list(removals))

    async def check(self) -> None:
        """Raises StorageFull or StorageAway unless a file can be written."""
        await self.run(self._check)

    async def tidy(self) -> None:
        """Removes the staged files that stayed because the disk was away or read-only."""
        await self.run(self.clean)

    def remove_now(self, removals: Sequence[Removal]) -> list[str]:
        """What remove() does. Blocking."""
        self.staging.stat()  # a folder that is away holds no files, and has lost none
        return self.disk.remove(removals)

    def clean(self, staged: Iterable[str] = ()) -> None:
        """Removes staged files. Blocking. What the disk does not let go now is kept in mind for the next time."""
        paths = [*staged, *tuple(self._unwanted)]
        try:
            self.staging.stat()  # while the disk is away nothing is removed, and nothing is gone
        except OSError:
            self._unwanted.update(paths)
            return
        for path in paths:
            try:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                self._unwanted.discard(path)
            except OSError:
                self._unwanted.add(path)

    def _read(self, storage_path: str, size: int, start: int, count: int) -> bytes | None:
        found = self.disk.read(storage_path, size, start, count)
        if found is None:
            self.staging.stat()  # a folder that is away has lost no file
        return found

    def _check(self) -> None:
        self.clean()
        probe = self.staging / f"probe-{uuid.uuid4().hex}"
        try:
            probe.write_bytes(b"x")
        finally:
            probe.unlink(missing_ok=True)


class Stage:
    """The files of one request, from their first byte to their names. A context manager: what is still staged at
    its end is removed, and what was published is taken back on an exception, unless its rows may have been saved.

    When the disk took too long, all of that is done once it answers."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._staged: dict[str, Callable[[], None]] = {}
        self._published: list[Removal] = []
        self._rows_saved = False
        self._last: Future[Any] | None = None
        self.disk = storage.disk

    async def __aenter__(self) -> "Stage":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        take_back = error is not None and not self._rows_saved
        if self._last is not None and not self._last.done():
            # In a thread again: a call that ends this very moment would do it here.
            self._last.add_done_callback(lambda _: self._storage.submit_anyway(self._clean, take_back))
        elif self._staged or (take_back and self._published):
            cleaning = self._storage.submit_anyway(self._clean, take_back)
            # A disk that is gone must not hide the reply. Nor is the cleaning given up: it is only not waited for.
            with contextlib.suppress(ReportError, TimeoutError):
                async with asyncio.timeout(_CLEAN_SECONDS):
                    await asyncio.shield(asyncio.wrap_future(cleaning))

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`work` in a thread, see Storage.run; nothing of this request's files is touched before it ends."""
        self._last = call = self._storage.submit(work, *args, **kwargs)
        return await self._storage.outcome(call)

    def settle(self, saved: bool) -> None:
        """Told that the rows may be saved from now on, or that they are known not to be."""
        self._rows_saved = saved

    def new_path(self, close: Callable[[], None] = lambda: None) -> str:
        """Where the next file of the request is staged; `close` is called before it is removed."""
        path = f"{self._storage.staging}/{next(self._storage.numbers)}"
        self._staged[path] = close
        return path

    def discard(self, path: str) -> None:
        """Removes a staged file that is not wanted any more. Blocking."""
        self._staged.pop(path, lambda: None)()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    async def publish(self, items: Sequence[Placement]) -> list[str]:
        """Names for the items, in their order, durable when this returns. Raises StorageFull, StorageAway."""
        return await self.run(self._publish, items)

    def _publish(self, items: Sequence[Placement]) -> list[str]:
        paths = []
        for item in items:
            paths.append(self._storage.disk.place(item))
            self._staged.pop(item.staged, None)
            if not item.existing:
                self._published.append(Removal(paths[-1], item.project_id, item.checksum))
        for folder in {os.path.dirname(path) for path in paths}:
            self._storage.disk.sync_folder(f"{self._storage.root}/{folder}")
        return paths

    def _clean(self, take_back: bool) -> None:
        for close in self._staged.values():
            with contextlib.suppress(OSError):  # a write that fails only now
                close()
        self._storage.clean(self._staged)
        if take_back and self._published:
            with contextlib.suppress(OSError):
                self._storage.remove_now(self._published)


def _worded(work: Callable[[], R]) -> R:
    try:
        return work()
    except OSError as error:
        raise (StorageFull() if error.errno in FULL else StorageAway()) from error


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
