"""Shared by the commands: the choice of the database, transactions, signals, output and argument types."""

import argparse
import asyncio
import os
import re
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import asyncpg

from server.commands import settings, up
from server.config import masked_dsn
from server.database.hosts import connector

T = TypeVar("T")


class Refused(Exception):
    """The command cannot be carried out; the message gives the reason and what to do."""


def use_running_server(options: argparse.Namespace) -> None:
    """Sets `--data` to `.reportd` when its server runs in this directory.

    Does nothing when `--data`, `--config` or REPORTD_DATABASE_DSN names a database. Without this, `reportd token
    create` beside a running `make up` would try to connect to port 5432.
    """
    named = options.data is not None or options.config is not None or "REPORTD_DATABASE_DSN" in os.environ
    if not named and (found := up.running_here()) is not None:
        options.data = found
        print(f"reportd: using the running server in {found} (choose another with --data or --config)", file=sys.stderr)


class Database:
    """Context manager: the DSN of the configuration, or of a folder of `reportd up`.

    Starts the private PostgreSQL of the folder if it is not running, and stops it at the end.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        use_running_server(options)
        database = settings.load(options.config).database
        self._dsn = database.dsn
        self._private = up.postgres(options.data.absolute(), database.programs) if options.data else None
        self._started = False

    def __enter__(self) -> str:
        if self._private is None:
            return self._dsn
        if not self._private.data.exists():
            raise Refused(f"{self._private.folder.parent} holds no database of `reportd up`. Correct --data.")
        self._started = not self._private.running()
        if self._started:
            self._private.start()
        return self._private.dsn()

    def __exit__(self, *_: object) -> None:
        if self._private is not None and self._started:
            self._private.stop()


@contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt, so that it cleans up like Ctrl-C.

    Without this, a PostgreSQL that was started for the command would keep running. SIGTERM is not mapped to SIGINT,
    because a shell makes background processes ignore SIGINT.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def run(work: Coroutine[Any, Any, T]) -> T:
    """asyncio.run; raises KeyboardInterrupt when SIGTERM has cancelled it."""

    async def cancellable() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        if task is None or threading.current_thread() is not threading.main_thread():
            return await work
        former = signal.getsignal(signal.SIGTERM)
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            return await work
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, former)

    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def with_database(options: argparse.Namespace, work: Callable[[Any], Awaitable[T]]) -> T:
    """Run `work(connection)` and return its result."""

    async def connected(dsn: str) -> T:
        connection = await connect(dsn, timeout=10)
        try:
            return await work(connection)
        finally:
            await connection.close()

    with Database(options) as dsn:
        return run(connected(dsn))


async def connect(dsn: str, **settings: Any) -> Any:
    """A connection for a command; `settings` are those of asyncpg.connect. Raises Refused when no database answers."""
    try:
        # Few statements: preparing them gains nothing, and fails behind PgBouncer.
        return await connector(dsn)(dsn, statement_cache_size=0, **settings)
    except (OSError, TimeoutError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else ""
        raise unreachable(dsn, reason or "timeout") from error
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise unreachable(
            dsn, "none of its hosts is what target_session_attrs asks for: is there a primary?"
        ) from error


def unreachable(dsn: str, reason: str) -> Refused:
    return Refused(
        f"No database answers at {masked_dsn(dsn)} ({reason}). Start `reportd up` in this directory, "
        "or name the database with --data, --config or REPORTD_DATABASE_DSN."
    )


def in_transaction(options: argparse.Namespace, work: Callable[[Any], Awaitable[T]]) -> T:
    """Like with_database, in a transaction that is committed when this returns. Print results only afterwards."""

    async def all_or_nothing(connection: Any) -> T:
        async with connection.transaction():
            return await work(connection)

    return with_database(options, all_or_nothing)


@contextmanager
def piped() -> Iterator[None]:
    """For long output to a pipe, such as `| head`: ignore that the reader has closed it.

    Otherwise the interpreter would fail again at exit, when it writes the rest.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def expiry(after: timedelta | None) -> datetime | None:
    return None if after is None else datetime.now(UTC) + after


def minute(time: datetime | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M") if time else "never"


def duration(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,5})([hdw])", text)
    if not match or match[1].strip("0") == "":
        raise argparse.ArgumentTypeError("must be like 12h, 90d or 52w")
    return timedelta(**{{"h": "hours", "d": "days", "w": "weeks"}[match[2]]: int(match[1])})


def short_name(text: str) -> str:
    if not 1 <= len(text) <= 100 or not text.isprintable():
        raise argparse.ArgumentTypeError("must be 1 to 100 printable characters")
    return text
