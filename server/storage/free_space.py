"""How much space the storage's file system has, and how much of it a day takes."""

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
    """Bytes of a file system: what is left for us, and all. `days` it lasts; None when that is not known."""

    free: int
    size: int
    days: float | None


class FreeSpace:
    """The free space of one storage folder, without the `reserve` of bytes that is kept free."""

    def __init__(self, storage: Storage, reserve: int) -> None:
        self._storage = storage
        self._reserve = reserve
        self._looking: Future[os.statvfs_result] | None = None
        self._last_day: int | None = None  # bytes

    async def measure_last_day(self, pool: Pool) -> None:
        """Sums the bytes of the artifacts of the last 24 hours: too much work for every look."""
        self._last_day = await pool.fetchval(SQL.artifacts.bytes_since, lowest_id(time.time() - _DAY))

    async def look(self) -> Measured | None:
        """The room there is; None when the folder is missing, or does not answer within a second."""
        # One that does not answer is not asked again: each question would hold a thread.
        if self._looking is None or self._looking.done():
            self._looking = self._storage.submit_anyway(os.statvfs, self._storage.staging)
        looking = asyncio.wrap_future(self._looking)
        # It may fail when nobody waits any more: asyncio would log that as forgotten.
        looking.add_done_callback(lambda looked: looked.cancelled() or looked.exception())
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                found = await asyncio.shield(looking)
        except (ReportError, TimeoutError):
            return None
        free = max(0, found.f_bavail * found.f_frsize - self._reserve)
        return Measured(free, found.f_blocks * found.f_frsize, self._days(free))

    def _days(self, free: int) -> float | None:
        if self._last_day is None:
            return None
        return free / self._last_day if self._last_day else math.inf
