"""What is recorded of a test, as the options say."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest

from reportd_client.pytest_plugin import setting

_WHEN = ("failed", "all", "off")


@dataclass(frozen=True)
class Options:
    """`screenshots`, `network` and `output` are `failed`, `all` or `off`; `log_level` is a number of logging."""

    screenshots: str = "failed"
    network: str = "all"
    output: str = "all"
    log_level: int = logging.INFO

    @classmethod
    def of(cls, config: pytest.Config) -> Options:
        """Raises UsageError for a word that does not exist."""
        words = {name: setting(config, name) for name in ("screenshots", "network", "output")}
        for name, word in words.items():
            if word not in _WHEN:
                raise pytest.UsageError(f"reportd_{name} must be one of {', '.join(_WHEN)}, not {word!r}")
        given = str(setting(config, "log_level")).upper()
        level = int(given) if given.isdecimal() else logging.getLevelName(given)
        if not isinstance(level, int):
            raise pytest.UsageError(f"reportd_log_level must be a level of logging, such as INFO, not {given!r}")
        return cls(log_level=level, **words)


def wanted(option: str, failed: bool) -> bool:
    return option == "all" or (option == "failed" and failed)
