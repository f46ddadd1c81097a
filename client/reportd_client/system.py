"""The functions of the operating system that recording uses, as they were when this module was imported.

Tests replace clocks (freezegun), files (pyfakefs) and `os` functions. Such tools search modules for the functions that
they replace, but not classes: without this, a report would have a test's false times, or its records would be written
to a file system that exists only in memory.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import Callable


def _real_time() -> Callable[[], float]:
    """The clock of the system. `clock_gettime` is not replaced even if the import happens while a clock is frozen."""
    if hasattr(time, "clock_gettime"):
        gettime, realtime = time.clock_gettime, time.CLOCK_REALTIME
        return lambda: gettime(realtime)
    return time.time


class System:
    """The real functions. Times are milliseconds since 1970, as the server takes them."""

    _time = staticmethod(_real_time())
    getpid = staticmethod(os.getpid)
    urandom = staticmethod(os.urandom)
    open = staticmethod(os.open)
    write = staticmethod(os.write)
    read = staticmethod(os.read)
    close = staticmethod(os.close)
    fstat = staticmethod(os.fstat)
    stat = staticmethod(os.stat)
    link = staticmethod(os.link)
    replace = staticmethod(os.replace)
    remove = staticmethod(os.remove)
    makedirs = staticmethod(os.makedirs)
    disk_usage = staticmethod(shutil.disk_usage)

    @classmethod
    def now(cls) -> int:
        return int(cls._time() * 1000)
