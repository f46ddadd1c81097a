"""Liveness, readiness and metrics."""

import asyncio
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import asyncpg
import prometheus_client
from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from server.database import migrate
from server.errors import ReportError
from server.http import reply
from server.http.reply import Response
from server.services import SERVICES, Services
from server.storage.folder import StorageAway
from server.storage.free_space import Measured

_READY_SECONDS = 5.0  # timeout of each check: health checkers do not wait long
# A thread of its own: the default executor may be busy, and metrics matter most then.
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="metrics")


@dataclass(slots=True)
class Health:
    status: str


class NotReady(ReportError):
    """The server cannot serve right now."""

    status, code = 503, "not_ready"

    def __init__(self, detail: str, code: str) -> None:
        super().__init__(detail, headers={"Retry-After": "2"})
        self.code = code


async def live(request: web.Request) -> Response:
    """Reports that the process is alive: 200 as long as it answers.

    It checks neither the database nor the storage.
    """
    return reply.ok(Health("ok"))


async def ready(request: web.Request) -> Response:
    """Reports whether the server can serve: 200 when the database, its schema and the storage folder are usable.

    Otherwise 503, and `code` names the check that failed: `database_unavailable`, `schema_outdated`,
    `storage_unavailable` or `storage_full`.
    """
    await check(request.app[SERVICES])
    return reply.ok(Health("ready"))


async def check(services: Services) -> None:
    """Raises NotReady unless the database, its schema and the storage folder are usable."""
    try:
        async with asyncio.timeout(_READY_SECONDS):
            applied = await migrate.applied(services.pool)
    except asyncpg.UndefinedTableError:
        applied = set()
    except Exception as error:
        raise NotReady("The database does not answer.", "database_unavailable") from error
    if not migrate.needed_versions() <= applied:
        raise NotReady("The database schema is older than this server: run reportd migrate.", "schema_outdated")
    try:
        async with asyncio.timeout(_READY_SECONDS):
            await services.storage.check()
    except (ReportError, TimeoutError) as error:
        code = error.code if isinstance(error, ReportError) else StorageAway.code
        raise NotReady("The storage folder cannot be written.", code) from error


async def metrics(request: web.Request) -> Response:
    """Shows the metrics of all workers together, in the text format of Prometheus."""
    services = request.app[SERVICES]
    services.observe_load()
    space = await services.free_space.measure()
    loop = asyncio.get_running_loop()
    return web.Response(
        body=await loop.run_in_executor(_THREAD, _text, space),  # reads files when there are several workers
        headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST},
    )


def _text(space: Measured | None) -> bytes:
    own = CollectorRegistry()
    own.register(_SpaceMetrics(space))
    counted = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        counted = CollectorRegistry()
        MultiProcessCollector(counted)
    return prometheus_client.generate_latest(counted) + prometheus_client.generate_latest(own)


class _SpaceMetrics(Collector):
    """The free space of the storage, measured at each scrape. Unknown values are left out: alerts would take
    placeholders for real values.

    Not a Gauge of prometheus_client: with several workers each would report its own value, some of them old.
    """

    def __init__(self, space: Measured | None) -> None:
        self._space = space

    def collect(self) -> Iterable[Metric]:
        space = self._space
        up = "1 when the storage folder exists and answers within a second, else 0"
        yield GaugeMetricFamily("reportd_storage_up", up, value=space is not None)
        if space is not None:
            free = "Free bytes of the storage's file system, without those that min_free_bytes reserves"
            yield GaugeMetricFamily("reportd_storage_free_bytes", free, value=space.free)
            yield GaugeMetricFamily("reportd_storage_size_bytes", "Size of the storage's file system", value=space.size)
        if space is not None and space.days is not None:
            days = (
                "Days until the storage is full at the pace of the last 30 days, in bytes of artifacts; +Inf if there "
                "were none. Measured every 10 minutes. Too low when artifacts share content, too high when other "
                "programs fill the disk"
            )
            yield GaugeMetricFamily("reportd_storage_days_until_full", days, value=space.days)
