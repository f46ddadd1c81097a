"""Unlinks files whose rows are gone. The list of them is in the database, so that a crash loses track of none."""

from types import SimpleNamespace

from server.context import LOG
from server.db import Pool, transaction
from server.uploads.disk import Removal
from server.uploads.storage import Storage

_PORTION = 500


async def remove_files(pool: Pool, sql: SimpleNamespace, storage: Storage) -> None:
    """Works off the list once. Several may run at once; what cannot be unlinked stays on the list."""
    after = ""
    while True:
        async with transaction(pool, for_files=True) as connection:
            rows = await connection.fetch(sql.artifacts.removed, after, _PORTION)
            if not rows:
                return
            gone = await storage.remove([Removal(*row) for row in rows])
            await connection.execute(sql.artifacts.mark_unlinked, gone)
            after = rows[-1]["storage_path"]


async def remove_files_now(pool: Pool, sql: SimpleNamespace, storage: Storage) -> None:
    """The same after a DELETE: its rows are gone for good, so no trouble with a file is the caller's any more."""
    try:
        await remove_files(pool, sql, storage)
    except Exception as error:
        LOG.warning("files of a DELETE are still to be removed: %r", error)
