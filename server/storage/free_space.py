"""Free space on the storage's file system, and how many days it will last."""

import asyncio
import math
import os
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from server.database.pool import Pool
from server.database.queries import SQL
from server.errors import ReportError
from server.storage.folder import Storage

_ANSWER_SECONDS = 1.0
_DAYS = 30
_RETRY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes of a file system: `free` for reportd, `size` in total. `daily`: bytes that are added on a day, on average.
    `days` until it is full at this pace. None when not known."""

    free: int
    size: int
    daily: float | None

    @property
    def days(self) -> float | None:
        if self.daily is None:
            return None
        return self.free / self.daily if self.daily else math.inf


class FreeSpace:
    """The free space of one storage folder, minus `reserve`, the bytes that are kept free."""

    def __init__(self, storage: Storage, reserve: int) -> None:
        self._storage = storage
        self._reserve = reserve
        self._call: Future[os.statvfs_result] | None = None
        self._daily: float | None = None  # bytes

    async def measure_growth(self, pool: Pool) -> None:
        """Averages the artifact bytes of the last 30 days, or of all days of a younger server, as reports/usage.py has
        counted them."""
        now = datetime.now(UTC)
        earliest = now.date() - timedelta(days=_DAYS)
        found = await pool.fetchrow(SQL.usage.growth, earliest)
        if found["first_day"] is None or found["uncounted"]:
            self._daily = None
            return
        first = max(earliest, found["first_day"])
        passed = now - datetime(first.year, first.month, first.day, tzinfo=UTC)
        self._daily = found["bytes"] / max(1.0, passed / timedelta(days=1))

    async def measure_until_known(self, pool: Pool) -> None:
        """Call measure_growth() every 10 seconds until the growth is known: another process may be counting."""
        while self._daily is None:
            await asyncio.sleep(_RETRY_SECONDS)
            await self.measure_growth(pool)

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
        return Measured(free, found.f_blocks * found.f_frsize, self._daily)
