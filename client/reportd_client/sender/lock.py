"""One sender for each spool: a lock of the operating system, which ends with the process that holds it.

Node.js has none: the Playwright reporter writes into the file who it is, and touches the file while it sends.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import IO

_NODE = re.compile(r"process (\d{1,9}) of Node\.js on (.*)")
_TOUCHED_SECONDS = 30.0  # it is touched every 5 s, unless its process is very busy


class Taken(Exception):
    """Another process sends this spool. The text says which."""


class Gone(Exception):
    """The spool has been sent and removed by another process."""


class Lock:
    """Holds the lock of a spool until close(). Raises Taken, Gone, OSError."""

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        try:
            self._file: IO[str] = path.open("a+", encoding="ascii")
        except FileNotFoundError:
            raise Gone from None
        try:
            _lock(self._file)
        except OSError:
            self._file.seek(0)
            holder = self._file.read(100).strip() or "another process"
            self._file.close()
            raise Taken(f"{folder} is being sent by {holder}") from None
        self._file.seek(0)
        holder = self._file.read(300).strip()
        if _is_held(holder, os.fstat(self._file.fileno()).st_mtime):
            self._file.close()
            raise Taken(f"{folder} is being sent by {holder}")
        if not path.exists() or not os.path.samestat(os.fstat(self._file.fileno()), path.stat()):
            self._file.close()
            raise Gone
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()}\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _is_held(holder: str, touched: float) -> bool:
    """Whether a process of Node.js still sends."""
    found = _NODE.fullmatch(holder)
    if found is None or time.time() - touched > _TOUCHED_SECONDS:
        return False
    if found[2] != platform.node() or sys.platform == "win32":  # there is no harmless signal on Windows
        return True
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        pass
    return True


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        # A byte far behind the text, which others may then still read.
        file.seek(1 << 20)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
