"""Runs the server until it is told to stop: all of it when there is one process, else what each of them does."""

import asyncio
import errno
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any

import psycopg
from aiohttp import web

from server.commands.systemd import Service
from server.config import Config, ServerConfig
from server.database import migrate
from server.limits import Admission

LOG = logging.getLogger("reportd")

Ready = Callable[[str], None]
# What a request gets that has outlived `shutdown_timeout`, to clean up after itself.
_LAST_SECONDS = 5.0
# What a stop needs beyond `shutdown_timeout` at most: those seconds, twice, and the end of threads and connections.
CLEANUP_SECONDS = 30.0
# How long a server that stops waits for requests on connections that have none.
_LINGER_SECONDS = 1.0
_LINGER_STEP_SECONDS = 0.02
# From the bytes of a request to its handler.
_TURNS = 4
_BACKLOG = 4096  # what Linux allows; systemd's socket has it too, so that a restart may take a while
# A kernel without IPv6 has none of a name's IPv6 addresses.
_ABSENT = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


class OldSchema(Exception):
    """The database schema is older than this server: run `reportd migrate` first."""


def check_schema(config: Config) -> None:
    """Refuses an old schema. A database that is away is none: the server starts, and /readyz tells. Blocking."""
    try:
        status = migrate.status(config.database.dsn)
        missing = [name for name, applied in status if not applied and not migrate.waits(name)]
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


def listen(config: ServerConfig, service: Service) -> list[socket.socket]:
    """The listening sockets of systemd, else one for each address that the host's name has. Raises OSError."""
    if service.sockets:
        where = ", ".join(url(sock.getsockname()) for sock in service.sockets)
        LOG.info("listening where systemd says: %s; [server] host and port are not used", where)
        return service.sockets
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
    service: Service | None = None,
) -> None:
    """Serves until SIGINT or SIGTERM, then finishes what is in progress within `shutdown_timeout`.

    `ready` is called with the address once requests are accepted; `companions` run beside the server, and end it
    when they end. Listens on `sockets` if there are any. With `[server] one_core_each` it keeps to `core`, or to any.
    `service` is who tells systemd. Raises OSError when the address cannot be taken or the storage not be opened.
    """
    # Not before: prometheus_client looks for the other processes' folder once, when it is imported.
    from server.app import create_app
    from server.http.protocol import Runner
    from server.services import SERVICES

    if config.server.one_core_each:
        keep_to_core(core)
    service = service or Service()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    app = create_app(config)
    admission = app[SERVICES].admission
    runner = Runner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=_LAST_SECONDS,
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service.watched())
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        sockets = sockets or listen(config.server, service)
        for listening in sockets:
            await web.SockSite(runner, listening, backlog=_BACKLOG).start()
        address = url(runner.addresses[0])
        ready(address)
        service.ready(f"Serving at {address}")
        tasks = [asyncio.create_task(companion()) for companion in companions]
        for task in tasks:
            task.add_done_callback(lambda _: stop.set())
        await stop.wait()
        timeout = config.server.shutdown_timeout
        service.stopping(
            f"Stopping; requests in progress get {timeout:g} seconds: {admission.requests}",
            timeout + CLEANUP_SECONDS,
        )
        await _finish(runner, admission, sockets, timeout)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


async def _finish(
    runner: web.AppRunner, admission: Admission, sockets: Sequence[socket.socket], timeout: float
) -> None:
    """Takes no connection any more, and answers what comes on those that there are: for a moment whatever comes, then
    until no request is in progress. Returns after `timeout` seconds at the latest."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    admission.stopping = True  # each reply closes its connection from now on
    # A site that is stopped would drop the connections that asyncio has accepted and not yet set up.
    for listening in sockets:
        loop.remove_reader(listening)
    await asyncio.sleep(0)
    for site in list(runner.sites):
        await site.stop()
    while _transports(runner) and loop.time() < started + min(_LINGER_SECONDS, timeout):
        await asyncio.sleep(_LINGER_STEP_SECONDS)
    # A connection that aiohttp shuts down drops what still comes of a body: none may be in progress by then, and none
    # begin. What is not read was not begun, and its client knows by the reset that it may send it again.
    while True:
        await admission.drained(started + timeout - loop.time())
        reading = [transport for transport in _transports(runner) if transport.is_reading()]
        for transport in reading:
            transport.pause_reading()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if not admission.requests or loop.time() >= started + timeout:
            return
        for transport in reading:
            transport.resume_reading()


def _transports(runner: web.AppRunner) -> list[asyncio.Transport]:
    connections = runner.server.connections if runner.server else []
    return [connection.transport for connection in connections if connection.transport]


def url(address: tuple[str, int] | str | bytes) -> str:
    """Where this machine reaches the server; a wildcard address is answered on loopback."""
    if not isinstance(address, tuple):
        return f"unix:{os.fsdecode(address).replace(chr(0), '@')}"
    host, port = address[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
