"""Metrics of the disk and of the load of this process. Other metrics are defined in the module that counts them."""

from collections.abc import Mapping
from typing import Literal

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

# Otherwise each counter has a second metric with its start time: twice the lines, and missing with several workers.
prometheus_client.disable_created_metrics()

DEDUPED = Counter(
    "reportd_dedupe_saved_bytes",
    "Bytes that were not stored a second time. how=resend: the same file was sent again for the same step. "
    "how=hard_link: a new artifact has the same content as an earlier one of its project.",
    ["how"],
)
RESENT, _LINKED = DEDUPED.labels("resend"), DEDUPED.labels("hard_link")

_FSYNC = Histogram(
    "reportd_fsync_seconds",
    "Duration of one fsync in seconds. what=file: the data of an uploaded file. what=folder: the entries of a folder.",
    ["what"],
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
_SYNCED = {"file": _FSYNC.labels("file"), "folder": _FSYNC.labels("folder")}

_DAMAGED = Counter(
    "reportd_damaged_files_replaced",
    "Stored files that did not have the bytes of the same file when it was uploaded again, and were replaced. "
    "what=artifact: the file of the artifact that was sent again. what=content: the entry of .content that equal files "
    "are linked to.",
    ["what"],
)
_FOUND_DAMAGED = {"artifact": _DAMAGED.labels("artifact"), "content": _DAMAGED.labels("content")}

_UPLOADS = Gauge(
    "reportd_uploads_in_progress",
    "Uploads in progress. Uploads that wait for a slow client are not counted.",
    multiprocess_mode="livesum",
)
_OPEN = Gauge(
    "reportd_connections", "Open connections of clients, with and without a request.", multiprocess_mode="livesum"
)
_CONNECTIONS = Gauge(
    "reportd_pool_connections",
    "state=in_use, state=idle: connections to PostgreSQL. state=waiting: requests that wait for a connection.",
    ["state"],
    multiprocess_mode="livesum",
)
_REFUSALS = Counter(
    "reportd_overload_refusals",
    "Requests refused because of overload. reason=uploads: max_uploads are in progress. reason=memory: request bodies "
    "fill body_memory. reason=connections: too many requests wait for a database connection. reason=storage: the disk "
    "does not answer. reason=replies: replies fill reply_memory, or one evidence link has too many in progress.",
    ["reason"],
)


class DiskWatch:
    """Records the disk operations that Disk reports (storage.disk.Watch)."""

    def synced(self, what: Literal["file", "folder"], seconds: float) -> None:
        _SYNCED[what].observe(seconds)

    def linked(self, size: int) -> None:
        _LINKED.inc(size)

    def damaged(self, what: Literal["artifact", "content"]) -> None:
        _FOUND_DAMAGED[what].inc()


class Load:
    """The load of this process. The counts come from the objects that maintain them, as plain numbers."""

    def __init__(self) -> None:
        self._seen = {"uploads": 0, "memory": 0, "connections": 0, "storage": 0, "replies": 0}

    def observe(self, open_: int, uploads: int, connections: Mapping[str, int], refused: Mapping[str, int]) -> None:
        """Update the metrics. `open_`: connections of clients. `connections`: to the database, by state. `refused`: by
        reason, counted since the process started."""
        _OPEN.set(open_)
        _UPLOADS.set(uploads)
        for state, count in connections.items():
            _CONNECTIONS.labels(state).set(count)
        for reason, count in refused.items():
            _REFUSALS.labels(reason).inc(count - self._seen[reason])
        self._seen = dict(refused)
