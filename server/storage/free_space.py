"""Free space on the storage's file system, and how many days it will last."""

import asyncio
import math
import os
import time
from concurrent.futures import Future
from dataclasses import dataclass

from server.database.pool import Pool
from server.database.queries import SQL
from server.errors import ReportError
from server.ids import lowest_id
from server.storage.folder import Storage

_ANSWER_SECONDS = 1.0
_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes of a file system: `free` for reportd, `size` in total. `days` until it is full; None when not known."""

    free: int
    size: int
    days: float | None


class FreeSpace:
    """The free space of one storage folder, minus `reserve`, the bytes that are kept free."""

    def __init__(self, storage: Storage, reserve: int) -> None:
        self._storage = storage
        self._reserve = reserve
        self._call: Future[os.statvfs_result] | None = None
        self._last_day: int | None = None  # bytes

    async def measure_last_day(self, pool: Pool) -> None:
        """Sums the artifact bytes of the last 24 hours. Not done in measure(): it is too slow for every scrape."""
        self._last_day = await pool.fetchval(SQL.artifacts.bytes_since, lowest_id(time.time() - _DAY))

    async def measure(self) -> Measured | None:
        """The free space now; None when the folder is missing, or the disk does not answer within a second."""
        # At most one call at a time: on a stalled disk, each further call would block another thread.
        if self._call is None or self._call.done():
            self._call = self._storage.submit_anyway(os.statvfs, self._storage.staging)
        call = asyncio.wrap_future(self._call)
        # Retrieve the exception of a call that fails after the timeout: otherwise asyncio logs it as never retrieved.
        call.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                found = await asyncio.shield(call)
        except (ReportError, TimeoutError):
            return None
        free = max(0, found.f_bavail * found.f_frsize - self._reserve)
        return Measured(free, found.f_blocks * found.f_frsize, self._days(free))

    def _days(self, free: int) -> float | None:
        if self._last_day is None:
            return None
        return free / self._last_day if self._last_day else math.inf
