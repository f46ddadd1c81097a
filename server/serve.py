"""Runs the server until it is told to stop: all of it when there is one process, else what each of them does."""

import asyncio
import errno
import os
import secrets
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any

import psycopg
from aiohttp import web

from server import migrate
from server.config import Config, ServerConfig
from server.context import ACTIVITY, LOG

Ready = Callable[[str], None]
# What a request gets that has outlived `shutdown_timeout`, to clean up after itself.
_LAST_SECONDS = 5.0
_BACKLOG = 1024
# A kernel without IPv6 has none of a name's IPv6 addresses.
_ABSENT = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


class OldSchema(Exception):
    """The database schema is older than this server: run `reportd migrate` first."""


def check_schema(config: Config) -> None:
    """Refuses an old schema. A database that is away is none: the server starts, and /readyz tells. Blocking."""
    try:
        missing = [name for name, applied in migrate.status(config.database.dsn) if not applied]
    except psycopg.OperationalError as error:
        LOG.warning("the database does not answer yet: %s", error)
        return
    if missing:
        raise OldSchema(f"{OldSchema.__doc__} Missing: {', '.join(missing)}")


def log_size(config: Config) -> None:
    """Tells how many connections PostgreSQL must allow."""
    workers, connections = config.server.workers, config.database.pool_size
    if workers == 1:
        LOG.info("1 worker, %d database connections", connections)
    else:
        LOG.info("%d workers, %d database connections each, %d in all", workers, connections, workers * connections)


def listen(config: ServerConfig) -> list[socket.socket]:
    """Listening sockets, one for each address that the host's name has. Raises OSError."""
    sockets: list[socket.socket] = []
    passed_over: OSError | None = None
    try:
        found = socket.getaddrinfo(config.host or None, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                sockets.append(socket.create_server(address, family=family, backlog=_BACKLOG))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                passed_over = error
        if not sockets and passed_over:
            raise passed_over
    except OSError as error:
        for opened in sockets:
            opened.close()
        raise OSError(f"Cannot listen on {config.host}, port {config.port}: {error}") from None
    return sockets


def keep_to_core(core: int | None) -> None:
    """Lets this process, from its main thread, run on one processor core: this one, or any of those it may use.

    The threads of a Python process take turns, and handing over to a thread on another core costs more than the second
    core gives: a quarter of the processor time of small uploads, a tenth of batches (bench/README.md).
    """
    # Any: the same one each time, like that of the process id, would be that of all containers of a host.
    os.sched_setaffinity(0, {secrets.choice(list(os.sched_getaffinity(0))) if core is None else core})


async def run(
    config: Config,
    ready: Ready,
    *companions: Callable[[], Coroutine[Any, Any, None]],
    sockets: Sequence[socket.socket] = (),
    core: int | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM, then finishes what is in progress within `shutdown_timeout`.

    `ready` is called with the address once requests are accepted; `companions` run beside the server, and end it
    when they end. Listens on `sockets` if there are any. With `[server] one_core_each` it keeps to `core`, or to any.
    Raises OSError when the address cannot be taken or the storage not be opened.
    """
    # Not before: prometheus_client looks for the other processes' folder once, when it is imported.
    from server.app import create_app

    if config.server.one_core_each:
        keep_to_core(core)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(
        create_app(config),
        access_log=None,
        handle_signals=False,
        shutdown_timeout=_LAST_SECONDS,
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        for listening in sockets or listen(config.server):
            await web.SockSite(runner, listening, backlog=_BACKLOG).start()
        ready(_url(runner.addresses[0]))
        tasks = [asyncio.create_task(companion()) for companion in companions]
        for task in tasks:
            task.add_done_callback(lambda _: stop.set())
        await stop.wait()
        # Requests in progress end first: a connection that aiohttp shuts down drops what still comes of its body.
        for site in list(runner.sites):
            await site.stop()
        await runner.app[ACTIVITY].drained(config.server.shutdown_timeout)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


def _url(address: tuple[str, int]) -> str:
    """Where this machine reaches the server; a wildcard address is answered on loopback."""
    host, port = address[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
