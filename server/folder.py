"""Makes sure that the storage folder is the one that holds this database's files.

A disk that is not mounted leaves an empty folder behind. A server that took it for its own would accept files that
vanish again with the next mount, and miss all others.
"""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

from server.db import Pool, as_report_error
from server.uploads.disk import NO_LINK
from server.uploads.storage import Storage

MARK = ".reportd"


class WrongFolder(OSError):
    """The storage folder is not the one that holds this database's files."""


async def ensure_own(pool: Pool, sql: SimpleNamespace, storage: Storage) -> bool:
    """Marks a new folder, and raises WrongFolder for one that is another's, or that should have a mark and has none.

    False when the database is away and cannot say: then the storage must not be used yet.
    """
    mark = storage.root / MARK
    try:
        if await pool.fetchval(sql.storage_folder.id) is None:
            await pool.execute(sql.storage_folder.adopt, await asyncio.to_thread(_read_or_write, mark, uuid4()))
        own: UUID = await pool.fetchval(sql.storage_folder.id)
        in_use = await pool.fetchval(sql.storage_folder.in_use)
    except Exception as error:
        if as_report_error(error) is None:
            raise
        return False
    found = await asyncio.to_thread(_read_or_write, mark, None if in_use else own)
    if found is None:
        raise WrongFolder(
            f"{storage.root} is not this database's storage folder: there is no file {MARK} in it. Is its disk "
            f"mounted? If this is the right folder all the same, write the line {own} into {mark}."
        )
    if found != own:
        raise WrongFolder(
            f"{storage.root} is the storage folder of another database: {mark} says {found}, and this one's is {own}."
        )
    return True


def _read_or_write(mark: Path, fresh: UUID | None) -> UUID | None:
    """The folder's id. One without gets `fresh`, if there is one; another process may be quicker."""
    while (found := mark_of(mark.parent)) is None and fresh is not None:
        written = mark.with_name(f"{MARK}-{uuid4().hex}")
        try:
            with written.open("x") as file:
                file.write(f"{fresh}\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(written, mark)
            except FileExistsError:
                pass
            except OSError as error:
                if error.errno not in NO_LINK:
                    raise
                written.replace(mark)
        finally:
            written.unlink(missing_ok=True)
        descriptor = os.open(mark.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return found


def mark_of(root: Path) -> UUID | None:
    """The id in a storage folder; None when it has none. Blocking. Raises WrongFolder, OSError."""
    mark = root / MARK
    try:
        return UUID(mark.read_text("ascii").strip())
    except FileNotFoundError:
        return None
    except ValueError:
        raise WrongFolder(f"{mark} holds no id: expected one line like {UUID(int=0)}.") from None
