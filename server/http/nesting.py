"""How deeply JSON is nested, how many values it has, and where in it a value is. None of these needs more memory than
the JSON itself."""

import re
from array import array
from itertools import accumulate

from server.errors import Invalid, Problem, TooLarge

MAX_DEPTH = 64
MAX_VALUES = 1_000_000  # of a body; 16 MiB of short HTTP headers have half of it
_BYTES_EACH = 16  # a larger body, if the configuration allows it, may have a value for each 16 bytes

# The keys and indexes from the root to a value, as a linked list: siblings share the links above them. With a text for
# each level instead, 0.2 MiB of nested objects with long keys took 2.3 GB.
Where = tuple["Where", str | int] | None

# Only methods of bytes are used: a loop over brackets or tokens would cost more than decoding the JSON.
_DELETED = bytes(set(range(256)) - set(b'"[]{}'))
_STEPS = bytes({ord("["): 1, ord("{"): 1, ord("]"): 255, ord("}"): 255}.get(byte, 0) for byte in range(256))
_PORTION = 64 << 10
_BACKSLASHES = re.compile(rb"\\*")


def check_depth(raw: bytes, path: str = "") -> None:
    """Raises Invalid for JSON of more than MAX_DEPTH levels, before it is decoded. `path`: where this JSON is."""
    kept = raw.translate(None, _DELETED)
    if kept.count(b"[") + kept.count(b"{") <= MAX_DEPTH:  # also counts brackets in strings, so there may be more
        return
    if b"\\" in raw:
        kept = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _DELETED)
    depth, brackets = 0, _outside_strings(kept).translate(_STEPS)
    for start in range(0, len(brackets), _PORTION):
        changes = array("b", brackets[start : start + _PORTION])  # 1 for an opening bracket, -1 for a closing one
        if max(accumulate(changes, initial=depth)) > MAX_DEPTH:
            raise Invalid(Problem(path, f"must not be nested deeper than {MAX_DEPTH} levels"))
        depth += sum(changes)


def check_count(raw: bytes) -> None:
    """Raises TooLarge for JSON with too many values, before it is decoded: of 15 MiB like `[[],[],…]` or `{"1":1,…}`,
    Python would make some 400 MB of objects, and no other request would be served for up to a second.

    Commas and brackets in strings do not count. Strings are only looked at in a body that may have too many values.
    """
    most = max(MAX_VALUES, len(raw) // _BYTES_EACH)
    if len(raw) <= 2 * most or _beginnings(raw) <= most:  # a value and what stands before it are two bytes
        return
    start, within, count = 0, 0, 0
    while start < len(raw) and count <= most:
        backslashes = _BACKSLASHES.match(raw, min(len(raw), start + _PORTION))
        end = (backslashes.end() if backslashes else len(raw)) + 1  # an escaped character stays in this portion
        parts = raw[start:end].replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        count += _beginnings(b"".join(parts[within::2]))
        start, within = end, (within + len(parts) - 1) % 2
    if count > most:
        raise TooLarge(f"The body has too many values: more than about {most:,}. Send it in several requests.")


def _beginnings(raw: bytes) -> int:
    """How many commas and opening brackets there are: one before each value but the outermost, and one in each empty
    array or object."""
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def _outside_strings(kept: bytes) -> bytes:
    """Of brackets and quotes, the brackets that are not in strings."""
    # A pair of adjacent quotes changes nothing about which brackets are within a string.
    kept = kept.replace(b'""', b"")
    return b"".join(kept.split(b'"')[::2]) if b'"' in kept else kept


def path_of(where: Where) -> str:
    """The path in the form of error messages, like `steps[2].status`."""
    parts: list[str] = []
    while where is not None:
        where, key = where
        parts.append(f"[{key}]" if isinstance(key, int) else f".{key[: Problem.MAX_PATH]}")
    return "".join(reversed(parts)).removeprefix(".")
