"""How deeply JSON is nested, and where in it a value is. Neither needs more memory than the JSON itself."""

from array import array
from itertools import accumulate

from server.errors import Invalid, Problem

MAX_DEPTH = 64

# The keys and indexes from the root to a value, as a linked list: siblings share the links above them. With a text for
# each level instead, 0.2 MiB of nested objects with long keys took 2.3 GB.
Where = tuple["Where", str | int] | None

# Only methods of bytes are used: a loop over brackets or tokens would cost more than decoding the JSON.
_DELETED = bytes(set(range(256)) - set(b'"[]{}'))
_STEPS = bytes({ord("["): 1, ord("{"): 1, ord("]"): 255, ord("}"): 255}.get(byte, 0) for byte in range(256))
_PORTION = 64 << 10


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
