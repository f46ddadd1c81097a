"""The connection pool for PostgreSQL with a timeout for every wait, and its transactions. Independent of the schema."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any, TypeVar

import asyncpg
import orjson

from server.config import DatabaseConfig
from server.database.errors import LOST, UNAVAILABLE
from server.database.hosts import connector
from server.errors import OutcomeUnknown, Overloaded

T = TypeVar("T")

# A rollback, or the cancellation of a statement, may take this long; then its connection is dropped.
_ROLLBACK_SECONDS = 2.0
# The errors of a primary that was demoted, or does not reply. The other connections to it stay open: unless they are
# replaced, the pool never connects to the new primary, or one request after the other waits for the old one.
_OLD_PRIMARY = (asyncpg.ReadOnlySQLTransactionError, TimeoutError, OutcomeUnknown)
# Requests that may wait, per connection of the pool: a few hundred milliseconds of work.
_QUEUE_PER_CONNECTION = 25
# Every statement can use an index. But for a table that is still tiny, PostgreSQL plans a sequential scan, and caches
# that plan until the table is analyzed. Without this, uploads to a new database get ever slower for minutes.
_SESSION = "SET enable_seqscan = off; SET jit = off;"
# PostgreSQL ends the session of a host without power or network after 10 seconds. Its default is two hours, in which a
# transaction that had just begun would keep the row of its test case locked for all other hosts.
_SESSION += "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_user_timeout = 10000"
# A statement that waits for a lock fails before command_timeout: after that, the primary would be taken for one that
# hangs, all connections would be replaced, and a statement that commits by itself would go on waiting in PostgreSQL.
_LOCK_SHARE = 0.8
# How long a connection may be passed from request to request before asyncpg's pool gets it back.
_KEEP_SECONDS = 1.0


class Pool:
    """asyncpg's pool with bounded waits: a timeout for getting a connection, and a limit on the waiting requests.

    A released connection is kept for a second for the next request: to give it back to asyncpg's pool and to get it
    again costs as much processor time as a query. Raises Overloaded when too many requests wait, and TimeoutError after
    `pool_timeout` (a 503 by as_report_error).
    """

    def __init__(self, pool: Any, config: DatabaseConfig) -> None:
        self._pool = pool
        self._timeout = config.pool_timeout
        self._commit_timeout = 0.9 * config.command_timeout  # before asyncpg cancels the statement
        self._max_waiting = config.pool_size * _QUEUE_PER_CONNECTION
        self.size = config.pool_size
        self.in_use = 0
        self.refused = 0
        self._queued = 0
        self._kept: list[Any] = []
        self._keeping: asyncio.Task[None] | None = None  # gives the kept connections back
        self._generation = 0  # connections of an earlier one are not kept
        # Some transactions hold a connection while they wait: uploads wait for the disk, and uses of an evidence link
        # wait for row locks. These limits keep a connection free for all other requests, if `pool_size` is at least 2.
        self._slow = _Limit(self.size - 1)
        self._files = _Limit(self.size - self.size // 4)
        self._links = _Limit(self.size // 8)

    @property
    def open(self) -> int:
        """Open connections, idle or in use."""
        return int(self._pool.get_size())

    @property
    def waiting(self) -> int:
        """Requests that wait for a connection."""
        return self._queued + self._files.waiting + self._links.waiting + self._slow.waiting

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        """A connection, released at the end."""
        # in_use counts too: every request is queued at first, even if a connection is free.
        if self._queued + self.in_use >= self._max_waiting + self.size:
            self.refused += 1
            raise Overloaded()
        connection, generation = self._kept.pop() if self._kept else await self._next(), self._generation
        if _is_lost(connection):
            await self._pool.release(connection)
            connection = await self._next()
        self.in_use += 1
        try:
            yield connection
        except BaseException as error:
            generation = -1  # asyncpg waits for the end of a statement that is being cancelled
            if isinstance(error, _OLD_PRIMARY):
                await self._replace_all()
            raise
        finally:
            self.in_use -= 1
            if self._queued or generation != self._generation or _is_lost(connection):
                # A connection that cannot be released is closed. That must not hide the result, or the block's error.
                with suppress(*LOST):
                    await self._pool.release(connection, timeout=_ROLLBACK_SECONDS)
            else:
                self._keep(connection)

    async def _next(self) -> Any:
        """A connection of asyncpg's pool, when one is free. Raises TimeoutError."""
        self._queued += 1
        try:
            return await self._pool.acquire(timeout=self._timeout)
        finally:
            self._queued -= 1

    def _keep(self, connection: Any) -> None:
        self._kept.append(connection)
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(self._give_back_soon())

    async def _give_back_soon(self) -> None:
        """asyncpg's pool closes connections that it has had for long, or that nobody has used for long."""
        await asyncio.sleep(_KEEP_SECONDS)
        await self._give_back()

    async def _give_back(self) -> None:
        while self._kept:
            with suppress(*LOST):
                await self._pool.release(self._kept.pop(), timeout=_ROLLBACK_SECONDS)

    async def _replace_all(self) -> None:
        """Each connection is closed now, or when its request ends."""
        self._generation += 1
        await self._pool.expire_connections()
        while self._kept:
            drop(self._kept.pop())

    @asynccontextmanager
    async def acquire_for_files(self) -> AsyncIterator[Any]:
        """A connection for a transaction that waits for the disk.

        No queue limit of its own: `max_uploads` bounds the queue, and a received upload should not be refused.
        """
        async with self._within(self._files, self._slow), self.acquire() as connection:
            yield connection

    @asynccontextmanager
    async def acquire_for_links(self) -> AsyncIterator[Any]:
        """A connection to count a use of an evidence link. Few at a time: a popular link must not use up the pool."""
        if self._links.waiting >= self._max_waiting:
            self.refused += 1
            raise Overloaded()
        async with self._within(self._links, self._slow), self.acquire() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(
        self, settle: Callable[[bool], None] | None = None, for_files: bool = False
    ) -> AsyncIterator[Any]:
        """A connection in a transaction: committed at the end, rolled back on an exception.

        `settle(True)` is called just before COMMIT is sent: the rows may exist from then on, whatever happens to this
        process. `settle(False)` is called when COMMIT is known to have failed. `for_files`: the transaction waits for
        the disk. Raises OutcomeUnknown when the connection is lost during COMMIT.
        """
        async with self.acquire_for_files() if for_files else self.acquire() as connection:
            current = connection.transaction()
            try:
                await current.start()
                yield connection
            except BaseException:
                await _roll_back(connection, current)
                raise
            settle = settle or (lambda saved: None)
            settle(True)
            try:
                await _uncancelled(connection, current.commit(), self._commit_timeout)
            except UNAVAILABLE as error:
                raise OutcomeUnknown() from error
            except asyncpg.PostgresError:
                settle(False)
                raise

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[Any]:
        """Where to `fetch` a single statement that is its own transaction, which saves two round trips.

        Raises OutcomeUnknown when the connection is lost while the statement runs: it may have been committed.
        """
        async with self.acquire() as connection:
            try:
                yield _SingleStatement(connection, self._commit_timeout)
            except LOST as error:
                raise OutcomeUnknown() from error

    async def attempt(self, work: Callable[[], Awaitable[T]]) -> T:
        """`work()`, see reads.py."""
        return await work()

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

    async def close(self, seconds: float) -> None:
        """Closes every connection. Those still in use after `seconds` are terminated, and all when one is lost."""
        with suppress(*LOST):
            async with asyncio.timeout(seconds):
                self._generation += 1
                await self._give_back()
                await self._pool.close()
        self.terminate()

    def terminate(self) -> None:
        """Drops every connection at once, also those in use."""
        self._generation += 1
        if self._keeping is not None:
            self._keeping.cancel()
        self._kept.clear()
        self._pool.terminate()

    @asynccontextmanager
    async def _within(self, *limits: "_Limit") -> AsyncIterator[None]:
        entered: list[_Limit] = []
        try:
            try:
                # No timer where nothing waits: it costs as much as all the rest.
                async with asyncio.timeout(self._timeout) if any(each.is_reached for each in limits) else nullcontext():
                    for limit in limits:
                        await limit.enter()
                        entered.append(limit)
            except TimeoutError:
                self.refused += 1
                raise Overloaded() from None
            yield
        finally:
            for limit in entered:
                limit.leave()


