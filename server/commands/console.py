"""What the commands share: the database that is meant, what they print to, and durations."""

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

T = TypeVar("T")


class Refused(Exception):
    """What was asked for cannot be done; the text says why."""


class Database:
    """The DSN of the configuration, or of a folder of `up`, whose PostgreSQL is started for the while if need be."""

    def __init__(self, options: argparse.Namespace) -> None:
        database = settings.load(options.config).database
        self._dsn = database.dsn
        self._private = up.postgres(options.data.absolute(), database.programs) if options.data else None
        self._started = False

    def __enter__(self) -> str:
        if self._private is None:
            return self._dsn
        if not self._private.data.exists():
            raise Refused(f"{self._private.folder.parent} holds no database of `reportd up`.")
        self._started = not self._private.running()
        if self._started:
            self._private.start()
        return self._private.dsn()

    def __exit__(self, *_: object) -> None:
        if self._private is not None and self._started:
            self._private.stop()


@contextmanager
def interruptible() -> Iterator[None]:
    """Meanwhile SIGTERM does what Ctrl-C does: what was begun is cleaned up, and a PostgreSQL that was started for a
    command does not stay. Not by way of SIGINT, which a process that a shell has put into the background ignores."""
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
    """What `work(connection)` returns."""

    async def connected(dsn: str) -> T:
        # One statement or two: to prepare them gains nothing, and fails behind PgBouncer.
        connection = await asyncpg.connect(dsn, timeout=10, statement_cache_size=0)
        try:
            return await work(connection)
        finally:
            await connection.close()

    with Database(options) as dsn:
        return run(connected(dsn))


def in_transaction(options: argparse.Namespace, work: Callable[[Any], Awaitable[T]]) -> T:
    """The same in a transaction, committed when this returns: what is printed before may not have come to pass."""

    async def all_or_nothing(connection: Any) -> T:
        async with connection.transaction():
            return await work(connection)

    return with_database(options, all_or_nothing)


@contextmanager
def piped() -> Iterator[None]:
    """For what may be long: whoever reads it may have enough, and the interpreter would try to write the rest."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end_of(after: timedelta | None) -> datetime | None:
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
