"""Request bodies: prebuilt PNGs of random pixels with valid checksums. Every file is different.

A body is a list of pieces. All requests of a load share the pieces that never change. Only a PNG comment for each file,
which makes the file unique, and a few form fields are built for each request. So the load generator needs little CPU.
"""

import json
import os
import struct
import uuid
import zlib
from collections.abc import Sequence
from typing import Any, Protocol

BOUNDARY = b"----reportd-bench-boundary"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY.decode()}"
_LARGEST_CHUNK = 8_000_000
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def comment(serial: int) -> bytes:
    """A PNG text chunk with a serial number, which makes the file unique."""
    return _chunk(b"tEXt", b"Comment\0%032x" % serial)


class Picture:
    """A PNG of about `size` bytes of incompressible pixels, without its comment.

    Above 8 MB it repeats one chunk of pixels to save memory: chunks and checksums are valid, but the pixels cannot be
    decoded.
    """

    def __init__(self, size: int) -> None:
        repeat = -(-size // _LARGEST_CHUNK)
        part = size // repeat
        width = max(8, int((part / 3) ** 0.5))
        height = max(1, (part - 200) // (3 * width))
        pixels = b"".join(b"\0" + os.urandom(3 * width) for _ in range(height))
        header = struct.pack(">IIBBBBB", width, height * repeat, 8, 2, 0, 0, 0)
        self.head = _SIGNATURE + _chunk(b"IHDR", header)
        self.tail = [_chunk(b"IDAT", zlib.compress(pixels, 0))] * repeat + [_chunk(b"IEND", b"")]

    def file(self, serial: int) -> bytes:
        """The complete file, with its comment."""
        return b"".join([self.head, comment(serial), *self.tail])


class Body(Protocol):
    """The bodies of a load: one for each request, with the serial number `serial`."""

    content_type: str

    def pieces(self, serial: int, step: int, path: int) -> list[bytes]:
        """A body. `path` is the index of the request's path, `step` how many requests to that path came before."""


class Upload:
    """A multipart body: a batch of `files` files, or a single upload of one file."""

    content_type = MULTIPART
    _file_part = b"files"

    def __init__(self, files: int, size: int, single: bool = False) -> None:
        self._pictures = [Picture(size) for _ in range(files)]
        self._single = single
        self._metadata = b"" if single else part(b'name="metadata"', json.dumps(screenshots(files)).encode())

    def pieces(self, serial: int, step: int, path: int = 0) -> list[bytes]:
        """A body with files that were never sent before. `step` is the step number of a single upload."""
        pieces = self._fields(serial, step)
        for i, picture in enumerate(self._pictures):
            name = b'name="%s"; filename="step_%03d.png"' % (b"file" if self._single else self._file_part, i)
            pieces += [_head(name, b"Content-Type: image/png\r\n"), picture.head, comment(serial * 1000 + i)]
            pieces += [*picture.tail, b"\r\n"]
        return [*pieces, b"--" + BOUNDARY + b"--\r\n"]

    def files(self, serial: int) -> list[bytes]:
        """The files of the body with this serial number, to compare with downloads."""
        return [picture.file(serial * 1000 + i) for i, picture in enumerate(self._pictures)]

    def _fields(self, serial: int, step: int) -> list[bytes]:
        """The parts before the files."""
        if self._single:
            return [part(b'name="artifact_type"', b"screenshot"), part(b'name="step_number"', b"%d" % step)]
        return [self._metadata]


class Attachment(Upload):
    """A multipart body of a test run as SQUAD takes it: a result, and `files` files."""

    _file_part = b"attachment"

    def _fields(self, serial: int, step: int) -> list[bytes]:
        return [part(b'name="tests"', b'{"orders/order is saved": "pass"}')]


class Bundle(Upload):
    """A multipart body of one whole test: its result, `steps` steps, and `files` screenshots of the first steps."""

    def __init__(self, files: int, size: int, steps: int) -> None:
        super().__init__(files, size)
        self._steps, self._screenshots = [step(i) for i in range(steps)], screenshots(files)

    def _fields(self, serial: int, step: int) -> list[bytes]:
        return [part(b'name="bundle"', bundle_json([whole_test(serial, self._steps, self._screenshots)]))]


class Login:
    """The JSON body of a login."""

    content_type = "application/json"

    def __init__(self, name: str, password: str) -> None:
        self._bytes = json.dumps({"name": name, "password": password}).encode()

    def pieces(self, serial: int, step: int, path: int) -> list[bytes]:
        """The body, the same for all requests."""
        return [self._bytes]


class Prepared:
    """JSON bodies, one for each path."""

    content_type = "application/json"

    def __init__(self, bodies: Sequence[str]) -> None:
        self._bodies = [body.encode() for body in bodies]

    def pieces(self, serial: int, step: int, path: int) -> list[bytes]:
        """The body of this path."""
        return [self._bodies[path]]


class Steps:
    """A JSON body of steps. It is always the same, so that a test case accepts it only once."""

    content_type = "application/json"

    def __init__(self, count: int) -> None:
        self.count = count
        self._bytes = json.dumps({"steps": [step(i) for i in range(count)]}).encode()

    def pieces(self, serial: int, step: int, path: int = 0) -> list[bytes]:
        """The body, the same for all requests."""
        return [self._bytes]


def whole_test(serial: int, steps: Sequence[Any], artifacts: Sequence[Any]) -> dict[str, Any]:
    """A test of a bundle. Its client_ref is made from `serial`."""
    ref = str(uuid.UUID(int=serial % (1 << 128)))
    test = {"name": "order is saved", "status": "Passed"}
    return {"client_ref": ref, "test": test, "steps": steps, "artifacts": artifacts}


def bundle_json(tests: Sequence[Any]) -> bytes:
    """The field `bundle`."""
    return json.dumps({"tests": tests}, separators=(",", ":")).encode()


def screenshots(count: int) -> list[dict[str, Any]]:
    """The metadata of files that are screenshots of the first `count` steps."""
    return [{"file_index": i, "artifact_type": "screenshot", "step_number": i} for i in range(count)]


def step(number: int) -> dict[str, Any]:
    """A step as a browser test sends it."""
    return {
        "step_number": number,
        "step_type": "click",
        "action": "Click the button Save",
        "description": "Saves the order and waits until the list of orders is shown again",
        "status": "Passed",
        "duration_ms": 1250 + number,
        "element_selector": f"#orders > tbody > tr:nth-child({number}) > td.actions > button.save",
        "element_name": "Save",
        "element_type": "button",
        "started_at": "2025-01-01T12:00:00.000Z",
        "completed_at": "2025-01-01T12:00:01.250Z",
    }


def part(disposition: bytes, data: bytes) -> bytes:
    """A part of a multipart body."""
    return _head(disposition, b"") + data + b"\r\n"


def _head(disposition: bytes, headers: bytes) -> bytes:
    return b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; " + disposition + b"\r\n" + headers + b"\r\n"
