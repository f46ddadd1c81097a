"""Hides what a report says to be secret, in all texts of its test: tools write it into titles and traces, too."""

from __future__ import annotations

from typing import Any, Iterable

from reportd_client.formats.result import Result
from reportd_client.mask import REDACTED

_SHORTEST = 4  # characters of a value that can be told from other text
_KEPT = ("test_id", "status", "started_at", "completed_at", "step_type", "level")


def hide(result: Result, secrets: Iterable[str]) -> None:
    """Replace these values in the texts of a result, except those that say which test it is."""
    values = sorted({value for value in secrets if len(value) >= _SHORTEST}, key=len, reverse=True)
    if not values:
        return
    for entry in (result.test, *result.steps, *result.console_logs):
        for name, value in entry.items():
            if name not in _KEPT:
                entry[name] = _without(values, value)


def _without(secrets: list[str], value: Any) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, REDACTED)
    elif isinstance(value, dict):
        return {name: _without(secrets, item) for name, item in value.items()}
    elif isinstance(value, list):
        return [_without(secrets, item) for item in value]
    return value
