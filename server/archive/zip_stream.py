"""Writes a zip while it is sent: nothing of an entry is kept but some 300 bytes of its name, size and hash.

The sizes of an entry follow its bytes (a data descriptor), because they are not known before. zip64 is used where a
number needs it: an entry or an archive of 4 GiB and more, or more than 65,534 entries. Python's zipfile would keep
about 1 KiB for each entry.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime

MANIFEST = "MANIFEST.sha256"
HELD = 300  # bytes that an entry with a name of 75 characters keeps until the archive ends
_STORED, _DEFLATED = 0, 8
_FLAGS = 1 << 3 | 1 << 11  # sizes follow the bytes; names are UTF-8
_FULL = 0xFFFFFFFF
_LEVEL = 5
_REGULAR_FILE = 0o100644 << 16
_ZIP64, _PLAIN = 45, 20  # the version of the format that a reader needs
_UNIX = 3 << 8


class ZipStream:
    """One archive. Its methods return the bytes to send next: begin(), take() …, end() for each entry; then finish().

    `moment`: the time of all entries.
    """

    def __init__(self, moment: datetime) -> None:
        moment = moment.astimezone(UTC)
        year = min(max(moment.year, 1980), 2107) - 1980
        self._date = year << 9 | moment.month << 5 | moment.day
        self._time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
        self._directory, self._manifest, self._notes = bytearray(), bytearray(), bytearray()
        self._entries = self._at = 0
        self._name, self._method, self._large, self._start = b"", _STORED, False, 0
        self._crc = self._size = self._packed = 0
        self._sum = hashlib.sha256()
        self._packer = zlib.compressobj()

    def begin(self, name: str, compress: bool, size: int = 0) -> bytes:
        """The head of an entry. `size`: of its bytes, as far as that is known; needed for 4 GiB and more."""
        self._name, self._start = name.encode(), self._at
        self._method, self._large = (_DEFLATED if compress else _STORED), size >= _FULL
        self._crc = self._size = self._packed = 0
        self._sum, self._packer = hashlib.sha256(), zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
        extra = struct.pack("<HHQQ", 1, 16, 0, 0) if self._large else b""
        unknown = _FULL if self._large else 0
        version = _ZIP64 if self._large else _PLAIN
        head = struct.pack("<4sHHHHHLLLHH", b"PK\3\4", version, _FLAGS, self._method, self._time, self._date, 0,
                           unknown, unknown, len(self._name), len(extra))  # fmt: skip
        return self._sent(head + self._name + extra)

    def take(self, part: bytes) -> bytes:
        """The next bytes of the entry. Takes 1 ms for 256 KiB, or 10 ms if they are compressed."""
        self._sum.update(part)
        self._crc = zlib.crc32(part, self._crc)
        self._size += len(part)
        packed = self._packer.compress(part) if self._method else part
        self._packed += len(packed)
        return self._sent(packed)

    def end(self) -> bytes:
        """The end of the entry. Its hash is then in `digest`."""
        rest = self._packer.flush() if self._method else b""
        self._packed += len(rest)
        sizes = struct.pack("<QQ" if self._large else "<LL", self._packed, self._size)
        self._list()
        if self._name != MANIFEST.encode():
            self._manifest += self.digest.encode() + b"  " + self._name + b"\n"
        return self._sent(rest + struct.pack("<4sL", b"PK\7\10", self._crc) + sizes)

    @property
    def digest(self) -> str:
        """The SHA-256 of the bytes of the entry so far."""
        return self._sum.hexdigest()

    def note(self, text: str) -> None:
        """Add a comment to the manifest, which `sha256sum --check` ignores."""
        self._notes += f"# {text}\n".encode()

    def finish(self, most: int) -> Iterator[bytes]:
        """The manifest and the directory of the archive, in parts of at most `most` bytes."""
        manifest = bytes(self._manifest + self._notes)
        self._manifest, self._notes = bytearray(), bytearray()
        yield self.begin(MANIFEST, compress=False)
        for start in range(0, len(manifest), most):
            yield self.take(manifest[start : start + most])
        yield self.end()
        view = memoryview(self._directory)
        for start in range(0, len(view), most):
            yield bytes(view[start : start + most])
        yield self._tail(len(view))

    def _sent(self, part: bytes) -> bytes:
        self._at += len(part)
        return part

    def _list(self) -> None:
        """Add the entry to the directory."""
        large = [number for number in (self._size, self._packed, self._start) if number >= _FULL]
        extra = struct.pack(f"<HH{len(large)}Q", 1, 8 * len(large), *large) if large else b""
        version = _ZIP64 if large or self._large else _PLAIN
        packed, size, start = (min(number, _FULL) for number in (self._packed, self._size, self._start))
        self._directory += struct.pack("<4sHHHHHHLLLHHHHHLL", b"PK\1\2", _UNIX | version, version, _FLAGS, self._method,
                                       self._time, self._date, self._crc, packed, size, len(self._name), len(extra), 0,
                                       0, 0, _REGULAR_FILE, start)  # fmt: skip
        self._directory += self._name + extra
        self._entries += 1

    def _tail(self, length: int) -> bytes:
        start, count, tail = self._at, self._entries, b""
        if start >= _FULL or length >= _FULL or count >= 0xFFFF:
            version = _UNIX | _ZIP64, _ZIP64
            tail += struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, *version, 0, 0, count, count, length, start)
            tail += struct.pack("<4sLQL", b"PK\6\7", 0, start + length, 1)
        few = min(count, 0xFFFF)
        return tail + struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, few, few, min(length, _FULL), min(start, _FULL), 0)