class _SingleStatement:
    """Runs the statement of Pool.autocommit()."""

    def __init__(self, connection: Any, seconds: float) -> None:
        self._connection, self._seconds = connection, seconds

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        found = await _uncancelled(self._connection, self._connection.fetch(query, *arguments), self._seconds)
        return list(found)


class _Limit:
    """Limits the connections that one kind of transaction holds at once: to `most`, but at least one."""

    def __init__(self, most: int) -> None:
        self._semaphore = asyncio.Semaphore(max(1, most))
        self.waiting = 0

    @property
    def is_reached(self) -> bool:
        """Whether enter() would wait."""
        return self._semaphore.locked()

    async def enter(self) -> None:
        self.waiting += 1
        try:
            await self._semaphore.acquire()
        finally:
            self.waiting -= 1

    def leave(self) -> None:
        self._semaphore.release()


async def open_pool(
    config: DatabaseConfig, admit: Callable[[Any], Awaitable[None]] | None = None, **options: Any
) -> Pool:
    """A pool of at most `pool_size` connections. Opens none yet, so the server can start before the database.

    `admit` raises when a new connection must not be used. `options` are those of asyncpg.connect.
    """

    async def keep_session(connection: Any) -> None:
        """Replaces asyncpg's RESET ALL after every use: settings are changed only within transactions (SET LOCAL)."""

    async def set_up(connection: Any) -> None:
        """Prepares a new connection: JSON is put into replies as it is, and plans use the indexes."""
        await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=_compact)
        # The binary format of json is its text: rows that were encoded as bytes need no conversion to str.
        codec: dict[str, Any] = {"encoder": bytes, "decoder": orjson.Fragment, "format": "binary"}
        await connection.set_type_codec("json", schema="pg_catalog", **codec)
        if config.prepared_statements:  # otherwise each execution is planned for the current table sizes
            wait = round(_LOCK_SHARE * config.command_timeout * 1000)
            await connection.execute(f"{_SESSION}; SET lock_timeout = {wait}")
        if admit is not None:
            await admit(connection)

    pool = await asyncpg.create_pool(
        config.dsn,
        connect=connector(config.dsn),
        min_size=0,
        max_size=config.pool_size,
        # Without a cache, asyncpg uses no named statements. Behind a PgBouncer in transaction mode these would fail:
        # the next statement may run in another session.
        **({} if config.prepared_statements else {"statement_cache_size": 0}),
        timeout=config.connect_timeout,
        command_timeout=config.command_timeout,
        reset=keep_session,
        init=set_up,
        server_settings={"application_name": "reportd", "timezone": "UTC"},
        **options,
    )
    return Pool(pool, config)


