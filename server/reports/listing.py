"""Lists that are read from the database in portions of about 1 MiB: nothing holds the whole of a large one."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from server.database.reads import Reads

PORTION = 1 << 20  # bytes of text; the queries have the same number, and count at least 500 for each row
MOST_ROWS = PORTION // 500 + 1  # so that a query does not look at many more rows than it returns

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Portion:
    """The next rows of a list. `items` is a list, or the JSON of one as an orjson.Fragment."""

    items: Any
    count: int  # of rows
    last: Key  # the place of the last row in the order of the list
    size: int  # bytes of text, more than PORTION only when it is one row


# fetch(connection, after, limit, offset): the portion that begins `offset` rows after the place `after`.
Fetch = Callable[[Any, Key, int, int], Awaitable[Portion]]


class Listing:
    """A list whose first portion was read. `whole`: that is all of it, as for nearly every list.

    Portions are read by keyset, so that no row is skipped or repeated because others are written meanwhile; and not by
    a cursor, with which a client that reads slowly would keep a connection to the database. Together they are not one
    snapshot: a row that changes while the list is read appears as it was before or after the change.
    """

    def __init__(self, fetch: Fetch, wanted: int, first: Portion) -> None:
        """`wanted`: how many rows are expected."""
        self._fetch, self._changes = fetch, list[Callable[[Any], Awaitable[Any]]]()
        self._left, self._first = wanted, first
        self.whole = first.count >= wanted and first.size <= PORTION

    @property
    def items(self) -> Any:
        """The items of a list that is whole."""
        if not self.whole:
            raise LookupError("this list must be read in portions")
        return self._first.items

    async def changed(self, change: Callable[[Any], Awaitable[Any]]) -> None:
        """From now on, the items of each portion are as `change` returns them."""
        self._first = replace(self._first, items=await change(self._first.items))
        self._changes.append(change)

    async def portions(self, reads: Reads, encode: Callable[[Any], Awaitable[bytes]]) -> AsyncGenerator[bytes, None]:
        """The items of one portion after the other, encoded. While one is sent, neither its rows nor a connection to
        the database are kept."""
        portion: Portion | None = self._first
        self._first = replace(self._first, items=[])
        while portion is not None and portion.count:
            after, self._left = portion.last, self._left - portion.count
            items, portion = [portion.items], None
            yield await encode(items.pop())
            if self._left > 0:
                portion = await self._next(reads, after)

    async def _next(self, reads: Reads, after: Key) -> Portion:
        async def fetch() -> Portion:
            async with reads.acquire() as connection:
                return await self._fetch(connection, after, min(self._left, MOST_ROWS), 0)

        found = await reads.attempt(fetch)
        for change in self._changes:
            found = replace(found, items=await change(found.items))
        return found


async def read(connection: Any, fetch: Fetch, start: Key, total: int, limit: int | None, offset: int) -> Listing:
    """The rows from `offset` on, at most `limit`, of a list of `total` rows. `start`: a place before its first row."""
    wanted = max(0, total - offset)
    wanted = wanted if limit is None else min(limit, wanted)
    if not wanted:
        return Listing(fetch, 0, Portion([], 0, start, 0))
    return Listing(fetch, wanted, await fetch(connection, start, min(wanted, MOST_ROWS), offset))


def rows(query: str, arguments: Sequence[Any], make: Callable[..., Any], columns: int) -> Fetch:
    """Fetches portions with a query like logs.console_for_case. Its rows have `columns` columns for `make`, then those
    of their place in the order of the list, and at last `bytes`."""

    async def fetch(connection: Any, after: Key, limit: int, offset: int) -> Portion:
        found = await connection.fetch(query, *arguments, *after, limit, offset)
        if not found:
            return Portion([], 0, after, 0)
        *last, size = found[-1][columns:]
        return Portion([make(*row[:columns]) for row in found], len(found), tuple(last), size)

    return fetch
