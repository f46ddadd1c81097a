"""The configuration as the commands take it."""

from pathlib import Path
from typing import Any

from server import config
from server.config import Config
from server.redact.patterns import Patterns


def load(path: Path | None, **layers: Any) -> Config:
    """config.load, and what only the code that uses a value can refuse. Raises ConfigError."""
    loaded = config.load(path, **layers)
    Patterns(loaded.api.mask_patterns).close()
    return loaded
