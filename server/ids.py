"""Creates every id of the server. Other modules rely on the layout below: time, bucket, random part."""

import hashlib
import os
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from asyncpg.pgproto.pgproto import UUID as RowUUID  # of rows: made, and sent to the database, in a quarter of the time

_RAND_B = 1 << 62
_STEP_BACK = 1000  # milliseconds: a clock that is set back by more (wrong before, now right) is followed
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_last = (0, 0)  # of this process: the milliseconds and the random part of its newest id


def new_ids(bucket: int, count: int) -> list[UUID]:
    """`count` ascending UUIDs, version 7 (RFC 9562), with `bucket` in the 12 bits of `rand_a`.

    All ids of a suite run have its bucket, so a distributed database can find the shard from any id in a URL.
    The random part counts up, so that the ids of one request sort in the order in which its items were sent. So do
    those of later requests to this process, also within a millisecond and when its clock is set back by up to a second.
    """
    global _last  # only the event loop and commands call this, never two threads at once
    milliseconds, (newest, used) = time.time_ns() // 1_000_000, _last
    # Starting in the lower half of the range, the count cannot carry into the variant bits.
    start = int.from_bytes(os.urandom(8)) % (_RAND_B // 2)
    if newest - _STEP_BACK <= milliseconds <= newest:
        # The gap is random: workers that were forked from one process must not count up from the same id.
        milliseconds, start = newest, used + 1 + (start >> 20)
    _last = milliseconds, start + count
    high = (milliseconds & (1 << 48) - 1) << 80 | 7 << 76 | bucket << 64 | 2 << 62
    return [RowUUID((high | start + i).to_bytes(16)) for i in range(count)]


def new_id(bucket: int) -> UUID:
    """One id; see new_ids."""
    return new_ids(bucket, 1)[0]


def lowest_id(seconds: float) -> UUID:
    """A lower bound for the ids made since `seconds` (Unix time): above every id made in an earlier millisecond."""
    return UUID(int=int(seconds * 1000) << 80)


def time_of(some_id: UUID) -> datetime:
    """When the id was made: UTC, in whole milliseconds."""
    return _EPOCH + timedelta(milliseconds=some_id.int >> 80)


def seconds_of(some_id: UUID) -> float:
    """As time_of, in Unix time: also for an id that was not made here, whose time may lie after the year 9999."""
    return (some_id.int >> 80) / 1000


def first_id(moment: datetime) -> UUID:
    """A lower bound for the ids whose time_of is `moment` or later: above every earlier id."""
    milliseconds = -((_EPOCH - moment) // timedelta(milliseconds=1))  # rounded up
    return UUID(int=milliseconds << 80)


def bucket_of(some_id: UUID) -> int:
    """The bucket of an id: 12 bits, the same in all ids of one suite run."""
    return some_id.int >> 64 & 0xFFF


def run_bucket(project_id: UUID, run_key: str | None) -> int:
    """The bucket of a new suite run: the same for the same project and `run_key`; random without a `run_key`."""
    if run_key is None:
        return int.from_bytes(os.urandom(2)) & 0xFFF
    return int.from_bytes(hashlib.sha256(project_id.bytes + run_key.encode()).digest()[:2]) & 0xFFF
