"""How many bytes of bodies one process holds in memory, against a limit. A count, nothing more."""

from types import TracebackType

from server.errors import Overloaded


class Memory:
    """What all bodies in progress hold together. `limit` in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.refused = 0

    @property
    def tight(self) -> bool:
        """Whether those who can should make room: with smaller windows, each of which goes to disk sooner."""
        return self.held * 2 > self.limit

    def ensure_room(self, size: int = 0) -> None:
        """Raises Overloaded when no body, or none of `size` bytes, may be begun. One alone always may."""
        if self.held and self.held + size >= self.limit:
            self.refused += 1
            raise Overloaded()


class Share:
    """What one body holds of it. A context manager: at its end it holds nothing."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self._held = 0

    def hold(self, size: int) -> None:
        """It is `size` bytes now."""
        self.memory.held += size - self._held
        self._held = size

    def grow(self, size: int) -> None:
        """The same; raises Overloaded when that is too much together with what others hold."""
        others = self.memory.held - self._held
        if others and others + size > self.memory.limit:
            self.memory.refused += 1
            raise Overloaded()
        self.hold(size)

    def __enter__(self) -> "Share":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hold(0)
