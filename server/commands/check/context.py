"""What both halves of `reportd check` work with: the database, the storage folder, threads, and where findings go."""

import asyncio
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
from server.storage.orphans import Orphans
from server.storage.walk import walk

P = ParamSpec("P")
T = TypeVar("T")

PORTION = 1000
HASHED_PORTION = 100
THREADS = 4  # a disk that has to seek serves several at once faster
MOST_REMEMBERED = 100_000  # of what is remembered of single files, that memory stays bounded
# Seconds by which a file system's clock, which ticks a few hundred times a second, and ours may differ.
TICKS = 2.0
# asyncpg raises the last one, too, when a connection is lost or no host is a primary.
DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class CannotTell(Exception):
    """The check cannot be made, or not be ended; the text says why."""


@dataclass(frozen=True, slots=True)
class Options:
    """`grace` in seconds: files that were touched later are not judged."""

    grace: float = 3600.0
    repair: bool = False
    verify_hashes: bool = False


class Context:
    """Those of one check. `root` is absolute."""

    def __init__(
        self, connection: Any, root: str, durable: bool, options: Options, report: Report, threads: ThreadPoolExecutor
    ) -> None:
        self.root = root
        self.options = options
        self.report = report
        self.orphans = Orphans(root, durable)
        self.began = time.time()
        self.estimate = 0  # of the number of artifacts
        # Checksums of artifacts whose file is not whole: a content entry may hold the last copy of their bytes.
        self.wanted: set[bytes] = set()
        self.stopped = False  # asked by what runs in threads, where nothing can be cancelled
        self._connection = connection
        self._asking = asyncio.Lock()  # one connection, and the next portion is fetched while this one is looked at
        self._threads = threads
        self._mount = inode(os.stat(root))

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """Rows. Raises asyncpg's errors."""
        async with self._asking:
            rows: list[Any] = await self._connection.fetch(query, *arguments)
            return rows

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`work` in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **kwargs))

    def walked(self, top: str, number: int, ignored: frozenset[str] = frozenset()) -> AsyncGenerator[list[str], None]:
        """Portions of the files below a folder, each read while the one before is worked on."""
        walker = self.readable(walk(self.root, top, ignored))
        return ahead(lambda: self.run(lambda: list(islice(walker, number))))

    def readable(self, found: Iterator[str | OSError]) -> Iterator[str]:
        """The files of a walk; what could not be read is told."""
        for each in found:
            if self.stopped:
                return
            if isinstance(each, OSError):
                self.report.unreadable(each)
            else:
                yield each

    def remove(self, path: str, found: os.stat_result) -> bool | None:
        """Blocking. Whether it is removed; None when it has changed since it was found, so that it is another's now.
        What cannot be removed is told."""
        try:
            return self.orphans.remove(path, found) or None
        except OSError as error:
            self.report.unreadable(error, path)
            return False

    def want(self, checksum: str) -> None:
        """Notes that an artifact lacks its bytes."""
        if len(self.wanted) <= MOST_REMEMBERED:
            self.wanted.add(bytes.fromhex(checksum))

    def is_wanted(self, checksum: str) -> bool:
        """Whether an artifact lacks these bytes, or may: where so many do, not all are remembered."""
        return len(self.wanted) > MOST_REMEMBERED or bytes.fromhex(checksum) in self.wanted

    def must_be_mounted(self) -> None:
        """A storage folder that goes away in the middle has not lost each single file. Raises CannotTell."""
        with suppress(OSError):
            if inode(os.stat(self.root)) == self._mount:
                return
        raise CannotTell(f"The storage folder {self.root} went away.")


async def ahead(portion: Callable[[], Awaitable[list[T]]]) -> AsyncGenerator[list[T], None]:
    """Portions until there is an empty one; the next is fetched while this one is worked on."""
    coming = asyncio.ensure_future(portion())
    try:
        while current := await coming:
            coming = asyncio.ensure_future(portion())
            yield current
    finally:
        coming.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await coming


def inode(found: os.stat_result) -> tuple[int, int]:
    """What tells a file from every other, whatever its names."""
    return found.st_dev, found.st_ino
