"""Orphans, files that no row refers to: whether they are old enough, and their removal. Blocking, for `reportd check`.

Age is ctime, not mtime: a new hard link to last year's bytes changes only ctime, and its row may not be committed yet.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from server.storage.disk import Disk
from server.storage.paths import STAGING, case_of, content_checksum
from server.storage.staging import folder_of
from server.storage.walk import stat_or_none

# Inodes that one check tracks, to bound memory. Beyond that, a later check removes the other names of an inode.
_MAX_TRACKED = 100_000


class Orphans:
    """The removals of one check. Raises OSError."""

    def __init__(self, root: str, durable: bool) -> None:
        self._root = root
        self._disk = Disk(Path(root), durable)
        # Inodes that have hard links left after this check unlinked one: their ctime and link count after the unlink.
        self._touched: dict[tuple[int, int], tuple[int, int]] = {}
        self._emptied: set[str] = set()

    def is_old(self, found: os.stat_result, cutoff: float) -> bool:
        """Whether the inode has not changed since `cutoff` (seconds since the epoch), except by this check.

        Unlinking one name of an inode updates the ctime of its other names. Without the exception, each check could
        remove only one of the files that share their bytes.
        """
        ours = self._touched.get((found.st_dev, found.st_ino))
        return found.st_ctime < cutoff or ours == (found.st_ctime_ns, found.st_nlink)

    def may_be_removed(self, path: str, found: os.stat_result) -> bool:
        """Whether this is a regular file at a path that reportd itself uses.

        Without this check, a storage_path that is set to /var/data by mistake would remove other programs' files.
        """
        ours = case_of(path) or content_checksum(path) or folder_of(path)
        return bool(ours) and stat.S_ISREG(found.st_mode)

    def remove(self, path: str, found: os.stat_result) -> bool:
        """Unlinks a file if it has not changed since `found`; tidy() makes that durable.

        No race condition between lstat and unlink: an upload does not reuse a name that exists. Another check that
        removes files is excluded by a lock in the database; without it, one of both finds no file.
        """
        absolute = f"{self._root}/{path}"
        now = stat_or_none(absolute)
        if now is None or _identity(now) != _identity(found):
            return False
        descriptor = os.open(absolute, os.O_PATH | os.O_NOFOLLOW)
        try:
            os.unlink(absolute)
            left = _stat_of_unlinked(descriptor)
        finally:
            os.close(descriptor)
        if not path.startswith(f"{STAGING}/"):  # keep staging folders: a process on another machine may use them
            self._emptied.add(os.path.dirname(absolute))
        inode = (found.st_dev, found.st_ino)
        self._touched.pop(inode, None)
        if left and left.st_nlink and len(self._touched) < _MAX_TRACKED:
            self._touched[inode] = (left.st_ctime_ns, left.st_nlink)
        return True

    def tidy(self) -> Iterator[OSError]:
        """Makes removals durable, folder by folder, and removes the folders that are empty now.

        Yields the error of each folder that cannot be synced: the others must not wait for it. A server that is about
        to store a file in a removed folder creates it again (Disk._link).
        """
        folders, self._emptied = self._emptied, set()
        for folder in sorted(folders, key=len, reverse=True):
            try:
                self._disk.tidy(folder)
            except OSError as error:
                yield OSError(error.errno, f"its removals may not be durable: {error.strerror}", folder)


def _stat_of_unlinked(descriptor: int) -> os.stat_result | None:
    """The fstat() of a file that may have other names; None when the file system cannot tell any more: FUSE ones that
    know files by their names answer ENOENT, NFS ESTALE."""
    try:
        return os.fstat(descriptor)
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ESTALE}:
            raise
        return None


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_ctime_ns, found.st_nlink
