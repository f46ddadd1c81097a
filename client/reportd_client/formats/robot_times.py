"""Times of Robot Framework, which have no zone: they are taken to be of the zone of the machine that sends."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any, Optional

_OLD = re.compile(r"(\d{4})(\d\d)(\d\d) (\d\d:\d\d:\d\d)\.(\d{3})\Z")  # before Robot Framework 7


def when(text: Any) -> Optional[datetime]:
    if not isinstance(text, str):
        return None
    text = _OLD.sub(r"\1-\2-\3T\4.\5", text.strip())
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(timezone.utc) if 1971 <= found.year < 9998 else None
    except (ValueError, OverflowError, OSError):
        return None


def iso(text: Any) -> Optional[str]:
    found = when(text)
    return found.isoformat(timespec="milliseconds") if found is not None else None


def fields(node: dict[str, Any]) -> dict[str, Any]:
    """`started_at`, `completed_at` and `duration_ms` of a test or a keyword."""
    start, end, elapsed = when(node.get("start_time")), when(node.get("end_time")), _seconds(node.get("elapsed_time"))
    if elapsed is None and start is not None and end is not None:
        elapsed = max(0.0, (end - start).total_seconds())
    if start is not None and end is None and elapsed is not None:
        end = start + timedelta(seconds=elapsed)
    times = {"started_at": start, "completed_at": end}
    texts = {name: time.isoformat(timespec="milliseconds") if time else None for name, time in times.items()}
    return {**texts, "duration_ms": None if elapsed is None else round(elapsed * 1000)}


def _seconds(value: Any) -> Optional[float]:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < 2**31 / 1000 else None
