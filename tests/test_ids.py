"""Ids: their layout, their order, and the bucket that all ids of one run share."""

import time
from datetime import UTC, datetime
from unittest.mock import patch
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from server.ids import bucket_of, first_id, lowest_id, new_id, new_ids, run_bucket, time_of

buckets = st.integers(0, 0xFFF)


@given(buckets, st.integers(1, 300))
def test_the_layout_is_version_7_with_the_bucket_in_rand_a(bucket, count):
    for some_id in new_ids(bucket, count):
        assert (some_id.version, some_id.variant) == (7, "specified in RFC 4122")
        assert bucket_of(some_id) == bucket == int(some_id.hex[13:16], 16)


@given(buckets, st.integers(0, 300))
def test_ids_of_one_request_ascend_and_are_unique(bucket, count):
    ids = new_ids(bucket, count)
    assert len(ids) == count == len(set(ids))
    assert ids == sorted(ids) and [str(i) for i in ids] == sorted(map(str, ids))


@given(st.binary(min_size=8, max_size=8), st.integers(2, 50))
def test_counting_up_never_overflows_into_the_other_fields(random, count):
    """Also from the highest random start value."""
    with patch("server.ids.os.urandom", lambda _: random):
        ids = new_ids(0xABC, count)
    assert {some_id.int >> 62 for some_id in ids} == {ids[0].int >> 62}
    assert [some_id.int - ids[0].int for some_id in ids] == list(range(count))


def test_the_time_is_in_the_first_48_bits():
    before = time.time_ns() // 1_000_000
    some_id = new_id(0)
    after = time.time_ns() // 1_000_000
    assert before <= some_id.int >> 80 <= after


def test_ids_are_unique_across_requests():
    ids = [some_id for _ in range(2_000) for some_id in new_ids(7, 5)]
    assert len(set(ids)) == 10_000


@given(buckets, st.lists(st.integers(0, 1000), max_size=30), st.integers(1, 4))
def test_later_ids_are_greater_also_when_the_clock_was_set_back_by_a_second(bucket, clock, count):
    ids, base = [], time.time_ns() // 1_000_000 + 10_000
    for milliseconds in clock:
        with patch("server.ids.time.time_ns", lambda now=base + milliseconds: now * 1_000_000):
            ids += new_ids(bucket, count)
    assert ids == sorted(set(ids))


def test_a_clock_that_was_hours_ahead_is_followed_back():
    with patch("server.ids.time.time_ns", lambda: time.monotonic_ns() + 10**19):
        ahead = new_id(0)
    before = time.time_ns() // 1_000_000
    assert before <= new_id(0).int >> 80 < ahead.int >> 80


def test_later_ids_are_greater_whatever_the_bucket():
    first = new_id(0xFFF)
    time.sleep(0.002)
    assert new_id(0) > first


@given(buckets)
def test_the_lowest_id_of_a_time_separates_earlier_ids_from_later_ids(bucket):
    with patch("server.ids.time.time_ns", lambda: 1_700_000_000_123_000_000):
        some_id = new_id(bucket)
    assert lowest_id(1_700_000_000.123) < some_id < lowest_id(1_700_000_000.124)


@given(st.integers(0, (1 << 48) - 1), st.datetimes(datetime(1970, 1, 1), datetime(9998, 12, 31)), buckets)
def test_comparing_with_the_first_id_of_a_moment_is_comparing_times(nanoseconds, moment, bucket):
    moment = moment.replace(tzinfo=UTC)
    with patch("server.ids.time.time_ns", lambda: nanoseconds * 1_000_000 % 253_000_000_000_000_000_000):
        some_id = new_id(bucket)
    for at in (moment, time_of(some_id)):
        assert (some_id >= first_id(at)) == (time_of(some_id) >= at)
    assert first_id(moment) <= UUID(int=(int(moment.timestamp() * 1000) + 1) << 80)


@given(st.text(min_size=1, max_size=500))
def test_a_run_key_always_gives_the_same_bucket(key):
    project = UUID(int=5)
    assert run_bucket(project, key) == run_bucket(project, key) in range(0x1000)


def test_buckets_are_evenly_distributed():
    project = uuid4()
    by_key = {run_bucket(project, str(number)) for number in range(3_000)}
    drawn = {run_bucket(project, None) for _ in range(3_000)}
    by_project = {run_bucket(uuid4(), "same") for _ in range(3_000)}
    # 3,000 draws out of 4,096 hit about 2,130 of them.
    for found in (by_key, drawn, by_project):
        assert len(found) > 1_900 and min(found) >= 0 and max(found) <= 0xFFF
