"""Verifies by a marker file that the storage folder is the one that holds this database's files.

While its disk is not mounted, the folder is an empty mount point. Without this check, a server would store files there
that the next mount hides, and report all other files as missing.
"""

from uuid import UUID, uuid4

from server.database.errors import as_report_error
from server.database.pool import Pool
from server.database.queries import SQL
from server.storage.folder import Storage, StorageAway
from server.storage.marker import MARKER, WrongFolder, read_or_write


async def ensure_own(pool: Pool, storage: Storage) -> bool:
    """Whether the folder is verified as this database's. Writes the marker file into a new folder.

    False while the database or the disk does not answer: then the folder must not be used yet. Raises WrongFolder when
    the marker has another id, or is missing although the database has artifacts.
    """
    try:
        return await _is_own(pool, storage)
    except StorageAway:
        return False


async def _is_own(pool: Pool, storage: Storage) -> bool:
    marker = storage.root / MARKER
    try:
        if await pool.fetchval(SQL.storage_folder.id) is None:
            await pool.execute(SQL.storage_folder.adopt, await storage.run_unchecked(read_or_write, marker, uuid4()))
        own: UUID = await pool.fetchval(SQL.storage_folder.id)
        in_use = await pool.fetchval(SQL.storage_folder.in_use)
    except Exception as error:
        if as_report_error(error) is None:  # not the database's; StorageAway is handled by ensure_own()
            raise
        return False
    found = await storage.run_unchecked(read_or_write, marker, None if in_use else own)
    if found is None:
        raise WrongFolder(
            f"{storage.root} is not this database's storage folder: there is no file {MARKER} in it. Is its disk "
            f"mounted? If this is the right folder, write the line {own} into {marker}. "
            "Otherwise correct [artifacts] storage_path."
        )
    if found != own:
        raise WrongFolder(
            f"{storage.root} is the storage folder of another database: {marker} contains {found}; "
            f"this one's is {own}. Correct [artifacts] storage_path."
        )
    storage.own_id = own
    return True
