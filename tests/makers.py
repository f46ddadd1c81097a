"""Makes the files that tests upload. The content is deterministic; another seed gives other content."""

import io
import json as jsonlib
import random
import struct
import time
import zlib

from PIL import Image


def png(width: int = 16, height: int = 16, seed: int = 0) -> bytes:
    """A PNG of random pixels, about 3 bytes per pixel: 258 x 258 is a file of 200 KB."""
    return _saved(_picture(width, height, seed), "PNG", compress_level=1)


def big_png(seed: int = 0) -> bytes:
    """A PNG of a little more than 8 MB."""
    return png(1640, 1640, seed)


def blank_png(width: int, height: int, sent: int | None = None, colour: bool = False) -> bytes:
    """A PNG of one colour, with a small file also for 50 megapixels. `sent`: the number of its rows, if not `height`.

    `colour`: with an alpha channel, 4 bytes a pixel once decoded; otherwise black and white.
    """
    header = struct.pack("!IIBBBBB", width, height, *((8, 6) if colour else (1, 0)), 0, 0, 0)
    packer, row = zlib.compressobj(1), bytes(1 + (4 * width if colour else -(-width // 8)))
    packed = b"".join(packer.compress(row) for _ in range(height if sent is None else sent)) + packer.flush()
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def jpeg(width: int = 16, height: int = 16, seed: int = 0, progressive: bool = False, thumbnail: bool = False) -> bytes:
    """With `thumbnail`, the EXIF segment embeds a second small JPEG, which has its own end marker."""
    exif = _exif(jpeg(8, 8, seed + 1)) if thumbnail else b""
    return _saved(_picture(width, height, seed), "JPEG", quality=90, progressive=progressive, exif=exif)


def gif(width: int = 16, height: int = 16, seed: int = 0, frames: int = 3) -> bytes:
    """Animated when `frames` is greater than 1."""
    first, *others = [_picture(width, height, seed * 1000 + number).quantize(32) for number in range(frames)]
    return _saved(first, "GIF", save_all=True, append_images=others, duration=100, loop=0)


def webp(width: int = 16, height: int = 16, seed: int = 0) -> bytes:
    return _saved(_picture(width, height, seed), "WEBP", lossless=True)


def pdf(seed: int = 0) -> bytes:
    """One page with a picture."""
    long_ago = time.gmtime(0)  # the default is the current time, which would change the bytes on every run
    return _saved(_picture(64, 64, seed), "PDF", creationDate=long_ago, modDate=long_ago)


def html(seed: int = 0) -> bytes:
    return f"<!DOCTYPE html>\n<html lang=en><title>Report {seed}</title><p>Prüfung {seed} ✓</html>\n".encode()


def json(seed: int = 0) -> bytes:
    entry = {"url": f"https://example.test/{seed}", "status": 200, "text": "größer ✓"}
    return jsonlib.dumps({"log": {"version": "1.2", "entries": [entry]}}, ensure_ascii=False).encode()


def text(seed: int = 0) -> bytes:
    return f"12:00:0{seed % 10} step {seed} passed: Größe stimmt ✓ 日本 🎉\n".encode() * 3


def cut(data: bytes, n: int) -> bytes:
    """The data without its last `n` bytes."""
    return data[: len(data) - n]


def flip_byte(data: bytes, at: int) -> bytes:
    """The data with all bits of the byte at `at` flipped. A negative `at` counts from the end."""
    flipped = bytearray(data)
    flipped[at] ^= 0xFF
    return bytes(flipped)


def _picture(width: int, height: int, seed: int) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(seed).randbytes(3 * width * height))


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))


def _exif(thumbnail: bytes) -> bytes:
    """A TIFF whose first directory holds the orientation and whose second holds the thumbnail."""
    picture = struct.pack("<H HHII I", 1, 0x112, 3, 1, 1, 26)
    compression, offset, length = (0x103, 3, 1, 6), (0x201, 4, 1, 68), (0x202, 4, 1, len(thumbnail))
    small = struct.pack("<H HHII HHII HHII I", 3, *compression, *offset, *length, 0)
    return b"Exif\0\0" + b"II*\0\x08\0\0\0" + picture + small + thumbnail
