"""Values of JSON of any origin, each of the type that is needed or of none."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, Optional

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST = 253_000_000_000_000.0  # milliseconds, in the year 9987


def number(value: Any) -> Optional[float]:
    """A number that is neither negative nor endless; None for everything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= _LAST else None


def duration(milliseconds: Any) -> Optional[int]:
    """A duration as the server stores it; None when it is none, or longer than 24 days."""
    value = number(milliseconds)
    return round(value) if value is not None and value < 2**31 else None


def moment(milliseconds: Any) -> Optional[str]:
    """Milliseconds since 1970 as a time in UTC that sorts as text."""
    value = number(milliseconds)
    if not value:
        return None
    return (_EPOCH + timedelta(milliseconds=value)).isoformat(timespec="milliseconds")


def dicts(value: Any) -> list[dict[str, Any]]:
    """The objects of a list that may be none."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def dict_of(value: Any, name: str) -> dict[str, Any]:
    """An object within an object that may be none; empty where it is not."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def text_of(value: Any, name: str) -> str:
    """A text within an object that may be none; empty where it is not."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""
