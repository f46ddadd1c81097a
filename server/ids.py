"""Makes every id of the service. Nothing else may make one, so that the layout below always holds."""

import hashlib
import os
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

_RAND_B = 1 << 62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_ids(bucket: int, count: int) -> list[UUID]:
    """`count` ascending UUIDs, version 7 (RFC 9562), whose 12 bits `rand_a` are `bucket`.

    The bucket is that of the suite run, so that the shard of a distributed database can be told from any
    id in a URL. The random part counts up, so that ids of one request sort in the order they were sent.
    """
    milliseconds = time.time_ns() // 1_000_000
    # A start in the lower half leaves room to count up without a carry into the variant bits.
    start = int.from_bytes(os.urandom(8)) % (_RAND_B // 2)
    high = (milliseconds & (1 << 48) - 1) << 80 | 7 << 76 | bucket << 64 | 2 << 62
    return [UUID(int=high | start + i) for i in range(count)]


def new_id(bucket: int) -> UUID:
    """One id; see new_ids."""
    return new_ids(bucket, 1)[0]


def lowest_id(seconds: float) -> UUID:
    """Below every id made since then (seconds since 1970) and above every one made before: for what has come since."""
    return UUID(int=int(seconds * 1000) << 80)


def time_of(some_id: UUID) -> datetime:
    """When it was made, in whole milliseconds."""
    return _EPOCH + timedelta(milliseconds=some_id.int >> 80)


def first_id(moment: datetime) -> UUID:
    """Below every id whose time_of is `moment` or later, above every other."""
    milliseconds = -((_EPOCH - moment) // timedelta(milliseconds=1))  # rounded up
    return UUID(int=milliseconds << 80)


def bucket_of(some_id: UUID) -> int:
    """The 12 bits that every id below one suite run repeats."""
    return some_id.int >> 64 & 0xFFF


def run_bucket(project_id: UUID, run_key: str | None) -> int:
    """The bucket of a new suite run: the same for the same `run_key`, otherwise random."""
    if run_key is None:
        return int.from_bytes(os.urandom(2)) & 0xFFF
    return int.from_bytes(hashlib.sha256(project_id.bytes + run_key.encode()).digest()[:2]) & 0xFFF
