"""The way to PostgreSQL: named queries from sql/, the pool, transactions, and database errors as ours.

Knows no table: what the queries say is in sql/, what they feed is in api/.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import asyncpg
import orjson

from server.config import DatabaseConfig
from server.errors import (
    CaseNotFound,
    CheckpointsExist,
    Conflict,
    InProgress,
    Invalid,
    OutcomeUnknown,
    Problem,
    ReportError,
    StepsExist,
    SuiteRunNotFound,
    Unavailable,
)

_HERE = Path(__file__).parent
_CONSTRAINTS: dict[str, type[ReportError]] = {
    "unique_step_per_test": StepsExist,
    "unique_checkpoint_per_test": CheckpointsExist,
    "test_case_results_suite_run_id_fkey": SuiteRunNotFound,
    "test_case_exists": CaseNotFound,
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
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.QueryCanceledError,
    asyncpg.ObjectNotInPrerequisiteStateError,  # the database takes no connections
    asyncpg.InvalidCatalogNameError,  # it is away, for a restore
)


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


class Pool(Protocol):
    """What we use of asyncpg.Pool, which has no types of its own."""

    def acquire(self) -> Any: ...
    async def execute(self, query: str, *arguments: Any) -> str: ...
    async def fetch(self, query: str, *arguments: Any) -> list[Any]: ...
    async def fetchrow(self, query: str, *arguments: Any) -> Any: ...
    async def fetchval(self, query: str, *arguments: Any) -> Any: ...
    async def close(self) -> None: ...
    def terminate(self) -> None: ...


async def open_pool(config: DatabaseConfig) -> Pool:
    """A pool of at most `pool_size` connections; none is needed to start, so a late database is no failure."""

    async def keep_session(connection: Any) -> None:
        """asyncpg would send RESET ALL after every use; our sessions are never changed, only transactions."""

    async def take_json(connection: Any) -> None:
        """JSON stays JSON text on its way through: nobody here looks inside."""
        for name in ("json", "jsonb"):
            await connection.set_type_codec(name, schema="pg_catalog", encoder=str, decoder=orjson.Fragment)

    pool: Pool = await asyncpg.create_pool(
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
    return pool


@asynccontextmanager
async def transaction(pool: Pool, settle: Callable[[bool], None] | None = None) -> AsyncIterator[Any]:
    """A connection in a transaction: committed at the end, rolled back on an exception.

    `settle(True)` is called before COMMIT is sent: from then on the rows may be there, whatever happens to us;
    `settle(False)` when COMMIT is known to have failed. Raises OutcomeUnknown when the connection is lost meanwhile.
    """
    async with pool.acquire() as connection:
        current = connection.transaction()
        await current.start()
        try:
            yield connection
        except BaseException:
            with suppress(*_AWAY):
                await current.rollback()
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
        return Conflict()
    if isinstance(error, asyncpg.DataError):
        # Validation comes first and is stricter; what slips through is still the caller's value, not our crash.
        return Invalid(Problem("", "A value does not fit into the database."))
    if isinstance(error, _AWAY):
        return Unavailable()
    return None
