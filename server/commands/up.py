"""`reportd up`: a private PostgreSQL and the server in one folder, started and stopped together."""

import asyncio
import fcntl
import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from server.commands import first_access
from server.commands.first_access import write
from server.commands.serve import check_address, check_storage, log_size, run, stop_signals
from server.commands.settings import load
from server.config import Config
from server.database import migrate
from server.database.embedded import EmbeddedError, Postgres

LOG = logging.getLogger("reportd")

DEFAULT_DATA = Path(".reportd")
_WATCH_SECONDS = 1.0


class InUse(Exception):
    """Another `reportd up` runs on this folder."""


def settings(data: Path, config_file: Path | None, listening: dict[str, Any]) -> Config:
    """The configuration of `reportd up`. Raises ConfigError.

    Files are stored in `data` unless configured otherwise, the database always. One worker, because the task that
    restarts PostgreSQL runs in it.
    """
    return load(
        config_file,
        defaults={"artifacts": {"storage_path": str(data / "artifacts")}},
        overrides={"database": {"dsn": postgres(data).dsn(), "read_dsn": ""}, "server": {**listening, "workers": 1}},
    )


def postgres(data: Path, programs: str = "") -> Postgres:
    """The private PostgreSQL of a folder. Raises OSError when no folder can have this path."""
    try:
        return Postgres(data / "postgres", programs)
    except (OSError, RuntimeError) as error:  # RuntimeError: symlinks that point to each other, before Python 3.13
        raise _unusable(data, error) from None


def _unusable(data: Path, error: OSError | RuntimeError) -> OSError:
    reason = error.strerror if isinstance(error, OSError) else "its symlinks point to each other"
    return OSError(f"Cannot use the folder {data}: {reason}. Choose another one with --data.")


def running_here() -> Path | None:
    """`.reportd` in the current directory when a `reportd up` runs on it; else None. Raises EmbeddedError."""
    data = DEFAULT_DATA.absolute()
    return data if _runs(data) else None


def _runs(data: Path) -> bool:
    return postgres(data).data.exists() and postgres(data).running()


def server_here() -> tuple[str, str | None] | None:
    """server_of() the `.reportd` in this directory."""
    return server_of(DEFAULT_DATA.absolute())


def server_of(data: Path) -> tuple[str, str | None] | None:
    """URL and admin token of the `reportd up` that serves on a folder; the token is None if its file was removed.

    None when no `reportd up` runs on it, or while it is starting or stopping.
    """
    if not _runs(data):
        return None
    token = data / first_access.TOKEN
    try:
        url = str(json.loads((data / "server.json").read_text("utf-8"))["url"])
        return url, token.read_text("ascii").strip() if token.exists() else None
    except (OSError, ValueError, KeyError):
        return None


def up(data: Path, config: Config, filling: Sequence[str] = ()) -> None:
    """Run until SIGINT, SIGTERM or SIGHUP. Raises InUse, EmbeddedError, OSError.

    `filling` is a command to run once the server is ready.
    """
    # Until the server installs its handlers, these raise SystemExit: the `finally` below then stops PostgreSQL.
    stops = stop_signals()
    for number in stops - {signal.SIGINT}:
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(data, error) from None
    with locked(data):
        announced = data / "server.json"
        announced.unlink(missing_ok=True)  # left by a killed process
        # Before PostgreSQL is made, which takes seconds.
        check_address(config.server)
        check_storage(config)
        database = postgres(data, config.database.programs)
        try:
            LOG.info("starting PostgreSQL in %s", database.folder)
            database.start()
            migrate.apply(database.dsn(), finish=True)
            password = asyncio.run(first_access.ensure(data, database.dsn()))
            log_size(config)
            ready, cores = asyncio.Event(), os.sched_getaffinity(0)  # before the server pins itself to one core

            def announce(url: str) -> None:
                _announce(data, url, password)
                ready.set()

            companions = [lambda: _watch(database)]
            if filling:
                companions.append(lambda: _fill(ready, filling, cores))
            asyncio.run(run(config, announce, *companions))
        finally:
            for number in stops:
                signal.signal(number, signal.SIG_IGN)  # a second signal must not leave PostgreSQL running
            announced.unlink(missing_ok=True)
            database.stop()


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Lock the folder for this process; the kernel releases the lock when the process ends, even if it is killed."""
    try:
        descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _unusable(data, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        holder = _holder(data)
        raise InUse(f"{data} is in use by {holder}. Stop that process, or choose another folder with --data.") from None
    try:
        yield
    finally:
        os.close(descriptor)


def _holder(data: Path) -> str:
    try:
        other = json.loads((data / "server.json").read_text("utf-8"))
        return f"process {other['pid']} at {other['url']}"
    except (OSError, ValueError, KeyError):
        return "a `reportd up` that is starting or stopping"


def _announce(data: Path, url: str, password: str | None) -> None:
    """Say where the server is. `password`: the one that was made for `admin` just now; it is shown only this once."""
    write(data / "server.json", json.dumps({"url": url, "pid": os.getpid()}, separators=(",", ":")) + "\n")
    token, stored = data / first_access.TOKEN, data / first_access.PASSWORD
    print(f"reportd is ready at {url}  (API: {url}/docs)")
    if password is not None:
        print(f"\nOpen {url} in a browser and sign in:\n\n  name      admin\n  password  {password}\n")
        print(f"The password is also in {stored}.")
    elif stored.exists():
        print(f"Open {url} in a browser and sign in as admin. The password is in {stored}.")
    if token.exists():
        print(f"The admin token is in {token}. Try:\n")
        print(
            f'  curl -sS -H "Authorization: Bearer $(cat {shlex.quote(str(token))})" {url}/api/v1/reports/suite-runs\n'
        )
    else:
        print(f"Create a token with: reportd token create --data {shlex.quote(str(data))} --name NAME\n")
    print("Ctrl-C stops it.", flush=True)


async def _fill(ready: asyncio.Event, command: Sequence[str], cores: set[int]) -> None:
    """Run a command beside the server, on any of `cores`; its failure is no reason to stop. Ends it with the server."""
    await ready.wait()
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    try:
        with suppress(ProcessLookupError):  # it has ended already
            os.sched_setaffinity(process.pid, cores)
        await process.wait()
        await asyncio.Event().wait()  # the server would stop if this returned
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _watch(database: Postgres) -> None:
    """Restart PostgreSQL when it has ended. Raises EmbeddedError when its data folder has disappeared."""
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        if not database.data.exists():
            # start() would make an empty database, which hides the real one when the disk is only unmounted.
            raise EmbeddedError(f"{database.data} has disappeared. Mount its disk or restore it, then start again.")
        if not await asyncio.to_thread(database.running):
            LOG.error("PostgreSQL has ended; restarting it")
            try:
                await asyncio.to_thread(database.start)
            except EmbeddedError as error:
                LOG.error("cannot restart PostgreSQL: %s", error)
