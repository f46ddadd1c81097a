"""Unlinks files whose rows are gone. The list of them is in the database, so that a crash loses track of none."""

import asyncio
import logging
from collections.abc import Sequence

from server.database.pool import Pool
from server.database.queries import SQL
from server.storage.disk import Removal
from server.storage.folder import Storage

LOG = logging.getLogger("reportd")

_PORTION = 500
MOST_AT_ONCE = 2_000  # files that a DELETE removes itself, before it is answered


class Removals:
    """Works off that list. `more` is set when a DELETE has left some of its files to work_off()."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.more = asyncio.Event()

    async def of_delete(self, pool: Pool, files: Sequence[Removal]) -> None:
        """Removes a DELETE's own files, at most MOST_AT_ONCE. Its rows are gone for good, so trouble with a file
        is only logged."""
        try:
            for start in range(0, len(files), _PORTION):
                gone = await self._storage.remove(files[start : start + _PORTION])
                await pool.execute(SQL.artifacts.mark_unlinked, gone)
        except Exception as error:
            LOG.warning("files of a DELETE are still to be removed: %r", error)
        if len(files) >= MOST_AT_ONCE:
            self.more.set()

    async def work_off(self, pool: Pool) -> None:
        """Works off the whole list once. Several may run at once; what cannot be unlinked stays on the list."""
        self.more.clear()
        after = ""
        while True:
            async with pool.transaction(for_files=True) as connection:
                rows = await connection.fetch(SQL.artifacts.removed, after, _PORTION)
                if not rows:
                    return
                gone = await self._storage.remove([Removal(*row) for row in rows])
                await connection.execute(SQL.artifacts.mark_unlinked, gone)
                after = rows[-1]["storage_path"]
