"""Thumbnails of stored images, for the pages: from the cache, or made by the thumbnail process while requests wait."""

import asyncio
import contextlib
import logging
import os
import time
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from prometheus_client import Counter

from server.errors import ContentMissing
from server.storage.folder import Storage
from server.storage.paths import THUMB_WIDTHS, thumb_path
from server.thumbs.cache import Cache
from server.thumbs.pool import NoThumbnail, Pool

LOG = logging.getLogger("reportd")

_COUNT = Counter(
    "reportd_thumbnails",
    "Requested thumbnails. outcome=made, outcome=failed: by the thumbnail process, each image once. outcome=cached: "
    "read from disk. outcome=late: replies with a placeholder, because the thumbnail was still being made.",
    ["outcome"],
)
_MADE, _FAILED, _CACHED, _LATE = (_COUNT.labels(outcome) for outcome in ("made", "failed", "cached", "late"))
# The largest height for each width, in pixels: of a higher page the top is shown. WebP ends at 16,383.
HEIGHTS = dict(zip(THUMB_WIDTHS, (4 * 320, 8 * 960), strict=True))
_AT_ONCE = 2  # one in the thumbnail process, and the file of the next being opened meanwhile
_MAX_WAITING = 500  # thumbnails to be made
_WAIT_SECONDS = 2.0
_FAILURE_SECONDS = 600.0
_MAX_FAILURES = 10_000


@dataclass(frozen=True, slots=True)
class Source:
    """A stored image: its project, its path below the storage folder, its size in bytes, its SHA-256 in hex."""

    project_id: UUID
    storage_path: str
    size: int
    checksum: str


class Absent(Enum):
    """Why there is no thumbnail."""

    LATE = "it is still being made, or will be"
    FAILED = "the image cannot be decoded"


class Thumbnails:
    """The thumbnails of one worker. `storage` must be started. close() at the end."""

    def __init__(self, storage: Storage, max_bytes: int, pool: Pool) -> None:
        self._storage = storage
        self._pool = pool
        self._cache = Cache(storage, max_bytes)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._making: dict[str, asyncio.Task[bytes | Absent]] = {}
        self._failures: dict[str, float] = {}  # path: when it failed (monotonic), oldest first
        self._tidying: asyncio.Task[None] | None = None

    async def of(self, source: Source, width: int) -> bytes | Absent:
        """The thumbnail as WebP. `width` is one of HEIGHTS.

        Concurrent requests for the same thumbnail share its making, which goes on when they stop waiting. An image that
        failed is not tried again for 10 minutes. Raises ContentMissing, StorageAway.
        """
        path = thumb_path(source.project_id, source.checksum, width)
        if path not in self._making:
            if self._failed_lately(path):
                return Absent.FAILED
            found = await self._cache.read(path)
            if found is not None:
                _CACHED.inc()
                return found
        making = self._making.get(path) or self._begin(path, source, width)
        if making is not None:
            await asyncio.wait({making}, timeout=_WAIT_SECONDS)
        if making is None or not making.done():
            _LATE.inc()
            return Absent.LATE
        return making.result()

    async def tidy(self) -> None:
        """Remove the oldest files of the cache when it is too large. Raises StorageAway."""
        await self._cache.tidy()

    async def close(self) -> None:
        """Stop, and end the thumbnail process."""
        tasks = [*self._making.values(), *([self._tidying] if self._tidying else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pool.close()

    def _begin(self, path: str, source: Source, width: int) -> asyncio.Task[bytes | Absent] | None:
        """None when too many thumbnails wait to be made."""
        if len(self._making) >= _MAX_WAITING:
            return None
        task = self._making[path] = asyncio.create_task(self._make(path, source, width))

        def end(task: asyncio.Task[bytes | Absent]) -> None:
            del self._making[path]
            task.cancelled() or task.exception()  # otherwise logged as never retrieved, if no request waits any more

        task.add_done_callback(end)
        return task

    async def _make(self, path: str, source: Source, width: int) -> bytes | Absent:
        async with self._slots:
            descriptor = await self._open(source)
            try:
                image = await self._pool.thumbnail(descriptor, width, HEIGHTS[width])
            except NoThumbnail as error:
                _FAILED.inc()
                self._add_failure(path)
                LOG.warning("no thumbnail of %s: %s", source.storage_path, error)
                return Absent.FAILED
            finally:
                self._storage.submit_anyway(os.close, descriptor)
            _MADE.inc()
            await self._cache.write(path, image)
        if self._cache.has_grown and (self._tidying is None or self._tidying.done()):
            self._tidying = asyncio.create_task(self._tidy_quietly())
        return image

    async def _open(self, source: Source) -> int:
        """A descriptor of the stored file. Raises ContentMissing, StorageAway."""
        descriptor = await self._storage.descriptor(self._open_now, source)
        if descriptor is None and await self._storage.has_to_look_again(source.storage_path, source.size):
            descriptor = await self._storage.descriptor(self._open_now, source)
        if descriptor is None:
            raise ContentMissing()
        return descriptor

    def _open_now(self, source: Source) -> int | None:
        descriptor = self._storage.disk.open(source.storage_path, source.size)
        if descriptor is None:
            self._storage.ensure_mounted()  # otherwise the file would count as lost
        return descriptor

    def _failed_lately(self, path: str) -> bool:
        failed = self._failures.get(path)
        return failed is not None and time.monotonic() - failed < _FAILURE_SECONDS

    def _add_failure(self, path: str) -> None:
        self._failures.pop(path, None)
        self._failures[path] = time.monotonic()
        if len(self._failures) > _MAX_FAILURES:
            del self._failures[next(iter(self._failures))]

    async def _tidy_quietly(self) -> None:
        with contextlib.suppress(Exception):  # the sweeper calls tidy(), too, and logs what fails
            await self.tidy()
