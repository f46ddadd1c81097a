"""Compares a stored file with the staged file that was just received. Blocking, in bounded memory."""

import errno
import os
import stat

_CHUNK = 256 << 10
_NO_FILE = {errno.ENOENT, errno.ENOTDIR}
# This process or machine has no descriptor or memory left, which says nothing about the file.
_NO_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
# A mount by FUSE or NFS that broke, which says nothing about the file either.
_AWAY = {errno.ENOTCONN, errno.ECONNABORTED, errno.ESTALE, errno.ETIMEDOUT}


def is_equal(stored: str, staged: str, size: int) -> bool | None:
    """Whether a stored file has the bytes of the staged file, which is `size` bytes long. None: there is no such file.

    False also for what cannot be read (a bad sector) and for what is not a regular file: nothing may link to it.
    Raises OSError when the staged file cannot be read, or the file system is away.
    """
    try:
        # O_NOFOLLOW: reportd creates no symbolic links. O_NONBLOCK: open() of a FIFO must not wait for a writer.
        descriptor = os.open(stored, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _NO_FILE:  # the usual case
            return None
        if error.errno in _NO_RESOURCES | _AWAY:
            raise
        return False
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return False
        received = os.open(staged, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # A file that was staged by Disk.adopt() is the stored file, and need not be read again.
            same = os.path.samestat(found, os.fstat(received))
            return same or _have_equal_bytes(descriptor, received, size)
        finally:
            os.close(received)
    finally:
        os.close(descriptor)


def _have_equal_bytes(stored: int, received: int, size: int) -> bool:
    while size > 0:
        wanted = os.read(received, min(size, _CHUNK))
        if not wanted:
            raise OSError(errno.EIO, "the staged file is shorter than the bytes that were received")
        if _read(stored, len(wanted)) != wanted:
            return False
        size -= len(wanted)
    return True


def _read(descriptor: int, count: int) -> bytes:
    """The next `count` bytes; fewer when the file is damaged. Raises OSError when the file system is away."""
    try:
        return os.read(descriptor, count)
    except OSError as error:
        if error.errno in _AWAY:
            raise
        return b""
