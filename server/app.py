"""create_app(config): the whole server, put together. Does no I/O itself; that begins when it starts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

from aiohttp import web

from server.auth.throttling import WINDOW_SECONDS
from server.background import running
from server.config import Config
from server.database.pool import open_pool
from server.database.queries import SQL
from server.http.middleware import around, mark
from server.http.origin import Origins
from server.http.route import handlers, hold_back
from server.limits import Admission
from server.observe.metrics import DiskWatch
from server.redact.patterns import Patterns
from server.routes import ROUTES
from server.services import LOG, SERVICES, Services
from server.storage.folder import Storage
from server.storage.free_space import FreeSpace
from server.storage.marker import ensure_own
from server.storage.removal import Removals

_SWEEP_SECONDS = 600.0
_CLOSE_SECONDS = 10.0
_OBSERVE_SECONDS = 1.0
_ASK_SECONDS = 1.0
_ASK_SECONDS_AT_MOST = 30.0


def create_app(config: Config) -> web.Application:
    """The application for `config`. It is complete: nothing else is configured anywhere. Raises ConfigError."""
    # Compressed bodies are decode.py's matter: aiohttp would refuse those it does not know before we see them.
    connections = {
        "auto_decompress": False,
        "access_log": None,
        "keepalive_timeout": config.server.idle_timeout,
    }
    app = web.Application(middlewares=[around(Origins(config.server))], handler_args=connections)
    files = config.artifacts
    storage = Storage(files.storage_path, files.durability, files.file_timeout, files.min_free_bytes)
    storage.disk.watch = DiskWatch()
    app[SERVICES] = Services(
        config=config,
        routes=ROUTES,
        storage=storage,
        free_space=FreeSpace(storage, files.min_free_bytes),
        removals=Removals(storage),
        patterns=Patterns(config.api.mask_patterns),
        admission=Admission(config.server.max_uploads, config.server.body_memory),
    )
    for method, path, handler in handlers(ROUTES):
        app.router.add_route(method, path, handler, expect_handler=hold_back)
    app.on_response_prepare.append(mark)
    app.cleanup_ctx.extend([_threads, _storage, _database, _own_folder, _observer, _sweeper])
    return app


async def _threads(app: web.Application) -> AsyncIterator[None]:
    yield
    app[SERVICES].patterns.close()
    app[SERVICES].passwords.close()


async def _storage(app: web.Application) -> AsyncIterator[None]:
    await app[SERVICES].storage.start()
    yield
    await app[SERVICES].storage.stop()


async def _database(app: web.Application) -> AsyncIterator[None]:
    services = app[SERVICES]
    services.pool = await open_pool(services.config.database)
    yield
    await services.pool.close(_CLOSE_SECONDS)


async def _own_folder(app: web.Application) -> AsyncIterator[None]:
    """A server starts without its database, and stores nothing before that has said where."""
    pool, storage = app[SERVICES].pool, app[SERVICES].storage
    storage.is_ours = await ensure_own(pool, storage)
    if not storage.is_ours:
        LOG.warning("the database does not say yet whether %s is its storage folder", storage.root)

    async def ask_again() -> None:
        seconds = _ASK_SECONDS
        while not storage.is_ours:
            await asyncio.sleep(seconds)
            try:
                storage.is_ours = await ensure_own(pool, storage)
            except Exception as error:  # it may be mounted any moment
                LOG.error("uploads and downloads are refused: %s", error)
                seconds = min(2 * seconds, _ASK_SECONDS_AT_MOST)

    async with running("the question whose the storage folder is", ask_again):
        yield


async def _observer(app: web.Application) -> AsyncIterator[None]:
    """A scrape of one worker shows the metrics of all: each keeps its own up to date."""

    async def observe() -> None:
        while True:
            app[SERVICES].observe_load()
            await asyncio.sleep(_OBSERVE_SECONDS)

    async with running("the update of metrics", observe):
        yield


async def _sweeper(app: web.Application) -> AsyncIterator[None]:
    """Finishes removals that a crash or a large DELETE left, drops old keys, sessions and logins, measures a day."""
    services = app[SERVICES]
    pool = services.pool

    async def until_done(query: str, *arguments: object) -> None:
        while await pool.execute(query, *arguments) == "DELETE 1000":  # a full portion: there may be more
            await asyncio.sleep(0.1)

    jobs = (
        services.storage.tidy,
        partial(services.removals.work_off, pool),
        partial(until_done, SQL.idempotency.sweep, services.config.api.idempotency_hours),
        partial(until_done, SQL.sessions.sweep),
        partial(until_done, SQL.logins.sweep, WINDOW_SECONDS),
        partial(until_done, SQL.artifacts.sweep_removed),
        partial(services.free_space.measure_last_day, pool),
    )

    async def sweep() -> None:
        while True:
            for job in jobs:
                try:
                    await job()
                except Exception as error:  # database or storage may be away; the next round comes
                    LOG.warning("sweeping: %r", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_SECONDS):
                    await services.removals.more.wait()

    async with running("the sweeper", sweep):
        yield
