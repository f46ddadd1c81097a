"""`reportd serve`: runs the server in one process until SIGINT or SIGTERM. workers.py runs several such processes."""

import asyncio
import errno
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from aiohttp import web

from server.commands.process import keep_freed_memory, pin_to_core
from server.commands.systemd import Service
from server.config import Config, ServerConfig
from server.database import migrate
from server.database.queries import SQL
from server.errors import StorageFull
from server.http.accept import Acceptor, max_connections, raise_descriptor_limit
from server.limits import Admission
from server.storage.folder import Storage

if TYPE_CHECKING:
    from server.services import Services

LOG = logging.getLogger("reportd")

Ready = Callable[[str], None]
# After `shutdown_timeout`, aiohttp gives a request this long to finish, and as long again once it has cancelled it.
_LAST_SECONDS = 5.0
# How long a stop may take beyond `shutdown_timeout`: _LAST_SECONDS twice, then threads and connections end.
CLEANUP_SECONDS = 30.0
# How long a stopping server keeps idle connections open, because a request may already be on its way.
_LINGER_SECONDS = 1.0
_LINGER_STEP_SECONDS = 0.02
# How often a server that cannot serve yet checks again, and how long systemd may wait for the next check.
_READY_STEP_SECONDS = 1.0
EXTENSION_SECONDS = 60.0
# Iterations of the event loop between the arrival of a request and the start of its handler.
_LOOP_ITERATIONS = 4
_BACKLOG = 4096  # the default maximum of Linux (net.core.somaxconn); the same as in deploy/reportd.socket
# On a kernel without IPv6, the IPv6 addresses of a host name cannot be bound.
_UNSUPPORTED = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


class OldSchema(Exception):
    """The database schema is older than this server: run `reportd migrate` first."""


class OtherDatabase(Exception):
    """[database] read_dsn leads to another database than dsn: it must be a standby of the same PostgreSQL."""


def check_schema(config: Config) -> None:
    """Raise OldSchema when migrations are missing. Blocking.

    An unreachable database is no reason to stop: run() waits for it.
    """
    try:
        status = migrate.status(config.database.dsn)
        missing = [name for name, applied in status if not applied and not migrate.waits(name)]
    except psycopg.OperationalError as error:
        LOG.warning("the database does not answer yet: %s", error)
        return
    if missing:
        raise OldSchema(f"{OldSchema.__doc__} Missing: {', '.join(missing)}")


def check_standby(config: Config) -> None:
    """Raise OtherDatabase when read_dsn is not of the same database as dsn. Blocking.

    When one of them is unreachable, the server compares them later, and does not use the standby until then.
    """
    database, found = config.database, []
    for dsn in (database.dsn, database.read_dsn) if database.read_dsn else ():
        try:
            with psycopg.connect(dsn, connect_timeout=5) as connection:
                found.append(connection.execute(SQL.standby.identity).fetchone())
        except psycopg.OperationalError as error:
            LOG.warning("cannot compare the databases of dsn and read_dsn yet: %s", error)
            return
    if len(set(found)) > 1:
        raise OtherDatabase(OtherDatabase.__doc__)


def check_storage(config: Config) -> None:
    """Raise OSError when the storage folder cannot be created or written."""

    async def open_and_close() -> None:
        storage = Storage(config.artifacts.storage_path, file_timeout=config.artifacts.file_timeout)
        await storage.start()
        await storage.stop()

    asyncio.run(open_and_close())


def log_size(config: Config) -> None:
    """Log how many connections PostgreSQL must allow (max_connections)."""
    workers, connections = config.server.workers, config.database.pool_size
    if workers == 1:
        LOG.info("1 worker, %d database connections", connections)
    else:
        LOG.info("%d workers, %d database connections each, %d in all", workers, connections, workers * connections)
    if config.database.read_dsn:
        LOG.info("%d connections to the standby", workers * (connections + 1))


def listen(config: ServerConfig, service: Service) -> list[socket.socket]:
    """The listening sockets passed by systemd, else one for each address of `[server] host`. Raises OSError."""
    if service.sockets:
        where = ", ".join(url(sock.getsockname()) for sock in service.sockets)
        LOG.info("listening on the sockets of systemd: %s; [server] host and port are not used", where)
        return service.sockets
    sockets: list[socket.socket] = []
    unsupported: OSError | None = None
    try:
        found = socket.getaddrinfo(config.host or None, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                sockets.append(socket.create_server(address, family=family, backlog=_BACKLOG))
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                unsupported = error
        if not sockets and unsupported:
            raise unsupported
    except (OSError, ValueError) as error:  # ValueError: no host name can be like this
        for opened in sockets:
            opened.close()
        raise OSError(_cannot_listen(config, error)) from None
    return sockets


def check_address(config: ServerConfig) -> None:
    """Raise OSError when listen() would."""
    for listening in listen(config, Service()):
        listening.close()


def _cannot_listen(config: ServerConfig, error: OSError | ValueError) -> str:
    reason = str(error)
    if isinstance(error, OSError) and error.strerror:
        reason = error.strerror.partition(" (while attempting")[0]
    wrong_host = isinstance(error, socket.gaierror | ValueError) or error.errno in _UNSUPPORTED
    option = (
        "another address with --host or [server] host" if wrong_host else "another port with --port or [server] port"
    )
    return f"Cannot listen on {config.host}, port {config.port}: {reason}. Choose {option}."


def stop_signals(terminal: bool = True) -> set[signal.Signals]:
    """The signals that stop a server. `terminal`: also SIGHUP, when a terminal is closed, unless `nohup` ignores it."""
    hangup = terminal and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return {signal.SIGINT, signal.SIGTERM} | ({signal.SIGHUP} if hangup else set())


@contextmanager
def _stop_event(is_worker: bool) -> Iterator[asyncio.Event]:
    """An event that stop_signals() set. After the block they are ignored until the process ends: the event loop's own
    handlers would then leave the default to a second signal, and the exit code would say that the process was killed.
    """
    signals = stop_signals(terminal=not is_worker)  # gunicorn's workers leave SIGHUP to gunicorn
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in signals:
        loop.remove_signal_handler(number)  # gunicorn's
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)  # of a worker, see workers.py
    try:
        yield stop
    finally:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)


