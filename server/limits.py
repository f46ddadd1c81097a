"""What one process takes on at a time: requests, uploads, and bytes of bodies in memory. Counts, nothing more."""

import asyncio
import contextlib
from collections.abc import Iterator
from types import TracebackType

from server.errors import Overloaded


class Admission:
    """All that is in progress in this process. `max_uploads` at once, and `body_memory` bytes of bodies in memory."""

    def __init__(self, max_uploads: int, body_memory: int) -> None:
        self.stopping = False
        self.requests = 0
        self.uploads = 0  # without those that wait for a slow client
        self.memory = 0  # bytes
        self.refused_uploads = 0
        self.refused_memory = 0
        self._max_uploads = max_uploads
        self._max_memory = body_memory
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Counts a request as in progress, so that a server that stops can wait for it."""
        self.requests += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.requests -= 1
            if not self.requests:
                self._idle.set()

    async def drained(self, timeout: float) -> None:
        """Returns when no request is in progress, after `timeout` seconds at the latest."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout)

    def upload(self) -> "UploadSlot":
        """A slot for one more upload. Raises Overloaded when all are taken."""
        if self.uploads >= self._max_uploads:
            self.refused_uploads += 1
            raise Overloaded()
        return UploadSlot(self)

    def ensure_memory(self, size: int = 0) -> None:
        """Raises Overloaded when no body, or none of `size` bytes, may be begun. One alone always may."""
        if self.memory and self.memory + size >= self._max_memory:
            self.refused_memory += 1
            raise Overloaded()

    def reserve(self) -> "Reservation":
        """What one body holds in memory."""
        return Reservation(self)

    @property
    def memory_is_tight(self) -> bool:
        """Whether uploads should use smaller windows, each of which goes to disk sooner."""
        return self.memory * 2 > self._max_memory

    def _grow(self, held: int, size: int) -> None:
        others = self.memory - held
        if others and others + size > self._max_memory:
            self.refused_memory += 1
            raise Overloaded()


class UploadSlot:
    """An upload among those in progress, as a context manager. One whose client is slow costs little: not counted."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._counted = False

    def count(self, counted: bool) -> None:
        """Whether the upload counts: not as long as it waits for its client."""
        self._admission.uploads += counted - self._counted
        self._counted = counted

    def __enter__(self) -> None:
        self.count(True)

    def __exit__(self, *_: object) -> None:
        self.count(False)


class Reservation:
    """The memory of one body. A context manager: at its end it holds nothing."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = 0

    @property
    def is_tight(self) -> bool:
        return self._admission.memory_is_tight

    def hold(self, size: int) -> None:
        """It is `size` bytes now."""
        self._admission.memory += size - self._held
        self._held = size

    def grow(self, size: int) -> None:
        """The same; raises Overloaded when that is too much together with what others hold."""
        self._admission._grow(self._held, size)
        self.hold(size)

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hold(0)
