"""The database's schema: applies and rolls back migrations/ with yoyo, one process at a time."""

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

# Any number that is ours: whoever holds it is the one that migrates.
_LOCK = 0x7265706F727464
_RETRY_SECONDS = 0.1
_DROPS = re.compile(r"\d{4}_drop_")
_CONNECT_SECONDS = 10  # for each of the DSN's hosts


@cache
def versions() -> frozenset[str]:
    """All migrations of this version, read once."""
    paths = data_folder("migrations").glob("*.sql")
    return frozenset(path.stem for path in paths if not path.stem.endswith(".rollback"))


@cache
def needed_versions() -> frozenset[str]:
    """The migrations that this server cannot run without."""
    return frozenset(name for name in versions() if not waits(name))


async def applied(where: Any) -> set[str]:
    """The migrations that the database has had."""
    return {row["migration_id"] for row in await where.fetch(SQL.health.schema_versions)}


def waits(name: str) -> bool:
    """Whether a migration only drops what older servers still use: then it waits until none of them runs."""
    return _DROPS.match(name) is not None


def apply(dsn: str, finish: bool = False) -> list[str]:
    """Applies what is missing; the ids applied. Blocking. Raises psycopg.Error.

    An older server goes on working meanwhile: migrations that only drop something are left out, unless `finish` says
    that no older server runs, or the database is new.
    """
    with _exclusive(dsn) as (backend, migrations):
        missing = backend.to_apply(migrations)
        if not finish and len(missing) < len(migrations):
            missing = missing.filter(lambda migration: not waits(migration.id))
        backend.apply_migrations(missing)
        return [migration.id for migration in missing]


def rollback(dsn: str, count: int) -> list[str]:
    """Takes back the last `count` migrations; their ids, newest first. Blocking."""
    with _exclusive(dsn) as (backend, migrations):
        last = backend.to_rollback(migrations)[:count]
        backend.rollback_migrations(last)
        return [migration.id for migration in last]


def status(dsn: str) -> list[tuple[str, bool]]:
    """Every migration and whether it is applied, in order. Blocking."""
    with _exclusive(dsn) as (backend, migrations):
        missing = {migration.id for migration in backend.to_apply(migrations)}
        return [(migration.id, migration.id not in missing) for migration in migrations]


@contextmanager
def _exclusive(dsn: str) -> Iterator[tuple[Any, Any]]:
    """yoyo's backend and migrations under a lock that dies with its connection: yoyo's own is a row, which a
    killed process would leave behind for good.

    The lock is a transaction's and not a session's: behind PgBouncer, a session outlives who had it. And it is asked
    for again and again: whoever waits in the database keeps a connection there, which PgBouncer may have few of.
    """
    os.environ.setdefault(
        "LOGNAME", str(os.getuid())
    )  # yoyo asks for the user's name; in a container there may be none
    with psycopg.connect(_bounded(dsn)) as connection:
        while connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,)).fetchone() != (True,):
            connection.rollback()
            time.sleep(_RETRY_SECONDS)
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        if connection.info.server_version >= 170000:
            connection.execute("SET LOCAL transaction_timeout = 0")
        backend = yoyo.get_backend(_for_yoyo(dsn))
        backend.connection.prepare_threshold = None  # behind PgBouncer, the next statement may meet another session
        try:
            backend.break_lock()
            yield backend, yoyo.read_migrations(str(data_folder("migrations")))
        finally:
            backend.connection.close()


def _bounded(dsn: str) -> str:
    """libpq waits for ever for a server that takes a connection and says nothing, unless the DSN says otherwise."""
    given = conninfo_to_dict(dsn)
    return make_conninfo(dsn, connect_timeout=given.get("connect_timeout", _CONNECT_SECONDS))


def _for_yoyo(dsn: str) -> str:
    """yoyo takes addresses apart as if there were one host: everything goes where it passes values on as they are."""
    parts = conninfo_to_dict(_bounded(dsn))
    return f"postgresql+psycopg:///{quote(str(parts.pop('dbname', '')), safe='')}?{urlencode(parts)}"
