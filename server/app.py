"""create_app(config): wires all parts of the server together. It does no I/O: that begins at startup."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from aiohttp import web

from server.auth.issuers import Issuers
from server.auth.throttling import WINDOW_SECONDS
from server.background import running
from server.config import Config
from server.database.pool import open_pool
from server.database.queries import SQL
from server.database.standby import Standby
from server.http.fetch import Fetcher
from server.http.middleware import add_headers, outermost
from server.http.origin import Origins
from server.http.route import defer_continue, handlers
from server.limits import Admission
from server.observe.metrics import DiskWatch
from server.pages import refusals
from server.redact.patterns import Patterns
from server.reports import usage, webhooks
from server.routes import PAGES, ROUTES
from server.services import LOG, SERVICES, Services
from server.storage.folder import Storage
from server.storage.free_space import FreeSpace
from server.storage.instances import BEAT_SECONDS, Heartbeat
from server.storage.ownership import ensure_own
from server.storage.removal import Removals
from server.thumbs.pool import Pool
from server.thumbs.thumbnails import Thumbnails
from server.webhooks import outbox
from server.webhooks.worker import Worker

_SWEEP_SECONDS = 600.0
_CLOSE_SECONDS = 10.0
_OBSERVE_SECONDS = 1.0
_RETRY_SECONDS = 1.0
_RETRY_SECONDS_MAX = 30.0

Job = Callable[[], Awaitable[None]]


def create_app(config: Config) -> web.Application:
    """The complete application for `config`, the only source of settings. Raises ConfigError."""
    # decode.py decompresses bodies: aiohttp would refuse an unknown Content-Encoding before our own checks.
    connections = {
        "auto_decompress": False,
        "access_log": None,
        "keepalive_timeout": config.server.idle_timeout,
    }
    app = web.Application(middlewares=[outermost(Origins(config.server))], handler_args=connections)
    files = config.artifacts
    sizes = files.file_timeout, files.min_free_bytes
    storage = Storage(files.storage_path, files.durability, *sizes, hard_links=files.hard_links)
    storage.disk.watch = DiskWatch()
    fetcher = Fetcher()
    trusted = {rule.issuer for rule in config.auth.ci} | ({config.auth.oidc.issuer} if config.auth.oidc.on else set())
    app[SERVICES] = Services(
        config=config,
        routes=ROUTES,
        storage=storage,
        free_space=FreeSpace(storage, files.min_free_bytes),
        removals=Removals(storage),
        heartbeat=Heartbeat(storage),
        thumbnails=Thumbnails(storage, config.viewer.thumbs_max_bytes, Pool()),
        patterns=Patterns(config.api.mask_patterns),
        admission=Admission(config.server.max_uploads, config.server.body_memory, config.server.reply_memory),
        issuers=Issuers(trusted, fetcher.fetch),
    )
    for method, path, handler in handlers([*ROUTES, *PAGES], refusals.unknown):
        app.router.add_route(method, path, handler, expect_handler=defer_continue)
    app.on_response_prepare.append(add_headers)
    app.on_cleanup.append(lambda _: fetcher.close())
    parts = (
        _threads,
        _storage,
        _database,
        _standby,
        _heartbeat,
        _own_folder,
        _thumbnails,
        _observer,
        _sweeper,
        _webhooks,
    )
    app.cleanup_ctx.extend(parts)
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


async def _standby(app: web.Application) -> AsyncIterator[None]:
    """Read from the standby of `[database] read_dsn` while it is usable, if there is one."""
    services = app[SERVICES]
    if not services.config.database.read_dsn:
        yield
        return
    services.standby = standby = Standby(services.config.database, services.pool)
    await standby.open()
    async with running("check of the standby", standby.watch):
        yield
    await standby.close(_CLOSE_SECONDS)


async def _heartbeat(app: web.Application) -> AsyncIterator[None]:
    """Renew this process's row in `instances`: processes on other machines see by it that this one lives."""
    heartbeat, pool = app[SERVICES].heartbeat, app[SERVICES].pool

    async def beat() -> None:
        while True:
            await heartbeat.beat(pool)
            await asyncio.sleep(BEAT_SECONDS)

    async with running("heartbeat", beat):
        yield
    await heartbeat.end(pool)


