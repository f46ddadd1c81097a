"""Values as people read them."""

from datetime import UTC, datetime

from server.viewer import words


def test_durations():
    shown = [words.duration(n) for n in (0, 999, 1000, 59_949, 59_950, 60_000, 3_599_499, 3_600_000, 90_061_000)]
    assert shown == [
        "0 ms",
        "999 ms",
        "1.0 s",
        "59.9 s",
        "1 min 0 s",
        "1 min 0 s",
        "59 min 59 s",
        "1 h 0 min",
        "25 h 1 min",
    ]


def test_times_are_utc_from_json_and_from_the_database():
    assert words.moment("2026-01-24T12:00:00.123Z") == "24 Jan 2026, 12:00:00 UTC"
    at = datetime(2026, 1, 24, 12, 0, 0, 123_456, UTC)
    assert words.moment(at) == "24 Jan 2026, 12:00:00 UTC" and words.iso(at) == "2026-01-24T12:00:00.123Z"
    assert words.iso("2026-01-24T12:00:00.123Z") == "2026-01-24T12:00:00.123Z"


def test_sizes_and_numbers():
    shown = [words.size(n) for n in (0, 1, 1023, 1024, 10_189, 10_240, 1 << 20, 1 << 30, 1 << 40, 1 << 60)]
    assert shown == [
        *("0 bytes", "1 byte", "1,023 bytes", "1.0 KiB", "10 KiB", "10 KiB", "1.0 MiB", "1.0 GiB", "1.0 TiB"),
        "1,048,576 TiB",
    ]
    assert [words.number(n) for n in (0, 999, 1_234_567)] == ["0", "999", "1,234,567"]
    assert [words.count(n, "test") for n in (0, 1, 2)] == ["0 tests", "1 test", "2 tests"]
    assert words.count(2, "entry", "entries") == "2 entries"
