"""The way to PostgreSQL: named queries from sql/, the pool, transactions, and database errors as ours.

Knows no table: what the queries say is in sql/, what they feed is in api/.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import orjson

from server.config import DatabaseConfig
from server.errors import (
    ArtifactNotFound,
    CaseNotFound,
    CheckpointsExist,
    InProgress,
    Invalid,
    OutcomeUnknown,
    Overloaded,
    Problem,
    ReportError,
    StepsExist,
    StorageFull,
    SuiteRunNotFound,
    TryAgain,
    Unavailable,
)

_HERE = Path(__file__).parent
_CONSTRAINTS: dict[str, type[ReportError]] = {
    "unique_step_per_test": StepsExist,
    "unique_checkpoint_per_test": CheckpointsExist,
    "test_case_results_suite_run_id_fkey": SuiteRunNotFound,
    "test_case_exists": CaseNotFound,
    "evidence_links_suite_run_id_fkey": SuiteRunNotFound,
    "evidence_links_test_case_result_id_fkey": CaseNotFound,
    "evidence_links_artifact_id_fkey": ArtifactNotFound,
}
# Nobody told us how a statement ended; asyncpg raises Interface- and InternalClientError in failovers.
_LOST = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,  # it may come after the commit, while that waits for a standby
    asyncpg.CrashShutdownError,
)
# The database or the way to it is gone for now.
_AWAY = (
    *_LOST,
    asyncpg.OperatorInterventionError,  # 57…: it shuts down, starts, or has ended a statement
    asyncpg.InsufficientResourcesError,  # 53…: no connection is free, or no memory
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # the database takes no connections
    asyncpg.InvalidCatalogNameError,  # it is away, for a restore
)
# A statement of a transaction that has failed gets this long to be undone, then its connection is dropped.
_ROLLBACK_SECONDS = 2.0
# Requests that may wait for a connection, for each that there is: some hundred milliseconds of work.
_QUEUE_FOR_EACH = 25


def data_folder(name: str) -> Path:
    """`sql` or `migrations`: inside the installed package, or beside it in a checkout."""
    inside = _HERE / name
    return inside if inside.is_dir() else _HERE.parent / name


def load_sql(folder: Path | None = None) -> SimpleNamespace:
    """Every `-- name: x` block of every file, as text: `sql.steps.for_case`.

    Raises ValueError for text before the first name or a name used twice.
    """
    sql = SimpleNamespace()
    for path in sorted((folder or data_folder("sql")).glob("*.sql")):
        preamble, *parts = re.split(r"^-- name: (\w+)\s*$", path.read_text("utf-8"), flags=re.MULTILINE)
        names, texts = parts[::2], [text.strip() for text in parts[1::2]]
        if re.search(r"^(?!--)\S", preamble, flags=re.MULTILINE) or len(set(names)) != len(names):
            raise ValueError(f"{path.name}: text before the first name, or a name used twice")
        setattr(sql, path.stem, SimpleNamespace(**dict(zip(names, texts, strict=True))))
    return sql


class Pool:
    """asyncpg's pool with every wait bounded: for a connection, and for a place in the queue for one.

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
        # Who waits for the disk holds a connection meanwhile: a disk that stalls must leave some to all others.
        self._file_lane = asyncio.Semaphore(max(1, self.size - max(1, self.size // 4)))
        self._files_waiting = 0
        # Uses of an evidence link wait for each other, and for the end of a deletion of what it shows. Few, so that
        # the two lanes together leave one, too.
        self._link_lane = asyncio.Semaphore(max(1, self.size // 8))
        self._links_waiting = 0

    @property
    def open(self) -> int:
        """The connections that there are."""
        return int(self._pool.get_size())

    @property
    def waiting(self) -> int:
        """The requests that wait for one."""
        return self._queued + self._files_waiting + self._links_waiting

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
        """A connection for a transaction that waits for the disk: some always remain for what does not.

        How many may wait is bounded by `max_uploads`: what has come whole is not refused for others that came, too.
        """
        self._files_waiting += 1
        try:
            await self._enter(self._file_lane)
        finally:
            self._files_waiting -= 1
        try:
            async with self.acquire() as connection:
                yield connection
        finally:
            self._file_lane.release()

    @asynccontextmanager
    async def acquire_for_links(self) -> AsyncIterator[Any]:
        """A connection to count a use of an evidence link: whoever has one holds few, however often it is used."""
        if self._links_waiting >= self._most_waiting:
            self.refused += 1
            raise Overloaded()
        self._links_waiting += 1
        try:
            await self._enter(self._link_lane)
        finally:
            self._links_waiting -= 1
        try:
            async with self.acquire() as connection:
                yield connection
        finally:
            self._link_lane.release()

    async def _enter(self, lane: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await lane.acquire()
        except TimeoutError:
            self.refused += 1
            raise Overloaded() from None

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
        """To be told of an error that ended a request. A server that was demoted refuses writes, and keeps its
        connections: without this, nothing would look for the new primary."""
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            await self._pool.expire_connections()

    async def close(self, seconds: float) -> None:
        """Returns when every connection is closed; those still in use after `seconds` are cut."""
        with suppress(asyncio.TimeoutError):
            async with asyncio.timeout(seconds):
                await self._pool.close()
        self._pool.terminate()


async def open_pool(config: DatabaseConfig) -> Pool:
    """A pool of at most `pool_size` connections; none is needed to start, so a late database is no failure."""

    async def keep_session(connection: Any) -> None:
        """asyncpg would send RESET ALL after every use; our sessions are never changed, only transactions."""

    async def take_json(connection: Any) -> None:
        """JSON stays JSON text on its way through: nobody here looks inside."""
        for name in ("json", "jsonb"):
            await connection.set_type_codec(name, schema="pg_catalog", encoder=str, decoder=orjson.Fragment)

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
        init=take_json,
        server_settings={"application_name": "reportd", "timezone": "UTC"},
    )
    return Pool(pool, config)


@asynccontextmanager
async def transaction(
    pool: Pool, settle: Callable[[bool], None] | None = None, for_files: bool = False
) -> AsyncIterator[Any]:
    """A connection in a transaction: committed at the end, rolled back on an exception.

    `settle(True)` is called before COMMIT is sent: from then on the rows may be there, whatever happens to us;
    `settle(False)` when COMMIT is known to have failed. Raises OutcomeUnknown when the connection is lost meanwhile.
    `for_files` says that the disk is waited for in between, see Pool.
    """
    async with pool.acquire_for_files() if for_files else pool.acquire() as connection:
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
        except _AWAY as error:
            raise OutcomeUnknown() from error
        except asyncpg.PostgresError:
            settle(False)
            raise


async def _undo(connection: Any, current: Any) -> None:
    """Rolls back; where the database does not answer, dropping the connection does it in the end."""
    try:
        async with asyncio.timeout(_ROLLBACK_SECONDS):
            await current.rollback()
    except _AWAY:
        connection.terminate()


@asynccontextmanager
async def autocommit(pool: Pool) -> AsyncIterator[Any]:
    """A connection for one statement that is a transaction of its own, and saves two round trips by it.

    Raises OutcomeUnknown when the connection is lost while the statement runs: it may have been committed.
    """
    async with pool.acquire() as connection:
        try:
            yield connection
        except _LOST as error:
            raise OutcomeUnknown() from error


def as_report_error(error: Exception) -> ReportError | None:
    """What a client is told of a database error; None for what is our own mistake."""
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        known = _CONSTRAINTS.get(error.constraint_name or "")
        return known() if known else None
    if isinstance(error, asyncpg.LockNotAvailableError):
        return InProgress()
    if isinstance(error, asyncpg.DeadlockDetectedError | asyncpg.SerializationError):
        return TryAgain()
    if isinstance(error, asyncpg.DiskFullError):
        return StorageFull()
    if isinstance(error, asyncpg.DataError):
        # Validation comes first and is stricter; what slips through is still the caller's value, not our crash.
        return Invalid(Problem("", "A value does not fit into the database."))
    if isinstance(error, _AWAY):
        return Unavailable()
    return None
