"""Whether a folder is on a file system that other machines change, too: what this one sees of it may be out of date."""

import os
from collections.abc import Iterable
from pathlib import Path

_TYPES = ("fuse", "nfs", "ceph", "gluster", "lustre", "cifs", "smb", "9p", "gfs2", "ocfs2")  # beginnings of their names


def is_shared(folder: Path) -> bool:
    """Blocking. Raises OSError."""
    with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="replace") as mounts:
        return type_of(os.stat(folder).st_dev, mounts).startswith(_TYPES)


def type_of(device: int, mounts: Iterable[str]) -> str:
    """The type of the file system with this device number, by the lines of /proc/self/mountinfo; "" if none has it."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts:
        fields = line.split(" ")
        if fields[2] == number:
            return fields[fields.index("-") + 1]
    return ""
