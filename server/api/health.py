"""Whether the process lives, whether it can serve, and its figures."""

import asyncio
import os
from dataclasses import dataclass
from typing import Any

import asyncpg
import prometheus_client
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from server.context import POOL, SQL, STORAGE
from server.errors import ReportError
from server.http import reply
from server.http.reply import Response
from server.migrate import known_versions
from server.uploads.storage import StorageAway

_READY_SECONDS = 5.0  # for the database, and for the storage: who asks does not wait long


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
            rows: list[Any] = await request.app[POOL].fetch(request.app[SQL].health.schema_versions)
    except asyncpg.UndefinedTableError:
        rows = []
    except Exception as error:
        raise NotReady("The database does not answer.", "database_unavailable") from error
    if not known_versions() <= {row["migration_id"] for row in rows}:
        raise NotReady("The database schema is older than this server: run reportd migrate.", "schema_outdated")
    try:
        async with asyncio.timeout(_READY_SECONDS):
            await request.app[STORAGE].check()
    except (ReportError, TimeoutError) as error:
        code = error.code if isinstance(error, ReportError) else StorageAway.code
        raise NotReady("The storage folder cannot be written.", code) from error
    return reply.ok(Health("ready"))


async def metrics(request: web.Request) -> Response:
    """The figures of all workers together in Prometheus' text format."""
    return web.Response(
        body=await asyncio.to_thread(_figures),  # several workers' figures are in files
        headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST},
    )


def _figures() -> bytes:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return prometheus_client.generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return prometheus_client.generate_latest(registry)
