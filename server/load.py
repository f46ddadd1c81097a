"""The figures of what is in progress in this process, and of what it refused because that was too much."""

from aiohttp import web
from prometheus_client import Counter, Gauge

from server.context import MEMORY, POOL, STORAGE, UPLOADS

_UPLOADS = Gauge(
    "reportd_uploads_in_progress",
    "Uploads in progress, without those that wait for a slow client",
    multiprocess_mode="livesum",
)
_CONNECTIONS = Gauge(
    "reportd_pool_connections",
    "Connections to PostgreSQL: state=in_use, state=idle; state=waiting, requests that wait for one",
    ["state"],
    multiprocess_mode="livesum",
)
_REFUSALS = Counter(
    "reportd_overload_refusals",
    "Requests refused at once: reason=uploads, max_uploads are in progress; reason=memory, bodies fill body_memory; "
    "reason=connections, too many requests wait for one; reason=storage, the disk does not answer",
    ["reason"],
)


class Load:
    """What is observed of one server. The counts themselves are kept where they arise, as plain numbers."""

    def __init__(self) -> None:
        self._told = {"uploads": 0, "memory": 0, "connections": 0, "storage": 0}

    def observe(self, app: web.Application) -> None:
        """Brings the figures up to date."""
        pool = app[POOL]
        _UPLOADS.set(app[UPLOADS].active)
        _CONNECTIONS.labels("in_use").set(pool.in_use)
        _CONNECTIONS.labels("idle").set(max(0, pool.open - pool.in_use))
        _CONNECTIONS.labels("waiting").set(pool.waiting)
        refused = {
            "uploads": app[UPLOADS].refused,
            "memory": app[MEMORY].refused,
            "connections": pool.refused,
            "storage": app[STORAGE].refused,
        }
        for reason, count in refused.items():
            _REFUSALS.labels(reason).inc(count - self._told[reason])
        self._told = refused


LOAD = web.AppKey("load", Load)
