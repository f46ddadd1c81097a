"""What lies in a storage folder, for `reportd check`: walks it piece by piece and looks at single files.

Blocking, and for reading only. Symbolic links are never followed below the folder that is asked for.
"""

import errno
import hashlib
import os
from collections.abc import Collection, Iterator

# What an operator has at the top of a mount. Names with a leading dot are passed over everywhere: reportd gives none
# to a file, and they are snapshots (.snapshot), what NFS keeps of removed files (.nfs…), a desktop's notes.
NOT_OURS = frozenset({"lost+found", "aquota.user", "aquota.group", "quota.user", "quota.group"})
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}


def walk(root: str, top: str = "", ignored: Collection[str] = ()) -> Iterator[str | OSError]:
    """Relative paths of all that is no folder below `root`/`top`, but the names in `ignored`, which are of its top.

    One at a time: no folder is too large. One that cannot be read comes as the error; one that is removed meanwhile
    is none.
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


def look(path: str) -> os.stat_result | None:
    """What is at a path, a symbolic link itself; None when nothing is."""
    try:
        return os.lstat(path)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return None


def sha256(path: str) -> str:
    """Of a regular file's bytes, 64 hex digits."""
    # Not blocking: what is no file any more, but a pipe, must not hold anybody up.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
