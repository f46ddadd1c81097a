"""Shared by both halves of `reportd check`: database connection, storage folder, thread pool and report."""

import asyncio
import errno
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, ParamSpec, TypeVar

import asyncpg

from server.commands.check.findings import Report
from server.storage.clock import file_system_time
from server.storage.linked import linked_folders
from server.storage.orphans import Orphans
from server.storage.walk import walk

P = ParamSpec("P")
T = TypeVar("T")

PORTION = 1000
HASHED_PORTION = 100
THREADS = 4  # a disk that seeks serves several concurrent reads faster
MAX_REMEMBERED = 100_000  # entries of a set of checksums or inodes, to bound memory
# InternalClientError: the connection is lost, or none of the hosts is a primary.
DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class CheckFailed(Exception):
    """The check could not start or finish; the message gives the reason and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """`grace` in seconds: files with a more recent ctime are skipped."""

    grace: float = 3600.0
    repair: bool = False
    verify_hashes: bool = False


class Context:
    """The state of one check. `root` is the absolute path of the storage folder."""

    def __init__(
        self, connection: Any, root: str, durable: bool, options: Options, report: Report, threads: ThreadPoolExecutor
    ) -> None:
        self.root = root
        self.options = options
        self.report = report
        self.orphans = Orphans(root, durable)
        self.linked = linked_folders(root)  # backups whose hard links are not those of artifacts
        self.estimated_artifacts = 0  # from the table statistics, for the progress display
        # SHA-256 of artifacts whose file is missing or damaged: a content entry may hold the last copy of the bytes.
        self.missing: set[bytes] = set()
        self.stopped = False  # polled by the worker threads, which asyncio cannot cancel
        self._connection = connection
        self._connection_lock = asyncio.Lock()  # prefetch() may query while another query runs
        self._threads = threads
        self._root_inode = inode(os.stat(root))

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """Rows. Raises the errors of asyncpg."""
        async with self._connection_lock:
            rows: list[Any] = await self._connection.fetch(query, *arguments)
            return rows

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in the thread pool."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **kwargs))

    def walked(self, top: str, number: int, ignored: frozenset[str] = frozenset()) -> AsyncGenerator[list[str], None]:
        """Paths of the files below `top`, `number` at a time; reads the next portion while the caller uses this one."""
        walker = self.readable(walk(self.root, top, ignored))
        return prefetch(lambda: self.run(lambda: list(islice(walker, number))))

    def readable(self, found: Iterator[str | OSError]) -> Iterator[str]:
        """The files of a walk; reports files and folders that cannot be read."""
        for each in found:
            if self.stopped:
                return
            if isinstance(each, OSError):
                self.report.unreadable(each)
            else:
                yield each

    def remove(self, path: str, found: os.stat_result) -> bool | None:
        """Unlink a file. True: done; None: it has changed since `found`; False: error, which is reported. Blocking."""
        try:
            return self.orphans.remove(path, found) or None
        except OSError as error:
            self.report.unreadable(error, path)
            return False

    def file_time(self) -> float:
        """The time of the file system's clock, to compare with a ctime. Blocking. Raises CheckFailed.

        Where no file can be created, nothing can be removed either, and this machine's clock is good enough to report.
        """
        try:
            return file_system_time(self.root)
        except OSError as error:
            self.ensure_mounted()
            if self.options.repair and error.errno != errno.EROFS:
                raise CheckFailed(
                    f"Cannot create a file in {self.root}: {error.strerror}. --repair needs it, to read the file "
                    "system's clock: by another clock it could remove files that are too new."
                ) from error
            return time.time()

    def tidy(self) -> None:
        """Make the removals durable; report folders that cannot be synced. Blocking."""
        for error in self.orphans.tidy():
            self.report.unreadable(error)

    def add_missing(self, checksum: str) -> None:
        """Record that the file of an artifact with this SHA-256 is missing or damaged."""
        if len(self.missing) <= MAX_REMEMBERED:
            self.missing.add(bytes.fromhex(checksum))

    def may_be_missing(self, checksum: str) -> bool:
        """Whether an artifact's file with this SHA-256 is missing or damaged. Always True once the set is full."""
        return len(self.missing) > MAX_REMEMBERED or bytes.fromhex(checksum) in self.missing

    def ensure_mounted(self) -> None:
        """Raise CheckFailed when the storage folder was unmounted or replaced during the check.

        Without this, every artifact would be reported as missing.
        """
        with suppress(OSError):
            if inode(os.stat(self.root)) == self._root_inode:
                return
        raise CheckFailed(
            f"The storage folder {self.root} disappeared during the check. Mount its disk and run the check again."
        )


async def prefetch(portion: Callable[[], Awaitable[list[T]]]) -> AsyncGenerator[list[T], None]:
    """Portions until an empty one; fetches the next portion while the caller uses this one."""
    following = asyncio.ensure_future(portion())
    try:
        while current := await following:
            following = asyncio.ensure_future(portion())
            yield current
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await following


def inode(found: os.stat_result) -> tuple[int, int]:
    """The identity of a file, the same for all its hard links."""
    return found.st_dev, found.st_ino
