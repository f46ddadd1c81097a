"""A JSON object in each line, as runners write them while they run: read line by line, in any encoding, bounded."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

from reportd_client.formats import json_file
from reportd_client.formats.markup import HEAD, MAX_FILE
from reportd_client.formats.result import Empty, Unreadable

MAX_LINE = 64 << 20  # characters; an attachment is within one
_TRUSTED = 1 << 20  # characters of a line that cannot need much memory


def read(path: Path) -> Iterator[Optional[dict[str, Any]]]:
    """The object of each line; None for a line that is no whole object, or too long. Raises Unreadable, Empty."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise Unreadable(f"{path} is larger than {MAX_FILE >> 20} MiB")
        with path.open("rb") as file:
            head = file.read(HEAD)
            if not head.strip(b" \t\r\n\0\xef\xbb\xbf\xff\xfe"):
                raise Empty(f"{path} is empty")
            file.seek(0)
            with io.TextIOWrapper(file, json.detect_encoding(head), "replace", newline="\n") as lines:
                while line := lines.readline(MAX_LINE + 1):
                    is_long = len(line) > MAX_LINE
                    while len(line) > MAX_LINE and line[-1] != "\n":
                        line = lines.readline(MAX_LINE + 1) or "\n"
                    if is_long:
                        yield None
                    elif line.strip():
                        yield _object(line, str(path))
    except OSError as error:
        raise Unreadable(f"Cannot read {path}: {error.strerror}") from None


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
            value, is_cut = json.loads(line, strict=False), False
        except ValueError:
            return None
    return value if isinstance(value, dict) and not is_cut else None
