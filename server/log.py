"""How log lines look: text for people, or one JSON object a line for machines."""

import logging
from datetime import UTC, datetime

import orjson

from server.config import LogConfig


class JsonLines(logging.Formatter):
    """One JSON object a line; a traceback is a field of it."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(entry).decode()


def set_up(config: LogConfig) -> None:
    """Sends the log to standard error."""
    handler = logging.StreamHandler()
    if config.format == "json":
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    logging.getLogger("yoyo").setLevel(logging.WARNING)  # it tells every statement
