"""Walks a storage folder and reads single files, for `reportd check` and the cache of thumbnails.

Blocking and read-only. Does not follow symbolic links below the given folder.
"""

import errno
import hashlib
import os
from collections.abc import Collection, Iterator

# Entries of the file system at the top of a mount. Names with a leading dot are skipped everywhere: no artifact has
# one. They are snapshots (.snapshot), deleted files that NFS keeps open (.nfs…), or a desktop's metadata.
NOT_OURS = frozenset({"lost+found", "aquota.user", "aquota.group", "quota.user", "quota.group"})
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}


def walk(root: str, top: str = "", ignored: Collection[str] = ()) -> Iterator[str | OSError]:
    """Yields the relative paths of all non-folders below `root`/`top`. Skips the names in `ignored` directly in `top`.

    A generator, so that large folders need no memory. Yields an OSError for a folder that cannot be read, and nothing
    for a folder that is removed meanwhile.
    """
    try:
        with os.scandir(f"{root}/{top}") as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in ignored:
                    continue
                path = f"{top}/{entry.name}" if top else entry.name
                if entry.is_dir(follow_symlinks=False):
                    yield from walk(root, path)
                else:
                    yield path
    except OSError as error:
        if error.errno not in _ABSENT:
            yield error


def stat_or_none(path: str) -> os.stat_result | None:
    """The lstat() of a path; None when nothing exists there."""
    try:
        return os.lstat(path)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return None


def sha256(path: str) -> str:
    """The SHA-256 of a regular file's bytes, as 64 hex digits."""
    # O_NONBLOCK: if a FIFO has replaced the file meanwhile, open() must not block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
