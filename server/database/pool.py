"""The way to PostgreSQL: a pool in which every wait is bounded, and its transactions. Knows no table."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import asyncpg
import orjson

from server.config import DatabaseConfig
from server.database.errors import AWAY, LOST
from server.errors import OutcomeUnknown, Overloaded

# A statement of a transaction that has failed gets this long to be undone, then its connection is dropped.
_ROLLBACK_SECONDS = 2.0
# Requests that may wait for a connection, for each that there is: some hundred milliseconds of work.
_QUEUE_FOR_EACH = 25
# All statements find their rows by an index. A plan that is made while a table is still tiny would read it whole, and
# is kept until the table has been analyzed: in a new database that is minutes of ever slower uploads.
_SESSION = "SET enable_seqscan = off; SET jit = off"


class Pool:
    """asyncpg's pool with every wait bounded: for a connection, and for a slot in the queue for one.

    Raises Overloaded when too many wait, and TimeoutError after `pool_timeout`, which as_report_error knows.
    """

    def __init__(self, pool: Any, config: DatabaseConfig) -> None:
        self._pool = pool
        self._seconds = config.pool_timeout
        self._most_waiting = config.pool_size * _QUEUE_FOR_EACH
        self.size = config.pool_size
        self.in_use = 0
        self.refused = 0
        self._queued = 0
        # Some transactions wait for something else than the database: uploads for the disk, and uses of an evidence
        # link for each other and for the end of a deletion. However slow that is, a connection is left for all others.
        self._waiters = _Lane(self.size - 1)
        self._files = _Lane(self.size - self.size // 4)
        self._links = _Lane(self.size // 8)

    @property
    def open(self) -> int:
        """The connections that there are."""
        return int(self._pool.get_size())

    @property
    def waiting(self) -> int:
        """The requests that wait for one."""
        return self._queued + self._files.waiting + self._links.waiting + self._waiters.waiting

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        """A connection, given back at the end."""
        # Those that have one are counted, too: at the start all wait, also those for which there will be one at once.
        if self._queued + self.in_use >= self._most_waiting + self.size:
            self.refused += 1
            raise Overloaded()
        self._queued += 1
        try:
            # The same time-out bounds the return of a connection whose statement was given up.
            connection = await self._pool.acquire(timeout=self._seconds)
        finally:
            self._queued -= 1
        self.in_use += 1
        try:
            yield connection
        finally:
            self.in_use -= 1
            await self._pool.release(connection)

    @asynccontextmanager
    async def acquire_for_files(self) -> AsyncIterator[Any]:
        """A connection for a transaction that waits for the disk.

        How many may wait is bounded by `max_uploads`: what has come whole is not refused for others that came, too.
        """
        async with self._entered(self._files, self._waiters), self.acquire() as connection:
            yield connection

    @asynccontextmanager
    async def acquire_for_links(self) -> AsyncIterator[Any]:
        """A connection to count a use of an evidence link: few, however often a link is used."""
        if self._links.waiting >= self._most_waiting:
            self.refused += 1
            raise Overloaded()
        async with self._entered(self._links, self._waiters), self.acquire() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(
        self, settle: Callable[[bool], None] | None = None, for_files: bool = False
    ) -> AsyncIterator[Any]:
        """A connection in a transaction: committed at the end, rolled back on an exception.

        `settle(True)` is called before COMMIT is sent: from then on the rows may be there, whatever happens to us;
        `settle(False)` when COMMIT is known to have failed. `for_files`: the transaction waits for the disk. Raises
        OutcomeUnknown when the connection is lost during COMMIT.
        """
        async with self.acquire_for_files() if for_files else self.acquire() as connection:
            current = connection.transaction()
            try:
                await current.start()
                yield connection
            except BaseException:
                await _undo(connection, current)
                raise
            settle = settle or (lambda saved: None)
            settle(True)
            try:
                await current.commit()
            except AWAY as error:
                raise OutcomeUnknown() from error
            except asyncpg.PostgresError:
                settle(False)
                raise

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[Any]:
        """A connection for a statement that is a transaction of its own, and saves two round trips by it.

        Raises OutcomeUnknown when the connection is lost while the statement runs: it may have been committed.
        """
        async with self.acquire() as connection:
            try:
                yield connection
            except LOST as error:
                raise OutcomeUnknown() from error

    async def execute(self, query: str, *arguments: Any) -> str:
        async with self.acquire() as connection:
            return str(await connection.execute(query, *arguments))

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        async with self.acquire() as connection:
            return list(await connection.fetch(query, *arguments))

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchval(query, *arguments)

    async def after(self, error: Exception) -> None:
        """To be called with an error that ended a request. A server that was demoted refuses writes, and keeps its
        connections: without this, nothing would look for the new primary."""
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            await self._pool.expire_connections()

    async def close(self, seconds: float) -> None:
        """Returns when every connection is closed; those still in use after `seconds` are cut."""
        with suppress(asyncio.TimeoutError):
            async with asyncio.timeout(seconds):
                await self._pool.close()
        self._pool.terminate()

    @asynccontextmanager
    async def _entered(self, *lanes: "_Lane") -> AsyncIterator[None]:
        async with AsyncExitStack() as entered:
            try:
                async with asyncio.timeout(self._seconds):
                    for lane in lanes:
                        await entered.enter_async_context(lane)
            except TimeoutError:
                self.refused += 1
                raise Overloaded() from None
            yield


class _Lane:
    """How many connections one kind of transaction may have at once: `most`, and one at the least."""

    def __init__(self, most: int) -> None:
        self._slots = asyncio.Semaphore(max(1, most))
        self.waiting = 0

    async def __aenter__(self) -> None:
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1

    async def __aexit__(self, *_: object) -> None:
        self._slots.release()


async def open_pool(config: DatabaseConfig) -> Pool:
    """A pool of at most `pool_size` connections; none is needed to start, so a late database is no failure."""

    async def keep_session(connection: Any) -> None:
        """asyncpg would send RESET ALL after every use; our sessions are never changed, only transactions."""

    async def begin(connection: Any) -> None:
        """What each session is for: JSON stays JSON on its way through, and plans are those of a full database."""
        await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=orjson.Fragment)
        # Its binary form is the text itself: rows that were encoded as bytes need not become text for it.
        codec: dict[str, Any] = {"encoder": bytes, "decoder": orjson.Fragment, "format": "binary"}
        await connection.set_type_codec("json", schema="pg_catalog", **codec)
        if config.prepared_statements:  # else each statement is planned when it is run, for the tables as they are
            await connection.execute(_SESSION)

    pool = await asyncpg.create_pool(
        config.dsn,
        min_size=0,
        max_size=config.pool_size,
        # Without a cache, asyncpg names no statement and sends each with its values in one go: the next one may meet
        # another session, as behind a PgBouncer that pools by transaction.
        **({} if config.prepared_statements else {"statement_cache_size": 0}),
        timeout=config.connect_timeout,
        command_timeout=config.command_timeout,
        reset=keep_session,
        init=begin,
        server_settings={"application_name": "reportd", "timezone": "UTC"},
    )
    return Pool(pool, config)


async def _undo(connection: Any, current: Any) -> None:
    """Rolls back; where the database does not answer, dropping the connection does it in the end."""
    try:
        async with asyncio.timeout(_ROLLBACK_SECONDS):
            await current.rollback()
    except AWAY:
        connection.terminate()
