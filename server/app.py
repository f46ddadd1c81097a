"""create_app(config): the whole server, put together. Does no I/O itself; that begins when it starts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from server.auth import tokens
from server.config import Config
from server.context import ACTIVITY, CONFIG, LOG, POOL, SPACE, SQL, STORAGE, Activity
from server.db import load_sql, open_pool
from server.figures import DiskFigures
from server.http.middleware import ProtocolLog, mark, outermost
from server.http.openapi import ROUTE_TABLE
from server.http.route import handlers, hold_back
from server.removal import remove_files
from server.routes import ROUTES
from server.space import Space
from server.uploads.storage import Storage

_SWEEP_SECONDS = 600.0


def create_app(config: Config) -> web.Application:
    """The application for `config`. It is complete: nothing else is configured anywhere."""
    # Compressed bodies are decode.py's matter: aiohttp would refuse those it does not know before we see them.
    arguments = {"auto_decompress": False, "access_log": None, "logger": ProtocolLog(config.log.requests)}
    app = web.Application(middlewares=[outermost], handler_args=arguments)
    app[CONFIG] = config
    app[SQL] = load_sql()
    app[STORAGE] = Storage(config.artifacts.storage_path, config.artifacts.durability)
    app[STORAGE].disk.watch = DiskFigures()
    app[SPACE] = Space(app[STORAGE])
    app[ROUTE_TABLE] = ROUTES
    app[ACTIVITY] = Activity()
    app[tokens.CACHE] = {}
    for method, path, handler in handlers(ROUTES, tokens.authenticate):
        app.router.add_route(method, path, handler, expect_handler=hold_back)
    app.on_response_prepare.append(mark)
    app.cleanup_ctx.extend([_storage, _database, _sweeper])
    return app


async def _storage(app: web.Application) -> AsyncIterator[None]:
    await asyncio.to_thread(app[STORAGE].open)
    yield
    await asyncio.to_thread(app[STORAGE].close)


async def _database(app: web.Application) -> AsyncIterator[None]:
    app[POOL] = await open_pool(app[CONFIG].database)
    yield
    with contextlib.suppress(asyncio.TimeoutError):
        async with asyncio.timeout(10):
            await app[POOL].close()
    app[POOL].terminate()


async def _sweeper(app: web.Application) -> AsyncIterator[None]:
    """Finishes removals that a crash cut short, forgets old idempotency keys and sessions, measures the last day."""

    async def until_done(query: str, *arguments: object) -> None:
        while await app[POOL].execute(query, *arguments) == "DELETE 1000":  # a full portion: there may be more
            await asyncio.sleep(0.1)

    async def sweep() -> None:
        while True:
            try:
                await remove_files(app[POOL], app[SQL], app[STORAGE])
                await until_done(app[SQL].idempotency.sweep, app[CONFIG].api.idempotency_hours)
                await until_done(app[SQL].tokens.sweep_sessions)
                await until_done(app[SQL].artifacts.sweep_removed)
                await app[SPACE].measure_last_day(app[POOL], app[SQL])
            except Exception as error:  # the database may be away; the next round comes
                LOG.warning("sweeping: %r", error)
            await asyncio.sleep(_SWEEP_SECONDS)

    task = asyncio.create_task(sweep())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
