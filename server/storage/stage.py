"""The staged files of a request, and the removal of its files when the request fails."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from server.errors import ReportError
from server.storage.disk import Placement, Removal
from server.storage.folder import Storage

P = ParamSpec("P")
R = TypeVar("R")

_CLEAN_SECONDS = 1.0
_PORTION = 64 << 20  # bytes of files that one disk call places


class Stage:
    """The files of one request, from the first byte to the final path. A context manager: it removes the files that
    are still staged at its end. After an exception it also removes published files, unless their rows may exist.

    If a disk call is still running after a timeout, the clean-up waits until that call ends."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._staged: dict[str, Callable[[], None]] = {}
        self._published: list[Removal] = []
        self._rows_saved = False
        self._last: Future[Any] | None = None
        self.disk = storage.disk

    async def __aenter__(self) -> "Stage":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unpublish = error is not None and not self._rows_saved
        if self._last is not None and not self._last.done():
            # Submit the clean-up to a thread: if the call has just ended, this callback runs on the event loop.
            self._last.add_done_callback(lambda _: self._storage.submit_anyway(self._clean, unpublish))
        elif self._staged or self.disk.undiscarded or (unpublish and self._published):
            cleaning = self._storage.submit_anyway(self._clean, unpublish)
            # An unreachable disk must not delay the reply: stop waiting, but let the clean-up finish in the background.
            with contextlib.suppress(ReportError, TimeoutError):
                async with asyncio.timeout(_CLEAN_SECONDS):
                    await asyncio.shield(asyncio.wrap_future(cleaning))

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs `work` in a thread, see Storage.run(). The clean-up of this request's files waits until it ends."""
        self._last = call = self._storage.submit(work, *args, **kwargs)
        return await self._storage.outcome(call)

    def settle(self, saved: bool) -> None:
        """Called with True just before COMMIT is sent (the rows may exist from then on), with False when COMMIT is
        known to have failed."""
        self._rows_saved = saved

    def new_path(self, close: Callable[[], None] = lambda: None) -> str:
        """A path to stage the next file at. `close` is called before that file is removed."""
        path = f"{self._storage.staging}/{next(self._storage.numbers)}"
        self._staged[path] = close
        return path

    def create(self, path: str) -> int:
        """A descriptor to write a new staged file. Blocking. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            return os.open(path, flags, 0o640)
        except FileNotFoundError:
            self._storage.ensure_mounted()
            return os.open(path, flags, 0o640)

    def discard(self, path: str) -> None:
        """Closes and removes a staged file, such as a refused one. Blocking. Never raises: no reply depends on it."""
        with contextlib.suppress(OSError):  # close() may report a delayed write error
            self._staged.pop(path, lambda: None)()
        self.disk.discard(path)

    async def publish(self, items: Sequence[Placement]) -> list[str]:
        """Moves staged files to their final paths, and returns these in the order of `items`. They are durable then.

        Stored files with the same content are read to compare them. So many or large files take several disk calls:
        a single call could exceed its timeout on a slow disk, and again with each retry of the upload. Raises
        StorageFull, StorageAway.
        """
        paths: list[str] = []
        for portion in _portions(items):
            paths += await self.run(self._publish, portion)
        return paths

    def _publish(self, items: Sequence[Placement]) -> list[str]:
        paths, made = list[str](), set[str]()
        taken = {file.storage_path for file in self._published}
        for item in items:
            # Files of one upload with the same bytes may be names of one inode. The disk takes such a name for its own
            # when a link fails because it exists, and two artifacts would get one path. Therefore `taken`.
            paths.append(self._storage.disk.place(item, made, taken))
            self._staged.pop(item.staged, None)
            if not item.existing:
                taken.add(paths[-1])
                self._published.append(Removal(paths[-1], item.project_id, item.checksum))
        folders = {f"{self._storage.root}/{path.rpartition('/')[0]}" for path in paths}
        self._storage.disk.sync_folders(folders, made)
        return paths

    def _clean(self, unpublish: bool) -> None:
        for close in self._staged.values():
            with contextlib.suppress(OSError):  # close() may report a delayed write error
                close()
        self._storage.clean(self._staged)
        if unpublish and self._published:
            with contextlib.suppress(OSError):
                self._storage.remove_now(self._published)


def _portions(items: Sequence[Placement]) -> Iterator[Sequence[Placement]]:
    """The placements in their order, about `_PORTION` bytes at a time."""
    start = size = 0
    for end, item in enumerate(items, 1):
        size += item.size
        if size >= _PORTION or end == len(items):
            yield items[start:end]
            start, size = end, 0
