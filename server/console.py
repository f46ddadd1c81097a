"""What the commands share: the database that is meant, what they print to, and durations."""

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import asyncpg

from server import config, up
from server.db import load_sql

T = TypeVar("T")


class Refused(Exception):
    """What was asked for cannot be done; the text says why."""


class Database:
    """The DSN of the configuration, or of a folder of `up`, whose PostgreSQL is started for the while if need be."""

    def __init__(self, options: argparse.Namespace) -> None:
        database = config.load(options.config).database
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


def with_database(options: argparse.Namespace, work: Callable[[Any, Any], Awaitable[T]]) -> T:
    """What `work(connection, sql)` returns."""

    async def connected(dsn: str) -> T:
        # One statement or two: to prepare them gains nothing, and fails behind PgBouncer.
        connection = await asyncpg.connect(dsn, timeout=10, statement_cache_size=0)
        try:
            return await work(connection, load_sql())
        finally:
            await connection.close()

    with Database(options) as dsn:
        return asyncio.run(connected(dsn))


def in_transaction(options: argparse.Namespace, work: Callable[[Any, Any], Awaitable[T]]) -> T:
    """The same in a transaction, committed when this returns: what is printed before may not have come to pass."""

    async def all_or_nothing(connection: Any, sql: Any) -> T:
        async with connection.transaction():
            return await work(connection, sql)

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
