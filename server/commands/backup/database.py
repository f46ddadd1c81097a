"""The database's part of backup and restore: connections, the dump, and its way back in one transaction. Blocking."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import namedtuple_row

from server.commands.backup.layout import Part, create
from server.commands.console import Refused, unreachable
from server.config import masked_dsn
from server.database.clients import Clients, environment
from server.database.queries import SQL

Connection = psycopg.Connection[Any]

_CHUNK = 1 << 20
_CONNECT_SECONDS = 10
_LOCK_SECONDS = 60
_SINCE_17 = 170000
# pg_restore writes this line at the head of every dump that a newer pg_dump made of an older server, which refuses it.
_ONLY_17 = b"SET transaction_timeout = 0;\n"
_UNLIMITED = ("statement_timeout", "idle_in_transaction_session_timeout")


@contextmanager
def connected(dsn: str, snapshot: bool = False) -> Iterator[Connection]:
    """A connection in a transaction without time limits, which is rolled back at the end.

    `snapshot`: all its queries read the same rows. Raises Refused when no database answers.
    """
    given = conninfo_to_dict(dsn)
    seconds = given.get("connect_timeout", _CONNECT_SECONDS)
    try:
        # A standby may lag, and its locks are not those of the servers.
        chosen = make_conninfo(dsn, connect_timeout=seconds, keepalives_idle=60, target_session_attrs="primary")
        connection = psycopg.connect(chosen, row_factory=namedtuple_row, application_name="reportd backup")
    except psycopg.OperationalError as error:
        if error.sqlstate is not None:
            raise
        raise unreachable(dsn, str(error).partition("\n")[0]) from None
    try:
        if snapshot:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        for name in (*_UNLIMITED, *(["transaction_timeout"] if connection.info.server_version >= _SINCE_17 else [])):
            connection.execute(f"SET LOCAL {name} = 0")
        connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
        yield connection
    finally:
        with suppress(psycopg.Error):  # it is lost
            connection.rollback()  # waits until its locks are free; the server ends a closed connection a little later
        connection.close()


def one(connection: Connection, query: str) -> Any:
    """The row of a query. Raises Refused when a pooler is between this and the server.

    pg_dump changes settings of its session, which a pooler would hand to the next client. And the snapshot, the lock
    and the dump must be of the same server.
    """
    (row,) = connection.execute(query).fetchall()
    if row.backend != connection.info.backend_pid:
        raise Refused(
            f"{masked_dsn(connection.info.dsn)} is a connection pooler. Name the PostgreSQL server itself for this "
            "command, with REPORTD_DATABASE_DSN."
        )
    return row


def dump(dsn: str, reader: Connection, snapshot: str, programs: Clients, path: Path) -> Part:
    """Write the rows of a snapshot as pg_dump's custom format, durably. Raises Refused, OSError."""
    options = ["--format=custom", "--no-password", f"--snapshot={snapshot}", f"--lock-wait-timeout={_LOCK_SECONDS}s"]
    digest, size = hashlib.sha256(), 0
    with create(path) as file, _running(programs, "pg_dump", options, environment(dsn, reader)) as process:
        while part := process.stdout.read(_CHUNK):
            digest.update(part)
            size += file.write(part)
        file.flush()
        os.fsync(file.fileno())
    return Part(size, digest.hexdigest())


def restore(dsn: str, target: Connection, programs: Clients, path: Path, replace: bool) -> None:
    """Bring a dump back, in one transaction: all of it or nothing. `replace`: drop everything before. Raises Refused.

    pg_restore writes SQL, and psql sends it: alone, pg_restore could not drop what is not in the dump.
    """
    before = [SQL.backup.drop_schema, SQL.backup.create_schema, SQL.backup.open_schema] if replace else []
    options = ["--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    with _running(programs, "psql", options, environment(dsn, target), stdin=subprocess.PIPE) as psql:
        try:
            quiet = "SET LOCAL client_min_messages = warning"  # else a notice for each table that is dropped
            psql.stdin.write("".join(f"{line};\n" for line in ["BEGIN", quiet, *before]).encode())
            as_sql = ["--file=-", "--no-owner", "--no-privileges", str(path)]
            with _running(programs, "pg_restore", as_sql, dict(os.environ, LC_ALL="C")) as reading:
                part = reading.stdout.read(_CHUNK)
                if target.info.server_version < _SINCE_17:
                    part = part.replace(_ONLY_17, b"", 1)
                while part:
                    psql.stdin.write(part)
                    part = reading.stdout.read(_CHUNK)
            psql.stdin.write(b"\nCOMMIT;\n")  # only now: without it, the end of the input rolls back
            psql.stdin.close()
        except BrokenPipeError:  # psql has ended with an error, which _running() raises
            _drop(psql.stdin)


@contextmanager
def _running(programs: Clients, program: str, options: list[str], env: dict[str, str], **streams: Any) -> Iterator[Any]:
    """A program with its output as a pipe. Raises Refused with its last words if it fails; kills it after an error."""
    with tempfile.TemporaryFile() as errors:
        line = programs.command(program, *options)
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=errors, env=env, **streams) as process:  # noqa: S603
            try:
                yield process
            except BaseException:
                process.kill()
                if process.stdin is not None:
                    _drop(process.stdin)
                raise
        if process.returncode:
            raise Refused(f"{program} of PostgreSQL {programs.major} failed: {_last_words(errors)}")


def _drop(stdin: IO[bytes]) -> None:
    """Close the input of a program that reads no more: what is buffered would raise the next BrokenPipeError."""
    with suppress(BrokenPipeError):
        stdin.close()


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - 2000))
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return " ".join(lines[-4:]) or "it said nothing."