async def _own_folder(app: web.Application) -> AsyncIterator[None]:
    """Check that the storage folder belongs to this database. With another database's folder, the start fails.

    While the database is unreachable, the server starts, but refuses uploads and downloads until the check succeeds.
    """
    pool, storage = app[SERVICES].pool, app[SERVICES].storage
    storage.is_ours = await ensure_own(pool, storage)
    if not storage.is_ours:
        LOG.warning("%s is not used yet: cannot check whether it is this database's storage folder", storage.root)

    async def check_again() -> None:
        seconds, logged = _RETRY_SECONDS, ""
        while not storage.is_ours:
            await asyncio.sleep(seconds)
            try:
                storage.is_ours = await ensure_own(pool, storage)
            except Exception as error:  # retry: the disk may be mounted later
                if str(error) != logged:
                    LOG.error("uploads and downloads are refused: %s", error)
                    logged = str(error)
                seconds = min(2 * seconds, _RETRY_SECONDS_MAX)

    async with running("storage folder check", check_again):
        yield


async def _thumbnails(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[SERVICES].thumbnails.close()


async def _observer(app: web.Application) -> AsyncIterator[None]:
    """Update this worker's metrics every second: a scrape of any worker returns the metrics of all workers."""

    async def observe() -> None:
        while True:
            app[SERVICES].observe_load()
            await asyncio.sleep(_OBSERVE_SECONDS)

    async with running("metrics update", observe):
        yield


async def _sweeper(app: web.Application) -> AsyncIterator[None]:
    """Run the clean-up jobs every 10 minutes, and soon after a DELETE that left files to unlink.

    They retry failed removals of staged files, remove those of processes that have ended and the oldest thumbnails,
    unlink the queued files of deleted artifacts, and delete expired rows (Idempotency-Keys, sessions, login buckets,
    removed_files, deliveries of webhooks); Idempotency-Keys by whole days. Two jobs count what is stored, and how fast
    that grows; the next one forecasts when the disk is full. A failure that several jobs have, or that the sweep before
    had too, is logged once.

    Of all processes on all hosts, one at a time does what concerns only the database: the sums over the rows of a day
    would cost as much again for each further process.
    """
    services = app[SERVICES]
    pool = services.pool
    is_our_turn = False

    async def take_turn() -> None:
        nonlocal is_our_turn
        is_our_turn = False  # also when the next line fails
        # A little less than the pause between two sweeps: a process that is on time must not find itself too early.
        is_our_turn = await pool.fetchval(SQL.sweeps.take, 0.9 * _SWEEP_SECONDS) is not None

    async def in_turn(job: Job) -> None:
        if is_our_turn:
            await job()

    jobs: tuple[Job, ...] = (
        services.storage.tidy,
        partial(services.heartbeat.sweep, pool),
        services.thumbnails.tidy,
        partial(services.removals.drain, pool),
        take_turn,
        *(partial(in_turn, job) for job in _jobs_for_all(services)),
        partial(services.free_space.measure_growth, pool),  # of what was just counted
        partial(webhooks.check_disk, pool, services.config, services.free_space),
    )

    async def sweep() -> None:
        before: set[str] = set()
        while True:
            failures: set[str] = set()
            for job in jobs:
                try:
                    await job()
                except Exception as error:  # the database or the storage may be unavailable
                    if (failure := repr(error)) not in before | failures:
                        LOG.warning("a clean-up job failed, the next sweep runs it again: %s", failure)
                    failures.add(failure)
            before = failures
            with contextlib.suppress(TimeoutError):
                forecast = running("forecast of the free space", partial(services.free_space.measure_until_known, pool))
                async with forecast, asyncio.timeout(_SWEEP_SECONDS):
                    await services.removals.more.wait()

    async with running("sweeper", sweep):
        yield


def _jobs_for_all(services: Services) -> tuple[Job, ...]:
    """The clean-up jobs that one process does for all."""
    pool, config = services.pool, services.config

    async def until_done(query: str, *arguments: object) -> None:
        while await pool.execute(query, *arguments) == "DELETE 1000":  # a full batch: there may be more rows
            await asyncio.sleep(0.1)

    return (
        partial(pool.fetchval, SQL.audit.make_months),
        partial(pool.fetchval, SQL.idempotency.make_days),
        partial(pool.fetchval, SQL.idempotency.drop_days, config.api.idempotency_hours),
        partial(until_done, SQL.idempotency.sweep, config.api.idempotency_hours),
        partial(until_done, SQL.sessions.sweep),
        partial(until_done, SQL.tokens.sweep),
        partial(until_done, SQL.logins.sweep, WINDOW_SECONDS),
        partial(until_done, SQL.artifacts.sweep_removed),
        partial(outbox.sweep, pool, config.webhooks),
        partial(usage.count, pool),
    )


async def _webhooks(app: web.Application) -> AsyncIterator[None]:
    """Deliver events to webhooks, if there are any."""
    services = app[SERVICES]
    if not services.config.webhooks:
        yield
        return

    async def deliver() -> None:
        await Worker(services.pool, services.config.webhooks).run()

    async with running("delivery of webhooks", deliver):
        yield
