"""Admission control of one process: counts requests, uploads, and bytes of request bodies and replies in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from types import TracebackType

from server.errors import Overloaded

_REPLIES_OF_LINK = 16


@dataclass(slots=True)
class _Slots:
    """The replies that one evidence link may have in progress. `users`: requests that have a slot or wait for one."""

    users: int = 0
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_REPLIES_OF_LINK))


class Admission:
    """Limits this process to `max_uploads` concurrent uploads, and to `body_memory` bytes of request bodies and
    `reply_memory` bytes of large replies in memory."""

    def __init__(self, max_uploads: int, body_memory: int, reply_memory: int = 1 << 62) -> None:
        self.stopping = False
        self.connections = 0  # open connections of clients
        self.requests = 0
        self.uploads = 0  # without uploads that wait for a slow client
        self.memory = 0  # bytes
        self.refused_uploads = 0
        self.refused_memory = 0
        self._max_uploads = max_uploads
        self.replies = 0  # bytes of large replies that are being sent
        self.refused_replies = 0
        self._max_memory = body_memory
        self.max_replies = reply_memory
        self._links: dict[str, _Slots] = {}  # of the evidence links that have requests in progress
        self._idle = asyncio.Event()
        self._idle.set()

    def begin_request(self) -> None:
        """Count a request as in progress, until end_request(): a graceful shutdown waits for it."""
        self.requests += 1
        self._idle.clear()

    def end_request(self) -> None:
        self.requests -= 1
        if not self.requests:
            self._idle.set()

    async def drained(self, timeout: float) -> None:
        """Wait until no request is in progress, at most `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout)

    def upload(self) -> "UploadSlot":
        """A slot for one more upload. Raises Overloaded when no slot is free."""
        if self.uploads >= self._max_uploads:
            self.refused_uploads += 1
            raise Overloaded()
        return UploadSlot(self)

    def ensure_memory(self, size: int = 0) -> None:
        """Raise Overloaded unless `body_memory` has capacity for a body of `size` bytes (0: unknown). A body that is
        alone in memory is always admitted."""
        if self.memory and self.memory + size >= self._max_memory:
            self.refused_memory += 1
            raise Overloaded()

    @contextlib.contextmanager
    def reply(self, size: int) -> Iterator["ReplyMemory"]:
        """Hold `size` bytes of `reply_memory` while a large reply is sent. Raises Overloaded when others leave too
        little. A reply that is alone in memory is always admitted."""
        memory = ReplyMemory(self)
        try:
            memory.grow(size)
            yield memory
        finally:
            self.replies -= memory.held

    @contextlib.asynccontextmanager
    async def link(self, link: str, timeout: float) -> AsyncIterator[None]:
        """Count a reply of an evidence link as in progress. While the link has 16, wait: a page with many images asks
        for more at once. Raises Overloaded after `timeout` seconds. A published link must not take the memory and the
        database connections of all other requests."""
        slots = self._links.setdefault(link, _Slots())
        slots.users += 1
        try:
            try:
                async with asyncio.timeout(timeout):
                    await slots.free.acquire()
            except TimeoutError:
                self.refused_replies += 1
                raise Overloaded() from None
            try:
                yield
            finally:
                slots.free.release()
        finally:
            slots.users -= 1
            if not slots.users:
                del self._links[link]

    def reserve(self) -> "Reservation":
        """The memory reservation of one body, zero bytes at first."""
        return Reservation(self)

    @property
    def spare_memory(self) -> int:
        """Bytes until half of `body_memory` is in use, below 0 beyond: the fewer, the earlier uploads write."""
        return self._max_memory // 2 - self.memory

    def _grow(self, held: int, size: int) -> None:
        others = self.memory - held
        if others and others + size > self._max_memory:
            self.refused_memory += 1
            raise Overloaded()


class ReplyMemory:
    """What one large reply holds of `reply_memory`."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.held = 0  # bytes

    def grow(self, size: int) -> None:
        """Hold at least `size` bytes in all. Raises Overloaded when other replies leave too little."""
        others = self._admission.replies - self.held
        if size <= self.held:
            return
        if others and others + size > self._admission.max_replies:
            self._admission.refused_replies += 1
            raise Overloaded()
        self._admission.replies += size - self.held
        self.held = size


class UploadSlot:
    """One upload in progress, as a context manager. While its client is slow it costs little and is not counted."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._counted = False

    def count(self, counted: bool) -> None:
        """Count the upload, or stop counting it while it waits for its client."""
        self._admission.uploads += counted - self._counted
        self._counted = counted

    def __enter__(self) -> None:
        self.count(True)

    def __exit__(self, *_: object) -> None:
        self.count(False)


class Reservation:
    """The memory reserved for one body. A context manager that releases it at its end."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = 0

    @property
    def spare(self) -> int:
        return self._admission.spare_memory

    def hold(self, size: int) -> None:
        """Set the reservation to `size` bytes in all, without a check."""
        self._admission.memory += size - self._held
        self._held = size

    def grow(self, size: int) -> None:
        """Set the reservation to `size` bytes in all. Raises Overloaded when other bodies leave too little memory."""
        self._admission._grow(self._held, size)
        self.hold(size)

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hold(0)
