"""Times of reports that count milliseconds since 1970."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Any, Optional

_LAST = 2**32 * 1000


def iso(value: Any) -> Optional[str]:
    """A time in UTC; None when it is none."""
    number = _number(value)
    if not number:
        return None
    return datetime.fromtimestamp(number / 1000, timezone.utc).isoformat(timespec="milliseconds")


def milliseconds(start: Any, stop: Any) -> Optional[int]:
    first, last = _number(start), _number(stop)
    return None if not first or not last else round(min(max(0, last - first), 2**31 - 1))


def _number(value: Any) -> Optional[float]:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) and 0 <= value < _LAST else None
