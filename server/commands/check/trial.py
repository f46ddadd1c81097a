"""The subfolder in which the promises of a file system are tried, and the system calls for it. Blocking."""

import fcntl
import os
import time
from collections.abc import Callable
from itertools import count

CONTENT = b"reportd\n" * 100
SECONDS = 10.0  # that one mount may take to show what was done through the other
_STEP_SECONDS = 0.001


class Broken(Exception):
    """The file system does not keep a promise; the message says what it did instead."""


class Calls:
    """The system calls that a trial uses."""

    open = staticmethod(os.open)
    link = staticmethod(os.link)
    replace = staticmethod(os.replace)
    unlink = staticmethod(os.unlink)
    fsync = staticmethod(os.fsync)
    lstat = staticmethod(os.lstat)
    statvfs = staticmethod(os.statvfs)
    flock = staticmethod(fcntl.flock)


class Trial:
    """The subfolder of a trial, `here` and through the other mount `there`."""

    def __init__(self, here: str, there: str | None, calls: type[Calls]) -> None:
        self.here = here
        self.there = there or here
        self.calls = calls
        self._numbers = count()

    def name(self) -> str:
        """A new name; '/' first."""
        return f"/{next(self._numbers)}"

    def write(self, path: str, content: bytes = CONTENT) -> str:
        """Creates a file and returns its path."""
        descriptor = self.calls.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
        return path

    def read(self, path: str) -> bytes:
        descriptor = self.calls.open(path, os.O_RDONLY)
        try:
            return os.read(descriptor, 2 * len(CONTENT))
        finally:
            os.close(descriptor)

    def exists(self, path: str) -> bool:
        try:
            self.calls.lstat(path)
        except FileNotFoundError:
            return False
        return True

    def until(self, condition: Callable[[], bool], instead: str) -> str:
        """How long it takes until the condition is true."""
        started = time.monotonic()
        while not condition():
            if time.monotonic() - started > SECONDS:
                raise Broken(f"{instead} after {SECONDS:g} s")
            time.sleep(_STEP_SECONDS)
        return f"after {1000 * (time.monotonic() - started):.0f} ms"