def _compact(jsonb: str) -> orjson.Fragment:
    """The JSON with the spacing of replies: PostgreSQL writes jsonb with a space after each colon and comma."""
    return orjson.Fragment(jsonb if len(jsonb) <= len("{}") else orjson.dumps(orjson.loads(jsonb)))


def drop(connection: Any) -> None:
    """Closes a connection at once: a goodbye could wait for a database that does not answer."""
    with suppress(asyncpg.InterfaceError):  # it is lost, and asyncpg's pool has taken it back already
        connection.terminate()


def _is_lost(connection: Any) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:  # asyncpg's pool has taken it back already
        return True


async def _uncancelled(connection: Any, work: Awaitable[T], seconds: float) -> T:
    """Runs a COMMIT, or a statement that commits. When that takes too long, or the request is cancelled, drops the
    connection.

    asyncpg would ask PostgreSQL to cancel it. While a commit waits for a synchronous standby, PostgreSQL then makes the
    rows visible, although the standby does not have them. A repeated request would find them, or its Idempotency-Key,
    and be acknowledged with rows that are lost when the standby becomes the primary.
    """
    timer = asyncio.get_running_loop().call_later(seconds, drop, connection)
    try:
        return await work
    except asyncio.CancelledError:
        drop(connection)  # ends asyncpg's task that asks for the cancellation, before it has begun
        raise
    finally:
        timer.cancel()


async def _roll_back(connection: Any, current: Any) -> None:
    """Rolls back. If the database does not answer, drops the connection: then the database rolls back by itself."""
    try:
        async with asyncio.timeout(_ROLLBACK_SECONDS):
            await current.rollback()
    except UNAVAILABLE:
        drop(connection)
