"""create_app(config): the whole server, put together. Does no I/O itself; that begins when it starts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any

from aiohttp import web

from server.api.sessions import PASSWORDS
from server.auth import callers
from server.auth.callers import Callers
from server.auth.keys import Keys
from server.auth.logins import WINDOW_SECONDS
from server.auth.passwords import Passwords
from server.config import Config
from server.context import (
    ACTIVITY,
    CONFIG,
    KEYS,
    LOG,
    MASKS,
    MEMORY,
    POOL,
    SPACE,
    SQL,
    STORAGE,
    UPLOADS,
    Activity,
    Uploads,
)
from server.db import load_sql, open_pool
from server.figures import DiskFigures
from server.folder import ensure_own
from server.http.middleware import ORIGINS, mark, outermost
from server.http.openapi import ROUTE_TABLE
from server.http.origin import Origins
from server.http.route import handlers, hold_back
from server.load import LOAD, Load
from server.mask import Masks
from server.removal import remove_files
from server.routes import ROUTES
from server.space import Space
from server.uploads.memory import Memory
from server.uploads.storage import Storage

_SWEEP_SECONDS = 600.0
_CLOSE_SECONDS = 10.0
_OBSERVE_SECONDS = 1.0
_ASK_SECONDS = 1.0
_ASK_SECONDS_AT_MOST = 30.0


def create_app(config: Config) -> web.Application:
    """The application for `config`. It is complete: nothing else is configured anywhere."""
    # Compressed bodies are decode.py's matter: aiohttp would refuse those it does not know before we see them.
    connections = {
        "auto_decompress": False,
        "access_log": None,
        "keepalive_timeout": config.server.idle_timeout,
    }
    app = web.Application(middlewares=[outermost], handler_args=connections)
    app[CONFIG] = config
    app[SQL] = load_sql()
    files = config.artifacts
    app[STORAGE] = Storage(files.storage_path, files.durability, files.file_timeout, files.min_free_bytes)
    app[STORAGE].disk.watch = DiskFigures()
    app[SPACE] = Space(app[STORAGE], files.min_free_bytes)
    app[MASKS] = Masks(config.api.mask_patterns)
    app[MEMORY] = Memory(config.server.body_memory)
    app[LOAD] = Load()
    app[UPLOADS] = Uploads(config.server.max_uploads)
    app[ROUTE_TABLE] = ROUTES
    app[ORIGINS] = Origins(config.server)
    app[ACTIVITY] = Activity()
    app[callers.CACHE] = Callers()
    app[KEYS] = Keys(app[SQL])
    app[PASSWORDS] = Passwords()
    for method, path, handler in handlers(ROUTES, callers.authenticate):
        app.router.add_route(method, path, handler, expect_handler=hold_back)
    app.on_response_prepare.append(mark)
    app.cleanup_ctx.extend([_threads, _storage, _database, _own_folder, _observer, _sweeper])
    return app


async def _threads(app: web.Application) -> AsyncIterator[None]:
    yield
    app[MASKS].close()
    app[PASSWORDS].close()


async def _storage(app: web.Application) -> AsyncIterator[None]:
    await asyncio.to_thread(app[STORAGE].open)
    yield
    await asyncio.to_thread(app[STORAGE].close)


async def _database(app: web.Application) -> AsyncIterator[None]:
    app[POOL] = await open_pool(app[CONFIG].database)
    yield
    await app[POOL].close(_CLOSE_SECONDS)


async def _own_folder(app: web.Application) -> AsyncIterator[None]:
    """A server starts without its database, and stores nothing before that has said where."""
    pool, sql, storage = app[POOL], app[SQL], app[STORAGE]
    storage.is_ours = await ensure_own(pool, sql, storage)
    if not storage.is_ours:
        LOG.warning("the database does not say yet whether %s is its storage folder", storage.root)

    async def ask_again() -> None:
        seconds = _ASK_SECONDS
        while not storage.is_ours:
            await asyncio.sleep(seconds)
            try:
                storage.is_ours = await ensure_own(pool, sql, storage)
            except Exception as error:  # it may be mounted any moment
                LOG.error("uploads and downloads are refused: %s", error)
                seconds = min(2 * seconds, _ASK_SECONDS_AT_MOST)

    async with _running(ask_again()):
        yield


async def _observer(app: web.Application) -> AsyncIterator[None]:
    """Of several workers, whichever is asked for figures tells those of all: each keeps its own up to date."""

    async def observe() -> None:
        while True:
            app[LOAD].observe(app)
            await asyncio.sleep(_OBSERVE_SECONDS)

    async with _running(observe()):
        yield


async def _sweeper(app: web.Application) -> AsyncIterator[None]:
    """Finishes removals that a crash cut short, forgets old keys, sessions and logins, measures the last day."""
    pool, sql = app[POOL], app[SQL]

    async def until_done(query: str, *arguments: object) -> None:
        while await pool.execute(query, *arguments) == "DELETE 1000":  # a full portion: there may be more
            await asyncio.sleep(0.1)

    jobs = (
        app[STORAGE].tidy,
        partial(remove_files, pool, sql, app[STORAGE]),
        partial(until_done, sql.idempotency.sweep, app[CONFIG].api.idempotency_hours),
        partial(until_done, sql.sessions.sweep),
        partial(until_done, sql.logins.sweep, WINDOW_SECONDS),
        partial(until_done, sql.artifacts.sweep_removed),
        partial(app[SPACE].measure_last_day, pool, sql),
    )

    async def sweep() -> None:
        while True:
            for job in jobs:
                try:
                    await job()
                except Exception as error:  # database or storage may be away; the next round comes
                    LOG.warning("sweeping: %r", error)
            await asyncio.sleep(_SWEEP_SECONDS)

    async with _running(sweep()):
        yield


@contextlib.asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
