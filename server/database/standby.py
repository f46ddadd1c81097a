"""Reads from a standby of PostgreSQL (`[database] read_dsn`) that are never older than the request.

A standby replays the write-ahead log (WAL) of its primary a little later. Before a request reads, the primary is asked
how far its WAL is: everything that any client has stored, through any host, lies before that position. A connection to
the standby is used only when it has replayed the WAL up to there. Otherwise, and after any failure of the standby, the
request reads from the primary.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
import msgspec
from prometheus_client import Counter, Gauge
from psycopg.conninfo import conninfo_to_dict

from server.config import DatabaseConfig
from server.database.errors import LOST, UNAVAILABLE
from server.database.pool import Pool, drop, open_pool
from server.database.queries import SQL
from server.errors import Overloaded

LOG = logging.getLogger("reportd")
T = TypeVar("T")

# How long a request waits for the standby to catch up: 60 ms in all. A healthy standby needs a few.
_PAUSES = (0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.0)
_ANSWER_SECONDS = 1.0  # timeout for a connection to the standby, and for a check of it
_WATCH_SECONDS = 2.0
# Failures of a statement that it may not have on the primary. PostgreSQL reports a conflict with the replay of the WAL
# as a serialization failure, or as a deadlock. The replay also holds the locks of the primary's transactions.
_CONFLICTS = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
)
_FAILURES = (*UNAVAILABLE, *_CONFLICTS)
_NO_STANDBY = "is not a standby (or not any more)"

_READS = Counter(
    "reportd_reads",
    "Connections used by routes that may read from the standby of [database] read_dsn. target=standby, target=primary.",
    ["target"],
)
_FALLBACKS = Counter(
    "reportd_standby_fallbacks",
    "Requests that read from the primary after they had tried the standby. reason=behind: it had not replayed what the "
    "primary had stored. reason=away: it did not answer. reason=busy: all connections to it were in use. "
    "reason=conflict: it cancelled a statement, mostly because of the replay. reason=refused: it is not a standby of "
    "this primary, or not any more. reason=primary: the primary did not report its position.",
    ["reason"],
)
_UP = Gauge(
    "reportd_standby_up",
    "1 while the standby of [database] read_dsn is used, 0 while all reads use the primary.",
    ["hosts"],
    multiprocess_mode="livemin",
)
_LAG = Gauge(
    "reportd_standby_lag_bytes",
    "Bytes of WAL that the standby had not replayed when it was checked last.",
    ["hosts"],
    multiprocess_mode="livemax",
)


class Unusable(Exception):
    """Must not be read from. `reason`: a label of the metric. The text continues: the standby …"""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Position:
    """A position in the WAL of the primary. `timeline`: PostgreSQL begins another one at each failover."""

    bytes: int
    timeline: int


class Standby:
    """The connections to the standby, and whether requests use them.

    `watch` decides that every 2 seconds: requests never wait for a standby that is known to be away.
    """

    def __init__(self, config: DatabaseConfig, primary: Pool) -> None:
        """`config`: with a read_dsn."""
        timeouts = {name: min(_ANSWER_SECONDS, getattr(config, name)) for name in ("pool_timeout", "connect_timeout")}
        self._config = msgspec.structs.replace(config, dsn=config.read_dsn, **timeouts)
        self._primary = primary
        self._identity: tuple[int, int] | None = None  # of the primary
        self._asking = asyncio.Lock()
        self._question: asyncio.Task[Position | None] | None = None
        self.usable, self._logged = False, ""
        hosts = str(conninfo_to_dict(config.read_dsn).get("host", ""))
        self._up, self._lag = _UP.labels(hosts), _LAG.labels(hosts)

    async def open(self) -> None:
        """Opens no connection yet."""
        one = msgspec.structs.replace(self._config, pool_size=1)
        self._pool = await open_pool(self._config, self._admit, target_session_attrs="standby")
        # Of its own: otherwise a standby whose connections are all in use would look as if it did not answer.
        self._probe = await open_pool(one, self._admit, target_session_attrs="standby")

    async def close(self, seconds: float) -> None:
        """Closes all connections, see Pool.close."""
        await asyncio.gather(self._pool.close(seconds), self._probe.close(seconds))

    def reads(self) -> "StandbyReads":
        """Where one request reads from."""
        return StandbyReads(self if self.usable else None, self._primary)

    async def position(self) -> Position | None:
        """A position that the primary has reached after this call; None when the primary does not answer.

        Concurrent calls share a question. Those that come while one is being answered share the next one.
        """
        if self._question is None:
            self._question = asyncio.create_task(self._ask())
        return await asyncio.shield(self._question)  # cancelling one caller must not cancel the shared question

    @asynccontextmanager
    async def caught_up(self, position: Position, pool: Pool | None = None) -> AsyncIterator[Any]:
        """A connection to a standby that has replayed the position. Raises Unusable, and what Pool.acquire raises."""
        async with (pool or self._pool).acquire() as connection:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._wait_until_replayed(connection, position)
                yield connection
            except LOST:
                drop(connection)  # otherwise its release would wait for the standby
                raise

    def failed(self, error: Exception) -> str:
        """Stops using the standby, unless the next request may be luckier. The reason, for the metric."""
        reason = _reason(error)
        if isinstance(error, TimeoutError) and self._pool.in_use >= self._pool.size:
            reason = "busy"
        if reason != "busy":
            self.usable = False
        return reason

    async def watch(self) -> None:
        """Checks every 2 seconds whether the standby is usable."""
        while True:
            await self._check()
            await asyncio.sleep(_WATCH_SECONDS)

    async def _check(self) -> None:
        try:
            identity = tuple(await self._primary.fetchrow(SQL.standby.identity))
        except Exception as error:  # then all requests fail anyway, and report it
            LOG.debug("the primary did not report its identity: %r", error)
            return
        if identity != self._identity:
            self._identity = identity
            await self._renew()  # each new connection is compared with it
        if (position := await self.position()) is None:
            return
        try:
            async with self.caught_up(position, self._probe):
                pass
        except Exception as error:
            await self._stop(error)
        else:
            if not self.usable and self._logged:
                LOG.info("the standby is used again")
            self.usable, self._logged = True, ""
            self._up.set(1)

    async def _stop(self, error: Exception) -> None:
        self.usable = False
        self._up.set(0)
        reason = _reason(error)
        if self._logged != reason:
            LOG.warning("reads use the primary, because the standby %s", _text(error))
            self._logged = reason
        if reason != "behind":
            await self._renew()  # also ends the statements that wait for a standby that hangs

    async def _renew(self) -> None:
        old = self._pool, self._probe
        await self.open()
        for pool in old:
            pool.terminate()

    async def _ask(self) -> Position | None:
        async with self._asking:
            self._question = None  # the answer may be too old for calls from now on
            try:
                return Position(*await self._primary.fetchrow(SQL.standby.position))
            except Exception as error:
                LOG.debug("the primary did not report its position: %r", error)
                return None

    async def _admit(self, connection: Any) -> None:
        if tuple(await connection.fetchrow(SQL.standby.identity)) != self._identity:
            raise Unusable("refused", "has another database than the primary: correct [database] read_dsn")

    async def _wait_until_replayed(self, connection: Any, position: Position) -> None:
        for pause in _PAUSES:
            is_standby, replayed, timeline = await connection.fetchrow(SQL.standby.replayed)
            if not is_standby:
                raise Unusable("refused", _NO_STANDBY)
            if timeline != position.timeline:
                raise Unusable("refused", f"is on timeline {timeline}, and the primary on {position.timeline}")
            missing = max(0, position.bytes - replayed)
            self._lag.set(missing)
            if not missing:
                return
            await asyncio.sleep(pause)
        raise Unusable("behind", f"is {missing} bytes of WAL behind")


class StandbyReads:
    """Where one request reads from: the standby, and after its first failure the primary. See reads.py."""

    def __init__(self, standby: Standby | None, primary: Pool) -> None:
        self._standby, self._primary = standby, primary
        self._position: Position | None = None

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        """A connection that sees everything that was stored before the request."""
        async with AsyncExitStack() as stack:
            connection = await self._from_standby(stack)
            if connection is None:
                connection = await stack.enter_async_context(self._primary.acquire())
            _READS.labels("primary" if self._standby is None else "standby").inc()
            yield connection

    async def attempt(self, work: Callable[[], Awaitable[T]]) -> T:
        """`work()`, and when the standby fails, once more on the primary."""
        try:
            return await work()
        except _FAILURES as error:
            if self._standby is None:
                raise
            self._fall_back(_reason(error), error)
        return await work()

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        return list(await self._run("fetch", query, arguments))

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        return await self._run("fetchrow", query, arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        return await self._run("fetchval", query, arguments)

    async def _run(self, method: str, query: str, arguments: tuple[Any, ...]) -> Any:
        async def work() -> Any:
            async with self.acquire() as connection:
                return await getattr(connection, method)(query, *arguments)

        return await self.attempt(work)

    async def _from_standby(self, stack: AsyncExitStack) -> Any:
        """A connection to the standby; None when the primary must be used."""
        if self._standby is None:
            return None
        self._position = self._position or await self._standby.position()
        if self._position is None:
            self._fall_back("primary")
            return None
        try:
            return await stack.enter_async_context(self._standby.caught_up(self._position))
        except Exception as error:
            self._fall_back(self._standby.failed(error), error)
            return None

    def _fall_back(self, reason: str, error: Exception | None = None) -> None:
        LOG.debug("a request reads from the primary: %s, %r", reason, error)
        _FALLBACKS.labels(reason).inc()
        self._standby = None


def _text(error: Exception) -> str:
    """What is wrong with the standby, as of Unusable."""
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return _NO_STANDBY
    return str(error) if isinstance(error, Unusable) else f"does not answer: {error!r}"


def _reason(error: Exception) -> str:
    """The label of the metric for a failure of the standby."""
    if isinstance(error, Unusable):
        return error.reason
    if isinstance(error, Overloaded):
        return "busy"
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched | asyncpg.ReadOnlySQLTransactionError):
        return "refused"  # no host is a standby; or a route that is marked as reading has tried to write
    # When the replay ends the whole session, asyncpg reports that it is lost, with the conflict as the cause.
    return "conflict" if isinstance(error, _CONFLICTS) or isinstance(error.__cause__, _CONFLICTS) else "away"
