"""The database's schema: applies and rolls back migrations/ with yoyo, one process at a time."""

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import yoyo
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from server.database.queries import SQL, data_folder

LOG = logging.getLogger("reportd")

# The key of the advisory lock that a migrating process holds: `reportd` in ASCII.
_LOCK = 0x7265706F727464
_RETRY_SECONDS = 0.1
_LOCKED_SECONDS = 5.0  # between two attempts to change a table that is in use
_DROPS = re.compile(r"\d{4}_drop_")
_CONNECT_SECONDS = 10  # for each of the DSN's hosts


@cache
def versions() -> frozenset[str]:
    """The ids of all migrations of this release, cached."""
    paths = data_folder("migrations").glob("*.sql")
    return frozenset(path.stem for path in paths if not path.stem.endswith(".rollback"))


@cache
def needed_versions() -> frozenset[str]:
    """The ids of the migrations that this server cannot run without."""
    return frozenset(name for name in versions() if not waits(name))


async def applied(where: Any) -> set[str]:
    """The ids of the migrations that are applied to the database."""
    return {row["migration_id"] for row in await where.fetch(SQL.health.schema_versions)}


def waits(name: str) -> bool:
    """Whether a migration only drops objects that older servers use, so that it waits until none of them runs."""
    return _DROPS.match(name) is not None


def apply(dsn: str, finish: bool = False) -> list[str]:
    """Applies the missing migrations and returns their ids. Blocking. Raises psycopg.Error.

    Older servers keep working: migrations that only drop something are skipped, unless the database is new or `finish`
    is set (no older server runs any more). A migration with a lock_timeout is tried again while another transaction
    uses its table, as a backup does for hours: if it waited, all requests that use the table would wait behind it.
    """
    with _exclusive(dsn) as (backend, migrations):
        missing = backend.to_apply(migrations)
        if not finish and len(missing) < len(migrations):
            missing = missing.filter(lambda migration: not waits(migration.id))
        for migration in missing:
            _apply(backend, migration)
        return [migration.id for migration in missing]


def rollback(dsn: str, count: int) -> list[str]:
    """Rolls back the last `count` migrations and returns their ids, newest first. Blocking."""
    with _exclusive(dsn) as (backend, migrations):
        last = backend.to_rollback(migrations)[:count]
        backend.rollback_migrations(last)
        return [migration.id for migration in last]


def status(dsn: str) -> list[tuple[str, bool]]:
    """Every migration and whether it is applied, in order. Blocking."""
    with _exclusive(dsn) as (backend, migrations):
        missing = {migration.id for migration in backend.to_apply(migrations)}
        return [(migration.id, migration.id not in missing) for migration in migrations]


def _apply(backend: Any, migration: Any) -> None:
    logged = False
    while True:
        try:
            backend.apply_one(migration)
            return
        except psycopg.errors.LockNotAvailable as error:
            if not logged:
                reason = str(error).partition("\n")[0]
                LOG.warning("%s waits for a backup or another long transaction: %s", migration.id, reason)
                logged = True
        time.sleep(_LOCKED_SECONDS)


@contextmanager
def _exclusive(dsn: str) -> Iterator[tuple[Any, Any]]:
    """yoyo's backend and migrations, under an advisory lock that ends with its connection.

    yoyo's own lock is a row, which a killed process would leave behind forever. The advisory lock belongs to a
    transaction, not to a session: behind PgBouncer a session outlives its client. It is polled: a blocking wait would
    occupy a server connection, of which PgBouncer may have few.
    """
    # yoyo reads the user's name, which may be missing in a container.
    os.environ.setdefault("LOGNAME", str(os.getuid()))
    with psycopg.connect(_bounded(dsn)) as connection:
        while connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,)).fetchone() != (True,):
            connection.rollback()
            time.sleep(_RETRY_SECONDS)
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        if connection.info.server_version >= 170000:
            connection.execute("SET LOCAL transaction_timeout = 0")
        backend = yoyo.get_backend(_for_yoyo(dsn))
        backend.connection.prepare_threshold = None  # PgBouncer may run the next statement in another session
        try:
            backend.break_lock()
            yield backend, yoyo.read_migrations(str(data_folder("migrations")))
        finally:
            backend.connection.close()


def _bounded(dsn: str) -> str:
    """The DSN with a connect_timeout: by default, libpq waits forever for a server that accepts but never replies."""
    given = conninfo_to_dict(dsn)
    return make_conninfo(dsn, connect_timeout=given.get("connect_timeout", _CONNECT_SECONDS))


def _for_yoyo(dsn: str) -> str:
    """The DSN for yoyo, which can parse only one host: all parameters go into the query, which it passes on as is."""
    parts = conninfo_to_dict(_bounded(dsn))
    return f"postgresql+psycopg:///{quote(str(parts.pop('dbname', '')), safe='')}?{urlencode(parts)}"