async def run(
    config: Config,
    ready: Ready,
    *companions: Callable[[], Coroutine[Any, Any, None]],
    sockets: Sequence[socket.socket] = (),
    core: int | None = None,
    service: Service | None = None,
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, then finish requests in progress within `shutdown_timeout`.

    Requests are accepted at once. `ready` is called with the URL when they can be served, see _until_ready().
    `companions` run beside the server; when one ends, the server stops. Listens on `sockets` if given, else see
    listen(). With `[server] one_core_each` the process is pinned to `core`, or to a random core. `service` notifies
    systemd. Raises OSError when the address cannot be bound or the storage folder cannot be opened.
    """
    # Imported late: prometheus_client reads PROMETHEUS_MULTIPROC_DIR only once, at its import (see workers.py).
    from server.app import create_app
    from server.http.protocol import Runner
    from server.services import SERVICES

    if config.server.one_core_each:
        pin_to_core(core)
    keep_freed_memory()
    service = service or Service()
    limit = max_connections(config, raise_descriptor_limit())
    app = create_app(config)
    admission = app[SERVICES].admission
    runner = Runner(app, access_log=None, handle_signals=False, shutdown_timeout=_LAST_SECONDS)
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(_stop_event(is_worker=bool(sockets)))
        await stack.enter_async_context(service.pinging())
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        sockets = sockets or listen(config.server, service)
        acceptor = Acceptor(runner.made, sockets, limit)
        stack.push_async_callback(acceptor.stop)
        acceptor.start()
        address = url(sockets[0].getsockname())

        async def announce() -> None:
            await _until_ready(app[SERVICES], address, service)
            ready(address)
            service.ready(f"Serving at {address}")
            await stop.wait()

        tasks = [asyncio.create_task(companion()) for companion in (announce, *companions)]
        for task in tasks:
            task.add_done_callback(lambda _: stop.set())
        await stop.wait()
        timeout = config.server.shutdown_timeout
        service.stopping(
            f"Stopping; {admission.requests} requests in progress get {timeout:g} seconds to finish",
            timeout + CLEANUP_SECONDS,
        )
        await _finish(runner, admission, acceptor, timeout)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


async def _until_ready(services: "Services", address: str, service: Service) -> None:
    """Wait until /readyz would reply 200. Log each reason once, and report it to systemd.

    A full disk is no reason to wait: everything that is stored can be read.
    """
    from server.api import health

    logged = ""
    while True:
        try:
            return await health.check(services)
        except health.NotReady as error:
            if error.code == StorageFull.code:
                return
            reason = error.detail
        if reason != logged:
            LOG.warning("not ready, although listening at %s: %s Checking again every second", address, reason)
            logged = reason
        service.waiting(f"Not ready: {reason}", EXTENSION_SECONDS)
        await asyncio.sleep(_READY_STEP_SECONDS)


async def _finish(runner: web.AppRunner, admission: Admission, acceptor: Acceptor, timeout: float) -> None:
    """Stop accepting connections, then finish the requests on the open ones.

    For a moment, new requests on open connections are still served. Returns when no request is in progress, after
    `timeout` seconds at the latest.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    admission.stopping = True  # from now on each reply has `Connection: close`
    await acceptor.stop()
    while _transports(runner) and loop.time() < started + min(_LINGER_SECONDS, timeout):
        await asyncio.sleep(_LINGER_STEP_SECONDS)
    # aiohttp's cleanup drops the rest of a request body: by then no request may be in progress, and none may start.
    # So stop reading first. Unread requests were never started; the connection reset lets their client retry them.
    while True:
        await admission.drained(started + timeout - loop.time())
        reading = [transport for transport in _transports(runner) if transport.is_reading()]
        for transport in reading:
            transport.pause_reading()
        for _ in range(_LOOP_ITERATIONS):
            await asyncio.sleep(0)
        if not admission.requests or loop.time() >= started + timeout:
            return
        for transport in reading:
            transport.resume_reading()


def _transports(runner: web.AppRunner) -> list[asyncio.Transport]:
    connections = runner.server.connections if runner.server else []
    return [connection.transport for connection in connections if connection.transport]


def url(address: tuple[str, int] | str | bytes) -> str:
    """The URL of the server on this machine: loopback for a wildcard address, `unix:PATH` for a unix socket."""
    if not isinstance(address, tuple):
        return f"unix:{os.fsdecode(address).replace(chr(0), '@')}"
    host, port = address[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
