"""Encodes rows as one JSON parameter, which queries read with json_to_recordset: fields are columns of that name."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from server.background import aside

_PORTION = 256 << 10  # bytes
_ROW = 200  # bytes of a long row that take as long as a row by itself; and as its id, which the caller has just made
_STATEMENT = 4 << 20  # bytes


def encode(rows: Any) -> bytes:
    """A Struct, or a list of them, as JSON. Absent and None become NULL. `json` bytes of an object are copied as is."""
    return _encoder.encode(rows)


async def encode_many(rows: Sequence[Any]) -> bytes:
    """A list of Structs as JSON. 16 MiB take 0.1 s, in which no other request would be served: so in portions."""
    parts = [part async for part in _encoded(rows)]
    return await _joined(parts)


async def encode_portions(rows: Sequence[Any]) -> AsyncIterator[tuple[int, bytes]]:
    """As encode_many, in lists of a few MiB, each with its number of rows: redaction can double the size of a log, and
    to send it as one parameter would take 0.1 s."""
    parts: list[bytes] = []
    size = 0
    async for part in _encoded(rows):
        if size + len(part) > _STATEMENT and parts:
            yield len(parts), await _joined(parts)
            parts, size = [], 0
        parts.append(part)
        size += len(part)
    if parts:
        yield len(parts), await _joined(parts)


async def _encoded(rows: Sequence[Any]) -> AsyncIterator[bytes]:
    size = len(rows) * _ROW
    for row in rows:
        part = encode(row)
        size += len(part) + _ROW
        if size > _PORTION:
            size = 0
            await asyncio.sleep(0)
        yield part


async def _joined(parts: list[bytes]) -> bytes:
    return await aside(sum(map(len, parts)), lambda: b"[" + b",".join(parts) + b"]")


def _plain(value: object) -> object:
    """The hook of msgspec for types that it does not support, such as subclasses."""
    if isinstance(value, str):
        return str(value)
    return msgspec.Raw(value.json)  # type: ignore[attr-defined]


_encoder = msgspec.json.Encoder(enc_hook=_plain)
