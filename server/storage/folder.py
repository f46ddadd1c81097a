"""The storage folder, asynchronously: every call that touches the disk runs in its own threads, within a time limit.

Knows paths and bytes, no rows.
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
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import aiofiles

from server.errors import StorageFull, Unavailable
from server.storage.disk import FULL, Disk, Removal
from server.storage.paths import STAGING
from server.storage.threads import Threads, in_thread

P = ParamSpec("P")
R = TypeVar("R")

_THREADS = 8
_CLOSE_SECONDS = 10.0


class StorageAway(Unavailable):
    """The storage folder is not available right now. Send the request again in a moment."""

    code = "storage_unavailable"


class Storage:
    """One storage folder. start() before use, stop() at the end; open() and close() are the same, blocking.

    `file_timeout` is how many seconds a call to the disk may take, and `min_free_bytes` what stays free on the disk.
    """

    def __init__(
        self, root: str | Path, durability: str = "full", file_timeout: float = 30.0, min_free_bytes: int = 0
    ) -> None:
        self.root = Path(root)
        self.disk = Disk(self.root, durability == "full", min_free_bytes)
        self._seconds = file_timeout
        self._threads = Threads(_THREADS, "storage")
        self.is_ours = True  # False while the database has not said so, see marker.py
        self.refused = 0  # requests, because the disk did not answer earlier ones
        self._unwanted: set[str] = set()
        self._lock: int | None = None
        self.staging = self.root / STAGING
        self.numbers = itertools.count()  # names in a staging folder that no other process uses

    async def start(self) -> None:
        """What open() does. Raises OSError, also when the disk does not answer."""
        try:
            await self.ask(self.open)
        except StorageAway:
            raise OSError(f"The storage folder {self.root} does not answer within {self._seconds:g} seconds.") from None

    async def stop(self) -> None:
        """What close() does, for as long as the disk answers."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * _CLOSE_SECONDS):
                await asyncio.wrap_future(in_thread(self.close))

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

    async def ask(self, work: Callable[..., R], *args: Any) -> R:
        """`work(*args)` in a thread, also while it is not known whether the folder is ours. Raises what it raises."""
        return await self.outcome(self._threads.submit(work, *args))

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
        return await self._within(asyncio.wrap_future(call))

    async def read(self, storage_path: str, size: int, start: int, count: int) -> bytes | None:
        """A part of the stored file; None when that is missing or not `size` bytes long."""
        self.admit()
        return await self.run(self._read, storage_path, size, start, count)

    async def parts(self, storage_path: str, size: int, start: int, end: int, most: int) -> AsyncGenerator[bytes, None]:
        """The bytes of the stored file from `start` to `end`, at most `most` at once. Ends early when they do.

        One descriptor for all parts: they come whole, even if the file is deleted meanwhile. To be closed
        (contextlib.aclosing). Raises StorageAway.
        """
        self.admit()
        opener = partial(self._open, storage_path, size)
        try:
            opening = aiofiles.open(storage_path, "rb", buffering=0, opener=opener, executor=self._threads)
            file = await self._within(opening)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageAway() from error
        call: asyncio.Future[Any] = asyncio.ensure_future(file.seek(start))
        try:
            await self._within(asyncio.shield(call))
            while start < end:
                call = asyncio.ensure_future(file.read(min(end - start, most)))
                if not (part := await self._within(asyncio.shield(call))):
                    return
                start += len(part)
                yield part
        except OSError as error:
            raise StorageAway() from error
        finally:
            closing = asyncio.ensure_future(_close(file, call))
            with contextlib.suppress(StorageAway):
                await self._within(asyncio.shield(closing))

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

    async def _within(self, call: Awaitable[R]) -> R:
        try:
            async with asyncio.timeout(self._seconds):
                return await call
        except TimeoutError as error:
            raise StorageAway() from error

    def _open(self, storage_path: str, size: int, *_: object) -> int:
        """For aiofiles. Raises FileNotFoundError, also for what is no whole file."""
        descriptor = self.disk.open(storage_path, size)
        if descriptor is None:
            raise FileNotFoundError(storage_path)
        return descriptor

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


async def _close(file: Any, call: asyncio.Future[Any]) -> None:
    """Closes a file when its last call has ended: a descriptor that is closed under a call may be another file's."""
    with contextlib.suppress(Exception):
        await asyncio.shield(call)
    await file.close()


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
