"""JSON of any origin, read whole: any encoding, bounded in size, values and depth, and what is whole of a cut file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from reportd_client.formats.result import Empty, Unreadable

MAX_FILE = 128 << 20  # bytes; as Python's text and values it takes up to three times as much
MAX_VALUES = 2_000_000  # a list of empty lists takes 30 times as much memory as its text
MAX_DEPTH = 200
CUT = "\ufdd0cut"  # the key that is put into every object whose end is missing
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)


def begins_json(head: bytes) -> bool:
    """Whether this is the beginning of a list or an object, also in UTF-16."""
    return ascii_of(head)[:1] in (b"{", b"[")


def ascii_of(head: bytes) -> bytes:
    """The beginning of a file without a mark of its encoding, also of UTF-16: enough to look for names in it."""
    return head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")


def read(path: Path) -> tuple[Any, bool]:
    """The value of a file, and whether the end of the file is missing: then the objects that are not whole have the
    key CUT. Raises Unreadable, Empty."""
    try:
        if path.stat().st_size > MAX_FILE:
            raise Unreadable(f"{path} is larger than {MAX_FILE >> 20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"Cannot read {path}: {error.strerror}") from None
    text = data.decode(json.detect_encoding(data), "replace").lstrip("\ufeff")
    del data
    return parse(text, str(path))


def parse(text: str, name: str) -> tuple[Any, bool]:
    """As read(), of a text; `name` says in errors where it came from."""
    if not text.strip():
        raise Empty(f"{name} is empty")
    ends = _open_at_end(text, name)
    try:
        return json.loads(text, strict=False), False
    except RecursionError:
        raise Unreadable(f"{name} is nested too deeply") from None
    except ValueError as error:
        if ends is None:
            raise Unreadable(f"{name} is no JSON: {error}") from None
        try:
            return json.loads(text[: ends[0]] + ends[1], strict=False), True
        except (ValueError, RecursionError):
            raise Unreadable(f"{name} is no JSON: {error}") from None


def _open_at_end(text: str, name: str) -> tuple[int, str] | None:
    """Where the last whole value ends, and what closes the lists and objects that are open there; None when none is.
    Raises Unreadable when there are too many values, or lists in lists."""
    open_, count = "", 0
    at, closing = 0, ""
    for token in _TOKEN.finditer(text):
        character = token[0]
        if character[0] == '"':
            continue
        count += 1
        if count > MAX_VALUES:
            raise Unreadable(f"{name} has more than {MAX_VALUES:,} values")
        if character in "[{":
            if len(open_) == MAX_DEPTH:
                raise Unreadable(f"{name} is nested too deeply")
            open_ += character
            at, closing = token.end(), open_
        elif character == ",":
            at, closing = token.start(), open_
        else:
            open_ = open_[:-1]
            at, closing = token.end(), open_
    if not open_:
        return None
    return at, _closed(text[at - 1], closing)


def _closed(before: str, opened: str) -> str:
    """What closes these brackets. `before`: the character before, after which a comma may not stand."""
    parts, first = [], before in "[{"
    for bracket in reversed(opened):
        parts.append("]" if bracket == "[" else f"{'' if first else ','}{json.dumps(CUT)}:true}}")
        first = False
    return "".join(parts)
