"""The clock of the storage folder's file system. Blocking."""

import os
from uuid import uuid4


def file_system_time(folder: str) -> float:
    """The time of the file system's clock, which sets every ctime, in seconds since the epoch. Raises OSError.

    It is the ctime of a new file. The clock of this machine may differ: file servers have clocks of their own.
    """
    probe = f"{folder}/.check-{uuid4().hex}"
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        return os.fstat(descriptor).st_ctime
    finally:
        os.close(descriptor)
        os.unlink(probe)
