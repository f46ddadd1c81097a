"""Whether the process lives, whether it can serve, and its metrics."""

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
from server.services import SERVICES
from server.storage.folder import StorageAway
from server.storage.free_space import Measured

_READY_SECONDS = 5.0  # for the database, and for the storage: who asks does not wait long
# Its own thread: those that all share may be waiting for something.
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
    """200 as long as the process answers."""
    return reply.ok(Health("ok"))


async def ready(request: web.Request) -> Response:
    """200 when database, schema and storage are there; else 503 naming the one that is not."""
    try:
        async with asyncio.timeout(_READY_SECONDS):
            applied = await migrate.applied(request.app[SERVICES].pool)
    except asyncpg.UndefinedTableError:
        applied = set()
    except Exception as error:
        raise NotReady("The database does not answer.", "database_unavailable") from error
    if not migrate.needed_versions() <= applied:
        raise NotReady("The database schema is older than this server: run reportd migrate.", "schema_outdated")
    try:
        async with asyncio.timeout(_READY_SECONDS):
            await request.app[SERVICES].storage.check()
    except (ReportError, TimeoutError) as error:
        code = error.code if isinstance(error, ReportError) else StorageAway.code
        raise NotReady("The storage folder cannot be written.", code) from error
    return reply.ok(Health("ready"))


async def metrics(request: web.Request) -> Response:
    """The figures of all workers together in Prometheus' text format."""
    services = request.app[SERVICES]
    services.observe_load()
    space = await services.free_space.look()
    loop = asyncio.get_running_loop()
    return web.Response(
        body=await loop.run_in_executor(_THREAD, _text, space),  # several workers' metrics are in files
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
    """The storage's space as it is at a scrape. What is not known is left out, so that no alert takes it for a figure.

    No gauges of prometheus_client: of several workers each would have its own, old ones among them.
    """

    def __init__(self, space: Measured | None) -> None:
        self._space = space

    def collect(self) -> Iterable[Metric]:
        space = self._space
        up = "1 when the storage folder is there and answers within a second, else 0"
        yield GaugeMetricFamily("reportd_storage_up", up, value=space is not None)
        if space is not None:
            free = "Bytes left for reportd on the storage's file system"
            yield GaugeMetricFamily("reportd_storage_free_bytes", free, value=space.free)
            yield GaugeMetricFamily("reportd_storage_size_bytes", "Size of the storage's file system", value=space.size)
        if space is not None and space.days is not None:
            days = (
                "Days until the storage is full, if each brings as many bytes of artifacts as the last 24 hours did; "
                "+Inf if they brought none. Measured every 10 minutes. Too low where one content is stored for several "
                "artifacts, too high while the server is younger than a day, or when others fill the disk"
            )
            yield GaugeMetricFamily("reportd_storage_days_until_full", days, value=space.days)
