"""Metrics of the disk, and of what is in progress in this process. Those of one noun stand in its own file."""

from collections.abc import Mapping
from typing import Literal

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

# When each counter began, as a metric of its own: twice the lines, and with several workers there are none.
prometheus_client.disable_created_metrics()

DEDUPED = Counter(
    "reportd_dedupe_saved_bytes",
    "Bytes of files that were not stored again: how=resend, the test case had the same file for the same step; "
    "how=hard_link, a new artifact with content that its project had",
    ["how"],
)
RESENT, _LINKED = DEDUPED.labels("resend"), DEDUPED.labels("hard_link")

_FSYNC = Histogram(
    "reportd_fsync_seconds",
    "Time of one fsync: what=file, the data of an uploaded file; what=folder, the entries of a folder",
    ["what"],
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
_SYNCED = {"file": _FSYNC.labels("file"), "folder": _FSYNC.labels("folder")}

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


class DiskWatch:
    """Counts what the disk does (storage.disk.Watch)."""

    def synced(self, what: Literal["file", "folder"], seconds: float) -> None:
        _SYNCED[what].observe(seconds)

    def linked(self, size: int) -> None:
        _LINKED.inc(size)


class Load:
    """What is in progress in one server. The counts themselves are kept where they arise, as plain numbers."""

    def __init__(self) -> None:
        self._seen = {"uploads": 0, "memory": 0, "connections": 0, "storage": 0}

    def observe(self, uploads: int, connections: Mapping[str, int], refused: Mapping[str, int]) -> None:
        """Brings the metrics up to date. `connections` by state; `refused` by reason, since the server started."""
        _UPLOADS.set(uploads)
        for state, count in connections.items():
            _CONNECTIONS.labels(state).set(count)
        for reason, count in refused.items():
            _REFUSALS.labels(reason).inc(count - self._seen[reason])
        self._seen = dict(refused)
