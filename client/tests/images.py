"""Small images, each with bytes of its own."""

from __future__ import annotations

import itertools
import struct
import zlib

_numbers = itertools.count(1 << 20)  # this process has a server of its own, and no test has so large a number


def png(number: int) -> bytes:
    row = zlib.compress(b"\0" + bytes([number % 256, number // 256 % 256, number // 65536]))
    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", row) + _chunk(b"IEND", b"")


def fresh() -> bytes:
    """An image that no other test has sent to the same server."""
    return png(next(_numbers))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
