"""How log lines look: text for people, or one JSON object a line for machines.

A record may carry `fields`, a dict of plain values: JSON has them as they are, text as name=value. Whatever a client
sends, it makes one line and no other. Evidence links, which are secrets, are in none.
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

# What the sentence of a record has already, where it stands among the fields too.
_SAID = {"method", "path", "status"}
_WORD = re.compile(r"[^\s\"=\\-][^\s\"=\\]*")


class TextLines(logging.Formatter):
    """A line of text; the lines of a traceback follow, indented, so that none of them looks like a record."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_word(value)}" for name, value in _fields(record).items() if name not in _SAID)
        line = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}{fields}"
        lines = [redact_links(line)]
        if record.exc_info:
            lines += [f"    {part}" for part in redact_links(self.formatException(record.exc_info)).splitlines()]
        return "\n".join(map(visible, lines))


class JsonLines(logging.Formatter):
    """One JSON object a line; a traceback is a field of it."""

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
        except orjson.JSONEncodeError:  # bytes of a path that are no UTF-8, which Python has as lone surrogates
            line = json.dumps(entry, default=repr)
        # JSON may have all but the first 32 as they are, among them what some take for a line's end or a terminal for
        # a command. Outside of its strings there is nothing that could need this.
        line = redact_links(line)
        return line if line.isprintable() else _escaped(line, lambda character: json.dumps(character)[1:-1])


def set_up(config: LogConfig) -> None:
    """Sends the log to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if config.format == "json" else TextLines())
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    # No line names its thread or process, and looking them up costs 1 µs a line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.getLogger("yoyo").setLevel(logging.WARNING)  # it tells every statement


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def _time(record: logging.LogRecord) -> str:
    """UTC with three digits and Z, as in replies."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _word(value: object) -> str:
    """A value that ends where the next space is: text that has one, or could pass for a field, in quotes."""
    if value is None:
        return "-"
    if isinstance(value, str) and not _WORD.fullmatch(value):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def visible(text: str) -> str:
    """Control characters, line ends and what turns the direction of text as escapes: one line, and no command to a
    terminal."""
    return text if text.isprintable() else _escaped(text, lambda character: ascii(character)[1:-1])


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    return "".join(character if character.isprintable() else escape(character) for character in text)
