"""Runs the server until it is told to stop."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import psycopg
from aiohttp import web

from server import migrate
from server.app import create_app
from server.config import Config
from server.context import ACTIVITY, LOG

Ready = Callable[[str], None]
# What a request gets that has outlived `shutdown_timeout`, to clean up after itself.
_LAST_SECONDS = 5.0


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


async def run(config: Config, ready: Ready, *companions: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Serves until SIGINT or SIGTERM, then finishes what is in progress within `shutdown_timeout`.

    `ready` is called with the address once requests are accepted; `companions` run beside the server, and end it
    when they fail. Raises OSError when the address cannot be taken or the storage not be opened.
    """
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
        site = web.TCPSite(runner, config.server.host, config.server.port, backlog=1024, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            raise OSError(f"Cannot listen on {config.server.host}, port {config.server.port}: {error}") from None
        ready(_url(runner.addresses[0]))
        tasks = [asyncio.create_task(companion()) for companion in companions]
        for task in tasks:
            task.add_done_callback(lambda _: stop.set())
        await stop.wait()
        # Requests in progress end first: a connection that aiohttp shuts down drops what still comes of its body.
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
