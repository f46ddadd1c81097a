"""The formats of the log: text for people, or one JSON object per line for machines.

A log record may carry `fields`, a dict of plain values: JSON has them as they are, text as name=value. Nothing that a
client sends can add a line. Evidence links are secrets and are redacted.
"""

import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from server.config import LogConfig
from server.redact.rules import redact_links

# Fields that the text format omits: the message of a request already has them.
_OMITTED = {"method", "path", "status"}
_UNQUOTED = re.compile(r"[^\s\"=\\-][^\s\"=\\]*")


class TextLines(logging.Formatter):
    """A log record as one line of text. The lines of a traceback follow indented, so that none looks like a record."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_quoted(value)}" for name, value in _fields(record).items() if name not in _OMITTED)
        line = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}{fields}"
        lines = [redact_links(line)]
        if record.exc_info:
            lines += [f"    {part}" for part in redact_links(self.formatException(record.exc_info)).splitlines()]
        return "\n".join(map(visible, lines))


class JsonLines(logging.Formatter):
    """A log record as one JSON object on one line. A traceback is a field of the object."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        try:
            line = orjson.dumps(entry).decode()
        except orjson.JSONEncodeError:  # a path that is not UTF-8: Python decodes its bytes to lone surrogates
            line = json.dumps(entry, default=repr, separators=(",", ":"))
        # JSON requires escapes for the first 32 characters only. Escape all others that do not print: programs may read
        # U+2028 as a line end, and terminals obey C1 control characters. They occur only within strings.
        line = redact_links(line)
        return line if line.isprintable() else _escaped(line, lambda character: json.dumps(character)[1:-1])


def set_up(config: LogConfig) -> None:
    """Send the log to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if config.format == "json" else TextLines())
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    # No format shows the thread or the process, and looking them up costs 1 µs per line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.getLogger("yoyo").setLevel(logging.WARNING)  # otherwise it logs every statement


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def _time(record: logging.LogRecord) -> str:
    """UTC with milliseconds and Z, as in replies."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _quoted(value: object) -> str:
    """The text of a field's value, in quotes when it has a space or could be read as another field."""
    if value is None:
        return "-"
    if isinstance(value, str) and not _UNQUOTED.fullmatch(value):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def visible(text: str) -> str:
    """The text with control characters, line ends and text-direction marks escaped. Without this, a client could forge
    a log line or control a terminal."""
    return text if text.isprintable() else _escaped(text, lambda character: ascii(character)[1:-1])


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    return "".join(character if character.isprintable() else escape(character) for character in text)
