"""Values of Playwright's reports as those of the API."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Any, Optional

_LATEST = 253_370_764_800_000  # the year 9999


def number(value: Any) -> Optional[float]:
    """A number of a report, else None."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None


def whole(value: Any, default: int = 0) -> int:
    """A whole number of a report, from -1."""
    found = number(value)
    return default if found is None or not -1 <= found < 2**31 else int(found)


def milliseconds(value: Optional[float]) -> Optional[int]:
    """A duration in whole milliseconds, rounded as JavaScript does."""
    return math.floor(value + 0.5) if value is not None and 0 <= value < 2**31 else None


def iso(time: Optional[float], duration: Optional[int] = 0) -> Optional[str]:
    """The time `duration` after a number of milliseconds since 1970, as JavaScript writes it."""
    if time is None or duration is None or not 0 < time + duration < _LATEST:
        return None
    whole = math.floor(time) + duration
    at = datetime.fromtimestamp(whole // 1000, timezone.utc)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{whole % 1000:03d}Z"


def time_of(text: Any) -> Optional[float]:
    """Milliseconds since 1970 of a text that iso() writes."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp() * 1000
    except (ValueError, OverflowError):
        return None


def texts(values: Any, most: int, length: int) -> list[str]:
    """The texts of a list, each once."""
    found = [value[:length] for value in values if isinstance(value, str) and value] if isinstance(values, list) else []
    return list(dict.fromkeys(found))[:most]
