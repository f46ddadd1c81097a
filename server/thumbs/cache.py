"""The thumbnails that were made before, as files in the storage folder. All workers share them.

A cache is no evidence: nothing is synced, a file that is damaged or missing is made again, and the oldest files are
removed when there are too many bytes.
"""

import contextlib
import os
import stat
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from itertools import islice
from pathlib import Path

from server.errors import ReportError, StorageFull
from server.storage.folder import Storage
from server.storage.paths import THUMBS
from server.storage.staging import try_lock
from server.storage.walk import stat_or_none, walk
from server.thumbs.pool import is_whole

_PORTION = 500  # files that one disk call looks at
_HOUR = 3600
_REST_SECONDS = 300.0  # between two counts of the whole cache, by whichever worker
_COUNTED = "counted"  # a file whose age says when that was
_MAX_SIZE = 16 << 20


class Cache:
    """The files below `.thumbs`, at most about `max_bytes` in all."""

    def __init__(self, storage: Storage, max_bytes: int) -> None:
        self._storage = storage
        self._root = f"{storage.root}/{THUMBS}"
        self._max_bytes = max_bytes
        self._written = 0  # bytes since this worker last counted

    async def read(self, path: str) -> bytes | None:
        """The thumbnail at this path below the storage folder; None when it must be made. Raises StorageAway."""
        self._storage.admit()
        return await self._storage.run(self._read, path)

    async def write(self, path: str, image: bytes) -> None:
        """Keep a thumbnail. Without space or disk it is not kept: then the next request makes it again."""
        with contextlib.suppress(ReportError):
            await self._storage.run(self._write, path, image)
            self._written += len(image)

    @property
    def has_grown(self) -> bool:
        """Whether this worker has written so much that tidy() should not wait for its turn."""
        return self._written > self._max_bytes // 20

    async def tidy(self) -> None:
        """Remove the oldest files when all together have more than the allowed bytes, and the older half of them when
        the disk is full. Raises StorageAway.

        Each disk call looks at a portion of the files, so that it neither takes a thread for long nor times out. One
        worker at a time does this, and when none of them has written much, one every few minutes.
        """
        urgent, self._written = self.has_grown, 0
        async with self._locked(urgent) as is_locked:
            if not is_locked:
                return
            ages: Counter[int] = Counter()  # bytes by the hour of their last change: bounded, unlike a list of files
            async for found in self._portions():
                for _, size, hour in found:
                    ages[hour] += size
            total = sum(ages.values())
            # On a full disk uploads are refused: evidence is worth more than a cache.
            allowed = min(self._max_bytes, total // 2) if await self._is_disk_full() else self._max_bytes
            if total > allowed:
                await self._remove(total - allowed + self._max_bytes // 10, ages)

    async def _is_disk_full(self) -> bool:
        try:
            await self._storage.run(self._storage.disk.ensure_space, 1)
        except StorageFull:
            return True
        return False

    async def _remove(self, excess: int, ages: Counter[int]) -> None:
        """Remove `excess` bytes of files, from the oldest hours."""
        last, older = 0, 0
        for last in sorted(ages):
            older += ages[last]
            if older >= excess:
                break
        async with aclosing(self._portions()) as portions:
            async for found in portions:
                removed = []
                for path, size, hour in found:
                    if hour <= last and excess > 0:
                        removed.append(path)
                        excess -= size
                await self._storage.run(self._unlink, removed)
                if excess <= 0:
                    return

    async def _portions(self) -> AsyncGenerator[list[tuple[str, int, int]], None]:
        """All thumbnails as absolute path, size in bytes, and hour of the last change."""
        files = self._files()
        while portion := await self._storage.run(lambda: list(islice(files, _PORTION))):
            yield portion

    def _files(self) -> Iterator[tuple[str, int, int]]:
        for path in walk(self._root, ignored=(_COUNTED,)):
            found = stat_or_none(f"{self._root}/{path}") if isinstance(path, str) else None
            if found is not None and stat.S_ISREG(found.st_mode):
                yield f"{self._root}/{path}", found.st_size, int(found.st_mtime // _HOUR)

    @asynccontextmanager
    async def _locked(self, urgent: bool) -> AsyncIterator[bool]:
        """False when there is no cache yet, another worker is at it, or `urgent` is not set and one was lately."""
        descriptor = await self._storage.descriptor(self._lock, urgent)
        try:
            yield descriptor is not None
        finally:
            if descriptor is not None:
                self._storage.submit_anyway(os.close, descriptor)

    def _lock(self, urgent: bool) -> int | None:
        descriptor, counted = try_lock(Path(self._root)), Path(self._root, _COUNTED)
        if descriptor is None:
            return None
        try:
            found = stat_or_none(str(counted))
            if urgent or found is None or not 0 <= time.time() - found.st_mtime < _REST_SECONDS:
                counted.touch(0o640)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def _read(self, path: str) -> bytes | None:
        try:
            descriptor = os.open(
                f"{self._storage.root}/{path}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            )
        except OSError:
            return None
        try:
            image = os.read(descriptor, min(os.fstat(descriptor).st_size, _MAX_SIZE))
        except OSError:  # a folder, or a bad sector
            return None
        finally:
            os.close(descriptor)
        return image if is_whole(image) else None

    def _write(self, path: str, image: bytes) -> None:
        final = f"{self._storage.root}/{path}"
        staged = f"{self._storage.staging}/{next(self._storage.numbers)}"
        self._storage.disk.ensure_space(len(image))
        try:
            with open(staged, "xb", opener=_private) as file:
                file.write(image)
            os.makedirs(os.path.dirname(final), 0o750, exist_ok=True)
            os.replace(staged, final)
        except OSError:
            self._storage.disk.discard(staged)
            raise

    def _unlink(self, paths: list[str]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o640)
