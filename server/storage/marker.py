"""The marker file of a storage folder: the id that the database has, too. Blocking."""

import os
from pathlib import Path
from uuid import UUID, uuid4

from server.storage.disk import NO_LINK

MARKER = ".reportd"


class WrongFolder(OSError):
    """The storage folder is not the one that holds this database's files."""


def read_or_write(marker: Path, fresh: UUID | None) -> UUID | None:
    """The id in the marker file. Without one, writes `fresh` if given; if another process is first, its id wins.

    Blocking. Raises WrongFolder, OSError.
    """
    while (found := read_marker(marker.parent)) is None and fresh is not None:
        written = marker.with_name(f"{MARKER}-{uuid4().hex}")
        try:
            with written.open("x") as file:
                file.write(f"{fresh}\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(written, marker)
            except FileExistsError:
                pass
            except OSError as error:
                if error.errno not in NO_LINK:
                    raise
                written.replace(marker)
        finally:
            written.unlink(missing_ok=True)
        descriptor = os.open(marker.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return found


def read_marker(root: Path) -> UUID | None:
    """The id in a folder's marker file; None when there is no marker. Blocking. Raises WrongFolder, OSError."""
    marker = root / MARKER
    try:
        return UUID(marker.read_text("ascii").strip())
    except FileNotFoundError:
        return None
    except ValueError:
        raise WrongFolder(f"{marker} holds no id: expected one line like {UUID(int=0)}.") from None
