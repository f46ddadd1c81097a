"""Unlinks files whose rows are gone. The list of them is in the database, so that a crash loses track of none."""

from types import SimpleNamespace

from server.db import Pool, transaction
from server.uploads.storage import Removal, Storage

_PORTION = 500


async def remove_files(pool: Pool, sql: SimpleNamespace, storage: Storage) -> int:
    """Works off the list; returns how many files it was. Several may run at once, each takes its own portion.

    A name stays on the list, and is given to no new file, until it is unlinked.
    """
    done = 0
    while True:
        async with transaction(pool) as connection:
            rows = await connection.fetch(sql.artifacts.removed, _PORTION)
            if not rows:
                return done
            await storage.remove([Removal(*row) for row in rows])
            await connection.execute(sql.artifacts.forget_removed, [row["storage_path"] for row in rows])
            done += len(rows)
