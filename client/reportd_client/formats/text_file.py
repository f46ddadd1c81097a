"""Text files of any origin, line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterator

from reportd_client.formats.markup import MAX_FILE
from reportd_client.formats.result import Unreadable

MAX_LINE = 48 << 20  # characters; an attachment is within one
MAX_LINES = 2_000_000


def encoding_of(head: bytes) -> str:
    """UTF-8, or the UTF-16 or UTF-32 that a file with these first bytes has."""
    return json.detect_encoding(head[:4])


def lines(path: Path) -> Iterator[str]:
    """The lines of a file with their ends; one that is too long is cut, and has no end. Raises Unreadable."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise Unreadable(f"{path} is larger than {MAX_FILE >> 20} MiB")
        with path.open("rb") as stream:
            encoding = encoding_of(stream.read(4))
        with path.open(encoding=encoding, errors="replace", newline="\n") as text:
            count = 0
            while line := text.readline(MAX_LINE):
                count += 1
                if count > MAX_LINES:
                    raise Unreadable(f"{path} has more than {MAX_LINES:,} lines")
                yield line
                while line and line[-1] != "\n":  # the rest of a long one
                    line = text.readline(MAX_LINE)
    except OSError as error:
        raise Unreadable(f"Cannot read {path}: {error.strerror}") from None
