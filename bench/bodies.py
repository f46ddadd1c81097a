"""Upload bodies: real PNGs of random pixels with right checksums, each different, prebuilt: sending costs little."""

import json
import os
import struct
import zlib

BOUNDARY = b"----reportd-bench-boundary"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"
_SERIAL = b"Comment\0%032x"
_SERIAL_LENGTH = len(_SERIAL % 0)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(size: int, serial: int = 0) -> bytes:
    """A PNG of about `size` bytes: incompressible pixels, and a comment that makes it differ from all others."""
    width = max(8, int((size / 3) ** 0.5))
    height = max(1, (size - 200) // (3 * width))
    pixels = b"".join(b"\0" + os.urandom(3 * width) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    comment = _chunk(b"tEXt", _SERIAL % serial)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + comment
        + _chunk(b"IDAT", zlib.compress(pixels, 0))
        + _chunk(b"IEND", b"")
    )


class Body:
    """A multipart body whose files can be made new in place, by a serial number and its checksum."""

    def __init__(self, files: int, size: int) -> None:
        entries = [{"file_index": i, "artifact_type": "screenshot", "step_number": i} for i in range(files)]
        parts = [self._part(b'name="metadata"', b"", json.dumps(entries).encode())]
        for i in range(files):
            head = b'name="files"; filename="step_%03d.png"' % i
            parts.append(self._part(head, b"Content-Type: image/png\r\n", png(size)))
        self.bytes = bytearray(b"".join(parts) + b"--" + BOUNDARY + b"--\r\n")
        self._places = []
        place = self.bytes.find(b"tEXt")
        while place >= 0:
            self._places.append(place)
            place = self.bytes.find(b"tEXt", place + len(b"tEXt") + _SERIAL_LENGTH + 4)
        self._places = self._places[:files]

    def renew(self, serial: int) -> bytearray:
        """The body with files that were never sent before."""
        for i, place in enumerate(self._places):
            chunk = b"tEXt" + _SERIAL % (serial * 1000 + i)
            self.bytes[place : place + len(chunk) + 4] = chunk + struct.pack(">I", zlib.crc32(chunk))
        return self.bytes

    @staticmethod
    def _part(disposition: bytes, headers: bytes, data: bytes) -> bytes:
        head = b"Content-Disposition: form-data; " + disposition + b"\r\n" + headers
        return b"--" + BOUNDARY + b"\r\n" + head + b"\r\n" + data + b"\r\n"
