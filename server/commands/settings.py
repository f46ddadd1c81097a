"""Loads the configuration for a command."""

from pathlib import Path
from typing import Any

from server import config
from server.config import Config
from server.redact.patterns import Patterns


def load(path: Path | None, **layers: Any) -> Config:
    """Like config.load, and also compiles the mask patterns, to refuse a wrong one early. Raises ConfigError."""
    loaded = config.load(path, **layers)
    Patterns(loaded.api.mask_patterns).close()
    return loaded
