"""Async access to the storage folder: every disk call runs in the storage's own threads, with a timeout.

Handles paths and bytes, no database rows.
"""

import asyncio
import contextlib
import itertools
import os
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import UUID, uuid4

import aiofiles
from aiofiles.threadpool import wrap

from server.errors import StorageFull, Unavailable
from server.storage.disk import FULL, Disk, Removal
from server.storage.marker import read_marker
from server.storage.shared_view import is_shared
from server.storage.staging import Staging
from server.storage.threads import Threads, in_thread, result_of

P = ParamSpec("P")
R = TypeVar("R")

_THREADS = 8
_CLOSE_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 1.0
_LATELY_SECONDS = 3600.0  # the clocks of this machine and of the file system may differ


class StorageAway(Unavailable):
    """The storage folder is not available right now. Send the request again in a moment."""

    code = "storage_unavailable"


class Storage:
    """One storage folder. Call start() before use and stop() at the end; open() and close() are the blocking forms.

    `file_timeout`: seconds that one disk call may take. `min_free_bytes`: bytes to keep free on the disk.
    `hard_links`: see Disk.
    """

    def __init__(
        self,
        root: str | Path,
        durability: str = "full",
        file_timeout: float = 30.0,
        min_free_bytes: int = 0,
        hard_links: bool = True,
    ) -> None:
        self.root = Path(root)
        self.disk = Disk(self.root, durability == "full", min_free_bytes, hard_links)
        self._seconds = file_timeout
        self._threads = Threads(_THREADS, "storage")
        self.is_ours = True  # False while ownership.py has not verified that the folder is this database's
        self.own_id: UUID | None = None  # in the marker file; None when it was not verified
        self.refused = 0  # requests that admit() refused
        self.own_staging = Staging(self.root)
        self.staging = self.own_staging.folder
        self.numbers = itertools.count()  # file names in self.staging, which no other process uses

    async def start(self) -> None:
        """Runs open() in a thread. Raises OSError, also when the disk does not answer. Its text names the setting."""
        try:
            await self.run_unchecked(self.open)
        except StorageAway:
            reason = f"it does not answer within {self._seconds:g} seconds"
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            return
        raise OSError(f"Cannot use the storage folder {self.root}: {reason}. Correct [artifacts] storage_path.")

    async def stop(self) -> None:
        """Runs close() in a thread. Has a timeout: a disk that does not answer must not block the shutdown."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * _CLOSE_SECONDS):
                await asyncio.wrap_future(in_thread(self.close))

    def open(self) -> None:
        """Creates this process's staging folder. Blocking. Raises OSError when it cannot be created or written."""
        for missing in reversed([folder for folder in (self.root, *self.root.parents) if not folder.exists()]):
            missing.mkdir(mode=0o750, exist_ok=True)
            self.disk.sync_folder(missing.parent)
        self.own_staging.open()

    def close(self) -> None:
        """Waits for calls in progress, then removes this process's staging folder. Blocking.

        If the disk is stalled, the folder stays, and another process removes it later (instances.py).
        """
        if self._threads.end(_CLOSE_SECONDS):
            self.own_staging.close()
        self.disk.end()

    @property
    def stalled(self) -> bool:
        """Whether every thread has been in its disk call for longer than `file_timeout`."""
        return self._threads.stuck(self._seconds)

    def admit(self) -> None:
        """Raises StorageAway, and counts the refusal, when the disk is stalled or the folder is not verified."""
        if self.stalled or not self.is_ours:
            self.refused += 1
            raise StorageAway()

    async def run_unchecked(self, work: Callable[..., R], *args: Any) -> R:
        """Like run(), but even while the folder is not verified, and with the errors that `work` raises."""
        return await self.outcome(self._threads.submit(work, *args))

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs `work` in a thread. Turns an OSError into StorageFull or StorageAway.

        A thread cannot be cancelled. After `file_timeout`, or when the caller is cancelled, this raises while the
        thread goes on. So `work` must not use what the caller then cleans up; for the files of a request, use Stage.
        """
        return await self.outcome(self.submit(work, *args, **kwargs))

    def submit(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Queues `work` for a thread; await its result with outcome().

        Raises StorageAway when the disk is stalled or the folder is not verified.
        """
        if self.stalled or not self.is_ours:
            raise StorageAway()
        return self.submit_anyway(work, *args, **kwargs)

    def submit_anyway(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Like submit(), but without those checks: for work that must run once the disk answers again."""
        return self._threads.submit(_translate_errors, partial(work, *args, **kwargs))

    async def outcome(self, call: Future[R]) -> R:
        """The result of a queued call. Raises StorageAway after `file_timeout`, and then cancels an unstarted call."""
        try:
            return await result_of(call, self._seconds)
        except TimeoutError as error:
            raise StorageAway() from error

    async def descriptor(self, opener: Callable[P, int | None], *args: P.args, **kwargs: P.kwargs) -> int | None:
        """The descriptor that `opener` returns, see run(). When this raises, the thread closes it in the end."""
        call = self.submit(opener, *args, **kwargs)
        try:
            return await self.outcome(call)
        except BaseException:
            call.add_done_callback(_close_result)
            raise

    async def read(self, storage_path: str, size: int, start: int, count: int) -> bytes | None:
        """At most `count` bytes of a file from offset `start`; None if it is missing or not `size` bytes long."""
        self.admit()
        found = await self.run(self._read, storage_path, size, start, count)
        if found is None and await self.has_to_look_again(storage_path, size):
            found = await self.run(self._read, storage_path, size, start, count)
        return found

    async def send(
        self,
        storage_path: str,
        size: int,
        start: int,
        count: int,
        head: bytes,
        to: socket.socket,
        may_begin: Callable[[], bool],
    ) -> tuple[int, FileIO | None] | None:
        """Disk.send() in a thread, which goes on when this raises: then `may_begin` must return False from now on, or
        it has begun. Closes `to`. Who gets an open file has to begin parts() with it, which closes it."""
        try:
            self.admit()
            call = self.submit(self.disk.send, storage_path, size, start, count, head, to, may_begin)
        except BaseException:
            to.close()
            raise
        call.add_done_callback(lambda _: to.close())
        try:
            return await self.outcome(call)
        except BaseException:
            call.add_done_callback(_close_rest)
            raise

    async def ensure_missing(self, made: float) -> None:
        """Raises StorageAway when a missing file, which was stored at `made` (Unix time), may be there for other hosts.

        A network file system may cache which files a folder has, and a mount that was cut off from its servers learns
        of the files of other hosts some seconds after it can write again. An older file is lost.
        """
        if abs(time.time() - made) <= _LATELY_SECONDS and await self.run(is_shared, self.root):
            raise StorageAway()

    async def has_to_look_again(self, storage_path: str, size: int) -> bool:
        """Whether a file that did not have this size has to be looked at again. Then waits a second, if it still has
        another size: network file systems cache sizes, also that of a file which another host was still writing.

        A file that has not changed lately is damaged: an archive with hundreds of them must not wait for each.
        """
        found = await self.run(self.disk.stat, storage_path)
        if found is None or found.st_size == size:
            return found is not None
        if abs(time.time() - found.st_ctime) > _LATELY_SECONDS:
            return False
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        return True

    async def parts(
        self, storage_path: str, size: int, start: int, end: int, most: int, opened: FileIO | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yields the bytes of the stored file from `start` to `end`, at most `most` at a time.

        Ends early if the file is missing or truncated. All parts are read from one descriptor, so deleting the file
        meanwhile does not truncate them: that of `opened`, a file that is open at `start` already. The caller must
        close the generator (contextlib.aclosing). Raises StorageAway.
        """
        file: Any
        if opened is not None:
            file = wrap(opened, executor=self._threads)
        else:
            self.admit()
            opener = partial(self._open, storage_path, size, start)
            try:
                opening = aiofiles.open(storage_path, "rb", buffering=0, opener=opener, executor=self._threads)
                file = await self._with_timeout(opening)
            except FileNotFoundError:
                return
            except OSError as error:
                raise StorageAway() from error
        call: asyncio.Future[Any] | None = None
        try:
            while start < end:
                call = asyncio.ensure_future(file.read(min(end - start, most)))
                if not (part := await self._with_timeout(asyncio.shield(call))):
                    return
                start += len(part)
                yield part
        except OSError as error:
            raise StorageAway() from error
        finally:
            closing = asyncio.ensure_future(_close(file, call))
            with contextlib.suppress(StorageAway):
                await self._with_timeout(asyncio.shield(closing))

    async def remove(self, removals: Iterable[Removal]) -> list[str]:
        """Runs Disk.remove() in a thread. Raises StorageAway if the whole folder is missing.

        Without that check, every file would count as removed while the disk is not mounted.
        """
        return await self.run(self.remove_now, list(removals))

    async def check(self) -> None:
        """Raises StorageFull or StorageAway unless a file can be written."""
        await self.run(self._check)

    async def tidy(self) -> None:
        """Removes the staged files that could not be removed before, because the disk failed or was read-only."""
        await self.run(self.clean)

    def ensure_mounted(self) -> None:
        """Raises OSError if the disk is not mounted. Blocking.

        It is mounted if this process's staging folder is there. When only that was removed, it is made anew: the marker
        file shows that the folder is not an empty mount point. Otherwise all uploads would fail until a restart.
        """
        try:
            self.staging.stat()
        except FileNotFoundError:
            if self.own_id is None or read_marker(self.root) != self.own_id:
                raise
            self.own_staging.make_anew()

    def remove_now(self, removals: Sequence[Removal]) -> list[str]:
        """The blocking form of remove()."""
        self.ensure_mounted()  # otherwise its files would count as removed
        return self.disk.remove(removals)

    def clean(self, staged: Iterable[str] = ()) -> None:
        """Removes staged files. Blocking. Retries files that could not be removed before."""
        paths = [*staged, *tuple(self.disk.undiscarded)]
        try:
            self.ensure_mounted()  # otherwise missing files would count as removed
        except OSError:
            self.disk.undiscarded.update(paths)
            return
        for path in paths:
            self.disk.discard(path)

    async def _with_timeout(self, call: Awaitable[R]) -> R:
        try:
            async with asyncio.timeout(self._seconds):
                return await call
        except TimeoutError as error:
            raise StorageAway() from error

    def _open(self, storage_path: str, size: int, start: int, *_: object) -> int:
        """The opener for aiofiles. Raises FileNotFoundError when Disk.open() returns None."""
        descriptor = self.disk.open(storage_path, size)
        if descriptor is None:
            raise FileNotFoundError(storage_path)
        os.lseek(descriptor, start, os.SEEK_SET)
        return descriptor

    def _read(self, storage_path: str, size: int, start: int, count: int) -> bytes | None:
        found = self.disk.read(storage_path, size, start, count)
        if found is None:
            self.ensure_mounted()  # otherwise the file would be reported as lost
        return found

    def _check(self) -> None:
        self.clean()
        probe = self.staging / f"probe-{uuid4().hex}"
        try:
            probe.write_bytes(b"x")
        finally:
            self.disk.discard(str(probe))


async def _close(file: Any, call: asyncio.Future[Any] | None) -> None:
    """Closes a file once its last call has ended: closed earlier, its descriptor could be reused under that call."""
    if call is not None:
        with contextlib.suppress(Exception):
            await asyncio.shield(call)
    await file.close()


def _close_result(call: Future[int | None]) -> None:
    if not call.cancelled() and call.exception() is None and (descriptor := call.result()) is not None:
        os.close(descriptor)


def _close_rest(call: Future[tuple[int, FileIO | None] | None]) -> None:
    if not call.cancelled() and call.exception() is None and (sent := call.result()) and sent[1] is not None:
        sent[1].close()


def _translate_errors(work: Callable[[], R]) -> R:
    try:
        return work()
    except OSError as error:
        raise (StorageFull() if error.errno in FULL else StorageAway()) from error
