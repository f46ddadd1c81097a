"""`reportd up`: a private PostgreSQL and the server in one folder, started and stopped together."""

import asyncio
import fcntl
import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from server.auth.tokens import hash_of, is_token, new_token
from server.commands.serve import log_size, run
from server.commands.settings import load
from server.config import Config
from server.database import migrate
from server.database.embedded import EmbeddedError, Postgres
from server.database.queries import SQL
from server.ids import new_id
from server.observe.audit import Action, Subject, operator, record

LOG = logging.getLogger("reportd")

_WATCH_SECONDS = 1.0


class InUse(Exception):
    """Another `reportd up` runs on this folder."""


def settings(data: Path, config_file: Path | None, listening: dict[str, Any]) -> Config:
    """The configuration of `up`: storage lies in its own folder unless told otherwise, the database always; one
    worker, because what watches the database runs in it."""
    return load(
        config_file,
        defaults={"artifacts": {"storage_path": str(data / "artifacts")}},
        overrides={"database": {"dsn": postgres(data).dsn()}, "server": {**listening, "workers": 1}},
    )


def postgres(data: Path, programs: str = "") -> Postgres:
    """The private PostgreSQL of a folder."""
    return Postgres(data / "postgres", programs)


def up(data: Path, config: Config) -> None:
    """Runs until SIGINT or SIGTERM. Raises InUse, EmbeddedError, OSError."""
    # Also while PostgreSQL starts, a SIGTERM must end it: as an exception it passes through every `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    data.mkdir(parents=True, exist_ok=True)
    with _claimed(data):
        announced = data / "server.json"
        announced.unlink(missing_ok=True)  # of a process that was killed
        database = postgres(data, config.database.programs)
        try:
            LOG.info("starting PostgreSQL in %s", database.folder)
            database.start()
            migrate.apply(database.dsn(), finish=True)
            asyncio.run(_ensure_token(data, database.dsn()))
            log_size(config)
            asyncio.run(run(config, lambda url: _announce(data, url), lambda: _watch(database)))
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # a second one must not leave PostgreSQL running
            announced.unlink(missing_ok=True)
            database.stop()


@contextmanager
def _claimed(data: Path) -> Iterator[None]:
    """Holds the folder for this process; the kernel lets go of it when the process ends, however it ends."""
    descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InUse(f"{data} is in use{_by_whom(data)}. Stop that one, or choose another --data folder.") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _by_whom(data: Path) -> str:
    try:
        other = json.loads((data / "server.json").read_text("utf-8"))
        return f" by process {other['pid']} at {other['url']}"
    except (OSError, ValueError, KeyError):
        return " by a reportd that is starting or stopping"


def replace_token(data: Path, former_hash: bytes, token: str) -> None:
    """Puts a rotated token's new secret into the file of the first start's token, if that is the one it holds."""
    path = data / "admin-token"
    if path.exists() and hash_of(path.read_text("ascii").strip()) == former_hash:
        _write(path, token + "\n")


async def _ensure_token(data: Path, dsn: str) -> None:
    """The first start's token: in its file first, then in the database, so that a crash between is healed."""
    path = data / "admin-token"
    connection = await asyncpg.connect(dsn)
    try:
        tokens = await connection.fetch(SQL.tokens.all)
        if not path.exists() and tokens:
            return  # moved away on purpose, or lost: `reportd token create --data` makes another
        if not path.exists():
            _write(path, new_token() + "\n")
        token = path.read_text("ascii").strip()
        if not is_token(token):
            raise EmbeddedError(f"{path} holds no token. Remove it, and make one with `reportd token create --data`.")
        if not await connection.fetchval(SQL.tokens.known, hash_of(token)):
            name = "admin" if "admin" not in {row["name"] for row in tokens} else f"admin-{os.urandom(3).hex()}"
            token_id = new_id(0)
            async with connection.transaction():
                await connection.execute(SQL.tokens.create, token_id, name, hash_of(token), "admin", None, None, None)
                subject = Subject("token", token_id, name)
                await record(connection, Action.TOKEN_CREATED, operator(), subject, role="admin", expires_at=None)
    finally:
        await connection.close()


def _announce(data: Path, url: str) -> None:
    _write(data / "server.json", json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    token = data / "admin-token"
    print(f"reportd is ready at {url}  (API: {url}/docs)")
    if token.exists():
        print(f"The admin token is in {token}. Try:\n")
        print(
            f'  curl -sS -H "Authorization: Bearer $(cat {shlex.quote(str(token))})" {url}/api/v1/reports/suite-runs\n'
        )
    else:
        print(f"Make a token with: reportd token create --data {shlex.quote(str(data))} --name NAME\n")
    print("Ctrl-C stops it.", flush=True)


def _write(path: Path, text: str) -> None:
    """A whole file or none, readable by its owner alone."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)


async def _watch(database: Postgres) -> None:
    """Starts PostgreSQL again when something has ended it."""
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        if not database.data.exists():
            # A disk that is unmounted for a moment must not leave an empty database in its place.
            raise EmbeddedError(f"{database.data} has gone. Bring it back, then start again.")
        if not await asyncio.to_thread(database.running):
            LOG.error("PostgreSQL has ended; starting it again")
            try:
                await asyncio.to_thread(database.start)
            except EmbeddedError as error:
                LOG.error("PostgreSQL does not start: %s", error)
