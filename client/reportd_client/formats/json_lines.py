"""A JSON object in each line, as runners write them while they run: read line by line, in any encoding, bounded."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Iterator, Optional

from reportd_client.formats import json_file
from reportd_client.formats.markup import HEAD, MAX_FILE
from reportd_client.formats.result import Empty, Unreadable

MAX_LINE = 16 << 20  # characters


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


def _object(line: str, name: str) -> Optional[dict[str, Any]]:
    if line.count("[") + line.count("{") > json_file.MAX_DEPTH:  # it may have too many values, or lists in lists
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
