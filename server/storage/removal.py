"""Unlinks files whose rows were deleted. Their queue is the table removed_files, so a crash loses no file."""

import asyncio
import logging
from collections.abc import Sequence

from server.database.pool import Pool
from server.database.queries import SQL
from server.storage.disk import Removal
from server.storage.folder import Storage

LOG = logging.getLogger("reportd")

_BATCH = 500
MOST_AT_ONCE = 2_000  # files that a DELETE request unlinks itself, before its reply


class Removals:
    """Processes that queue. `more` is set when a DELETE has left files in the queue: then drain() should run soon."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.more = asyncio.Event()

    async def of_delete(self, pool: Pool, files: Sequence[Removal]) -> None:
        """Unlinks the files of a DELETE, at most MOST_AT_ONCE. Its rows are deleted already, so an error is only
        logged: drain() retries later."""
        try:
            for start in range(0, len(files), _BATCH):
                async with pool.transaction(for_files=True) as connection:
                    if not await connection.fetchval(SQL.backup.may_unlink):
                        return  # a backup runs: drain() unlinks them after it
                    gone = await self._remove(files[start : start + _BATCH])
                    await connection.execute(SQL.artifacts.mark_unlinked, gone)
        except Exception as error:
            LOG.warning("files of a DELETE are not unlinked yet, the sweeper will retry: %r", error)
        if len(files) >= MOST_AT_ONCE:
            self.more.set()

    async def drain(self, pool: Pool) -> None:
        """Processes the whole queue once; safe to run concurrently. A file that cannot be unlinked stays queued.

        Does nothing while a backup runs: its dump may have the rows of the queued files.
        """
        self.more.clear()
        after = ""
        while paths := await self._queued(pool, after):
            async with pool.transaction(for_files=True) as connection:
                if not await connection.fetchval(SQL.backup.may_unlink):
                    return
                rows = await connection.fetch(SQL.artifacts.removed, paths)
                gone = await self._storage.remove([Removal(*row) for row in rows])
                await connection.execute(SQL.artifacts.mark_unlinked, gone)
                after = paths[-1]

    async def _queued(self, pool: Pool, after: str) -> list[str]:
        """The next paths of the queue. A synchronous standby has their deletion, too: if it had not, and became the
        primary, there would be rows without a file."""
        async with pool.transaction() as connection:
            paths = [row["storage_path"] for row in await connection.fetch(SQL.artifacts.queued, after, _BATCH)]
            if paths:
                await connection.execute(SQL.idempotency.confirm)
            return paths

    async def _remove(self, batch: Sequence[Removal]) -> list[str]:
        gone = await self._storage.remove(batch)
        if len(gone) < len(batch):  # once more at once: many errors of a network file system pass
            left = {file.storage_path for file in batch}.difference(gone)
            gone += await self._storage.remove([file for file in batch if file.storage_path in left])
        return gone
