"""Values as people read them: durations, sizes, numbers, times, and what a status looks like."""

from datetime import datetime, timedelta

_UNITS = (("min", 60), ("h", 3600), ("day", 86_400))
_OLD = 30 * 86_400  # seconds; from here on, a date says more than a number of days

# Colour never speaks alone: each status has a word and a shape.
SHAPES = {"Passed": "✓", "Failed": "✕", "Skipped": "–", "Pending": "○", "Running": "◐", "Flaky": "↻"}


def moment(value: str | datetime) -> str:
    """A time, in UTC, as `24 Jan 2026, 12:00:00 UTC`. `value`: ISO 8601, or a datetime in UTC."""
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{at:%d %b %Y, %H:%M:%S} UTC"


def iso(value: str | datetime) -> str:
    """A time as HTML's `datetime` attribute has it."""
    return value if isinstance(value, str) else f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03}Z"


def duration(milliseconds: int) -> str:
    """As `340 ms`, `38.2 s`, `3 min 7 s` or `2 h 5 min`."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if milliseconds < 59_950:
        return f"{milliseconds / 1000:.1f} s"
    seconds = round(milliseconds / 1000)
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{number(seconds // 3600)} h {seconds // 60 % 60} min"


def about(milliseconds: int) -> str:
    """A duration in its largest unit or two: `340 ms`, `38 s`, `41 min`, `2 h 5 min`."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    seconds = round(milliseconds / 1000)
    if seconds < 60:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{number(minutes // 60)} h {minutes % 60} min"


def span(length: timedelta) -> str:
    """A time that has passed, in one unit, rounded down: `5 min`, `2 h`, `3 days`."""
    seconds = max(0, int(length.total_seconds()))
    name, unit = next(((name, unit) for name, unit in reversed(_UNITS) if seconds >= unit), _UNITS[0])
    return count(seconds // unit, name) if name == "day" else f"{seconds // unit} {name}"


def age(value: datetime, now: datetime) -> str:
    """How long ago, as `now`, `5 min ago` or `3 days ago`; from 30 days on the date, as `24 Jan 2026`."""
    length = now - value
    if length.total_seconds() >= _OLD:
        return f"{value:%d %b %Y}"
    return "now" if length.total_seconds() < 60 else f"{span(length)} ago"


def commit(sha: str) -> str:
    """A commit as people write it: the first 7 digits."""
    return sha[:7]


def size(bytes: int) -> str:
    """As `512 bytes`, `200 KiB` or `1.5 GiB`."""
    if bytes < 1024:
        return count(bytes, "byte")
    value, units = bytes / 1024, ["TiB", "GiB", "MiB", "KiB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1024
        units.pop()
    return f"{value:.1f} {units[-1]}" if value < 9.95 else f"{number(round(value))} {units[-1]}"


def number(value: int) -> str:
    """With a comma between thousands."""
    return f"{value:,}"


def count(value: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 test`, `512 tests`."""
    return f"{number(value)} {noun if value == 1 else plural or noun + 's'}"


def first_line(text: str) -> str:
    """The first line that is not empty, of at most 300 characters."""
    line = text.strip().partition("\n")[0].strip()
    return line if len(line) <= 300 else line[:299] + "…"
