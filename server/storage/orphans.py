"""Files that nothing refers to: whether they are old enough to go, and their removal. Blocking, for `reportd check`.

Age is ctime, never mtime: a hard link to bytes of last year is as young as the link, and its row may not be saved yet.
"""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.storage.disk import Disk
from server.storage.folder import boot_id, try_lock
from server.storage.paths import STAGING, content_checksum, is_of_a_case
from server.storage.walk import look

# What is not remembered is left to a later check.
_MOST_REMEMBERED = 100_000


class Orphans:
    """The removals of one check. Raises OSError."""

    def __init__(self, root: str, durable: bool) -> None:
        self._root = root
        self._disk = Disk(Path(root), durable)
        # Inodes that lost a name to us and have others: their ctime and link count since.
        self._touched: dict[tuple[int, int], tuple[int, int]] = {}
        self._emptied: set[str] = set()

    def is_old(self, found: os.stat_result, cutoff: float) -> bool:
        """Whether nobody has touched it since `cutoff` (seconds since the epoch) but we ourselves.

        Removing one name of an inode makes its other names young. Without this, files that share their bytes would
        go one a check, hours apart.
        """
        ours = self._touched.get((found.st_dev, found.st_ino))
        return found.st_ctime < cutoff or ours == (found.st_ctime_ns, found.st_nlink)

    def may_be_removed(self, path: str, found: os.stat_result) -> bool:
        """Only where reportd itself puts files: a storage_path that is set to /var/data must cost nobody his own."""
        ours = is_of_a_case(path) or content_checksum(path) or staging_folder(path)
        return bool(ours) and stat.S_ISREG(found.st_mode)

    def remove(self, path: str, found: os.stat_result) -> bool:
        """Unlinks a file if it is still what was found; tidy() makes that durable.

        Between the look and the unlink nobody else can give the name to new bytes: it is taken until it is unlinked,
        and a check that repairs is alone (alone()).
        """
        absolute = f"{self._root}/{path}"
        now = look(absolute)
        if now is None or _identity(now) != _identity(found):
            return False
        descriptor = os.open(absolute, os.O_PATH | os.O_NOFOLLOW)
        try:
            os.unlink(absolute)
            left = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if not path.startswith(f"{STAGING}/"):  # those folders belong to processes, which may be alive elsewhere
            self._emptied.add(os.path.dirname(absolute))
        inode = (left.st_dev, left.st_ino)
        self._touched.pop(inode, None)
        if left.st_nlink and len(self._touched) < _MOST_REMEMBERED:
            self._touched[inode] = (left.st_ctime_ns, left.st_nlink)
        return True

    def tidy(self) -> None:
        """Makes removals durable, folder by folder, and removes the folders that are empty now.

        A server that is about to put a file there makes the folder again (Disk._link).
        """
        for folder in sorted(self._emptied, key=len, reverse=True):
            self._disk.tidy(folder)
        self._emptied.clear()


@contextmanager
def alone(root: Path) -> Iterator[bool]:
    """Whether no other check repairs this folder, and none will meanwhile."""
    descriptor = try_lock(root)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def abandoned(root: str, folder: str) -> Iterator[bool]:
    """Whether no living process has this staging folder, and none can have it meanwhile. False if one may have.

    A process holds the lock on its folder as long as it lives. A lock that is free says nothing about the processes
    of another machine: see is_of_this_machine.
    """
    descriptor = try_lock(Path(f"{root}/{folder}"))
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def staging_folder(path: str) -> str | None:
    """The folder that a staged file lies in, its process's; None for what lies elsewhere in the staging folder."""
    parts = path.split("/")
    return "/".join(parts[:3]) if parts[0] == STAGING and len(parts) > 3 else None


def is_of_this_machine(folder: str) -> bool:
    """Whether the lock on a staging folder says all: it was made by this kernel, in whichever container, or by an
    earlier one under our name."""
    name, _, boot = folder.split("/")[1].rpartition("-")
    return name == socket.gethostname() or boot == boot_id()


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_ctime_ns, found.st_nlink
