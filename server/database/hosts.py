"""Connects to whichever host of a DSN takes part in the work at the moment."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import psycopg
from psycopg.conninfo import conninfo_to_dict

from server.database.errors import UNAVAILABLE

# After this many seconds without an answer the next host is tried, too.
_HEAD_START = 0.25


def connector(dsn: str) -> Callable[..., Awaitable[Any]]:
    """What the pool calls for a new connection: asyncpg.connect, with a timeout for each host of the DSN.

    asyncpg tries one host after the other within a single timeout. A machine without power does not refuse connections
    but is silent: when it is the first host, asyncpg would never get to the second.
    """
    hosts = hosts_of(dsn)
    if len(hosts) < 2:
        return asyncpg.connect  # type: ignore[no-any-return]
    last = 0  # the host of the newest connection is tried first

    async def connect(*arguments: Any, **options: Any) -> Any:
        nonlocal last
        waiting = [(last + number) % len(hosts) for number in range(len(hosts))]
        attempts: dict[asyncio.Task[Any], int] = {}
        failure: BaseException | None = None
        try:
            while waiting or attempts:
                if waiting:
                    host, port = hosts[waiting[0]]
                    attempt = asyncpg.connect(*arguments, host=host, port=port, **options)
                    attempts[asyncio.ensure_future(attempt)] = waiting.pop(0)
                pause = _HEAD_START if waiting else None
                done, _ = await asyncio.wait(attempts, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    number = attempts.pop(task)
                    try:
                        connection = task.result()
                    except UNAVAILABLE as error:
                        failure = error
                    else:
                        last = number
                        return connection
        finally:
            for task in attempts:
                task.cancel()
                task.add_done_callback(_drop)
        raise failure or AssertionError("no host")

    return connect


def hosts_of(dsn: str) -> list[tuple[str, int]]:
    """The hosts (or folders of Unix sockets) and ports that a DSN names; none for one that only asyncpg can read."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return []
    hosts = str(given.get("host", "")).split(",")
    ports = str(given.get("port", "")).split(",")
    ports = ports if len(ports) > 1 else ports * len(hosts)
    return [(host, int(port or 5432)) for host, port in zip(hosts, ports, strict=True)]


def _drop(attempt: asyncio.Task[Any]) -> None:
    """Closes a connection that was opened although another one had been chosen."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().terminate()
