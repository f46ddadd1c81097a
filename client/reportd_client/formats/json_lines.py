"""A JSON object in each line, as runners write them while they run: read line by line, in any encoding, bounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

from reportd_client.formats import json_file, text_file
from reportd_client.formats.result import Empty, Unreadable

_TRUSTED = 1 << 20  # characters of a line that cannot need much memory


def read(path: Path) -> Iterator[Optional[dict[str, Any]]]:
    """The object of each line; None for a line that is no whole object, or too long. Raises Unreadable, Empty."""
    is_empty = True
    for line in text_file.lines(path):
        if line.strip("\ufeff \t\r\n\0"):
            is_empty = False
            yield _object(line, str(path))
    if is_empty:
        raise Empty(f"{path} is empty")


def objects(path: Path, what: str, note: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The objects of a file, whose other lines `note` gets a sentence about. `what` it should be, for errors. Raises
    Unreadable, Empty."""
    damaged, count, first = 0, 0, 0
    for number, value in enumerate(read(path), 1):
        if value is None:
            damaged += 1
            first = first or number
        else:
            count += 1
            yield value
    if not count:
        raise Unreadable(f"{path} is no {what}: none of its lines is a JSON object")
    if damaged:
        note(f"{path} is cut or damaged: {damaged:,} of its lines cannot be read, the first is line {first:,}")


def _object(line: str, name: str) -> Optional[dict[str, Any]]:
    if len(line) > _TRUSTED or line.count("[") + line.count("{") > json_file.MAX_DEPTH:
        try:
            value, is_cut = json_file.parse(line, name)
        except Unreadable:
            return None
    else:
        try:
            value, is_cut = json.loads(line.lstrip("\ufeff"), strict=False), False
        except ValueError:
            return None
    return value if isinstance(value, dict) and not is_cut else None
