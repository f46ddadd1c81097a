"""The figures of what happens on the disk: the time of fsync, and bytes that were not stored twice."""

from typing import Literal

import prometheus_client
from prometheus_client import Counter, Histogram

from server.uploads.disk import Watch

# When each counter began, as a figure of its own: twice the lines, and with several workers there are none.
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


class DiskFigures(Watch):
    """Counts what the disk does."""

    def synced(self, what: Literal["file", "folder"], seconds: float) -> None:
        _SYNCED[what].observe(seconds)

    def linked(self, size: int) -> None:
        _LINKED.inc(size)
