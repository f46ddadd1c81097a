"""Where a request reads from: a Pool, or the StandbyReads of standby.py."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Reads(Protocol):
    """A database to read from: it has nothing that writes."""

    def acquire(self) -> AbstractAsyncContextManager[Any]:
        """A connection. What fails while it is used is not repeated, unless `attempt` contains it."""

    async def attempt(self, work: Callable[[], Awaitable[T]]) -> T:
        """`work()`, once more if it failed because of a standby. It reads only, and has sent nothing to the client."""

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """The rows of a statement."""

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        """The first row."""

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        """The first column of the first row."""
