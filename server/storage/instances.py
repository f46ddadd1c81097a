"""This process's row in the table `instances`, by which processes on other machines know that it lives."""

import asyncio
import logging
import socket
import time
from collections.abc import Sequence
from typing import Any

from server.database.pool import Pool
from server.database.queries import SQL
from server.storage.folder import Storage
from server.storage.staging import Instance, Place, sweep

LOG = logging.getLogger("reportd.storage")

BEAT_SECONDS = 10.0
_END_SECONDS = 2.0  # a database that hangs must not hold up the end of the process
# When the database was away for an hour, all rows are old: each process first gets time to renew its own.
_STEADY = 6
_SKEW_SECONDS = 2.0

_now = time.time


class Heartbeat:
    """Renews the row, compares the clocks, and removes the staging folders of processes whose rows are old."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._beats = 0  # in a row, that did not fail
        self._failing = False
        self._is_wrong = False  # the clock of this host

    async def beat(self, pool: Pool) -> None:
        """Renews the row. Never raises: the next beat tries again."""
        own = self._storage.own_staging
        try:
            started, row = _now(), (own.id, socket.gethostname(), own.place.boot_id, own.place.device)
            by_database = await pool.fetchval(SQL.instances.renew, *row)
            self._compare_clocks(started, by_database, _now())
        except Exception as error:
            if not self._failing:
                LOG.warning("this process's row in `instances` was not renewed, trying again: %r", error)
            self._beats, self._failing = 0, True
        else:
            self._beats, self._failing = self._beats + 1, False

    def _compare_clocks(self, started: float, by_database: float, ended: float) -> None:
        """Logs once when this host's clock is wrong: its ids would sort its runs before or after those of others."""
        ahead = min(started - by_database, ended - by_database, key=abs)
        if started < by_database < ended:
            ahead = 0.0
        was_wrong, self._is_wrong = self._is_wrong, abs(ahead) > _SKEW_SECONDS
        if self._is_wrong and not was_wrong:
            LOG.warning(
                "this host's clock is %.1f s %s that of the database. Synchronise both (NTP): runs of several hosts "
                "are listed in the order of their clocks",
                *(abs(ahead), "ahead of" if ahead > 0 else "behind"),
            )

    async def end(self, pool: Pool) -> None:
        """Removes the row. Without a database it stays: then it is removed when it is old."""
        try:
            async with asyncio.timeout(_END_SECONDS):
                await pool.execute(SQL.instances.end, self._storage.own_staging.id)
        except Exception as error:
            LOG.info("this process's row in `instances` was not removed: %r", error)

    async def sweep(self, pool: Pool) -> None:
        """Removes the staging folders of processes that have ended, and the rows of those that ended long ago."""
        trusts_rows = self._beats >= _STEADY
        instances = instances_of(await pool.fetch(SQL.instances.all))
        await self._storage.run(sweep, self._storage.own_staging, instances, trusts_rows)
        if trusts_rows:
            await pool.execute(SQL.instances.forget)


def instances_of(rows: Sequence[Any]) -> list[Instance]:
    """The processes of these rows of `instances`."""
    return [Instance(row["id"], Place(row["boot_id"], row["device"]), row["quiet"]) for row in rows]
