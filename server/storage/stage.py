"""The files of one request, from their first byte to their names."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from server.errors import ReportError
from server.storage.disk import Placement, Removal
from server.storage.folder import Storage

P = ParamSpec("P")
R = TypeVar("R")

_CLEAN_SECONDS = 1.0


class Stage:
    """The files of one request, from their first byte to their names. A context manager: what is still staged at
    its end is removed, and what was published is taken back on an exception, unless its rows may have been saved.

    When the disk took too long, all of that is done once it answers."""

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
        take_back = error is not None and not self._rows_saved
        if self._last is not None and not self._last.done():
            # In a thread again: a call that ends this very moment would do it here.
            self._last.add_done_callback(lambda _: self._storage.submit_anyway(self._clean, take_back))
        elif self._staged or (take_back and self._published):
            cleaning = self._storage.submit_anyway(self._clean, take_back)
            # A disk that is gone must not hide the reply. Nor is the cleaning given up: it is only not waited for.
            with contextlib.suppress(ReportError, TimeoutError):
                async with asyncio.timeout(_CLEAN_SECONDS):
                    await asyncio.shield(asyncio.wrap_future(cleaning))

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`work` in a thread, see Storage.run; nothing of this request's files is touched before it ends."""
        self._last = call = self._storage.submit(work, *args, **kwargs)
        return await self._storage.outcome(call)

    def settle(self, saved: bool) -> None:
        """Told that the rows may be saved from now on, or that they are known not to be."""
        self._rows_saved = saved

    def new_path(self, close: Callable[[], None] = lambda: None) -> str:
        """Where the next file of the request is staged; `close` is called before it is removed."""
        path = f"{self._storage.staging}/{next(self._storage.numbers)}"
        self._staged[path] = close
        return path

    def discard(self, path: str) -> None:
        """Removes a staged file that is not wanted any more. Blocking."""
        self._staged.pop(path, lambda: None)()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    async def publish(self, items: Sequence[Placement]) -> list[str]:
        """Names for the items, in their order, durable when this returns. Raises StorageFull, StorageAway."""
        return await self.run(self._publish, items)

    def _publish(self, items: Sequence[Placement]) -> list[str]:
        paths = []
        for item in items:
            paths.append(self._storage.disk.place(item))
            self._staged.pop(item.staged, None)
            if not item.existing:
                self._published.append(Removal(paths[-1], item.project_id, item.checksum))
        for folder in {os.path.dirname(path) for path in paths}:
            self._storage.disk.sync_folder(f"{self._storage.root}/{folder}")
        return paths

    def _clean(self, take_back: bool) -> None:
        for close in self._staged.values():
            with contextlib.suppress(OSError):  # a write that fails only now
                close()
        self._storage.clean(self._staged)
        if take_back and self._published:
            with contextlib.suppress(OSError):
                self._storage.remove_now(self._published)
