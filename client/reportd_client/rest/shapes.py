"""The types of requests and replies, for type checkers: see shapes.pyi. At run time each of them is `dict`."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name[:1].isupper():
        return dict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
