"""Makes what tests send: real files, API objects. Deterministic; another seed means other content."""

import io
import json as jsonlib
import random
import struct
import time

from PIL import Image

# --- files: bytes that every real reader of the format accepts ---------------------------------------------


def png(width: int = 16, height: int = 16, seed: int = 0) -> bytes:
    """Random pixels, so about 3 bytes for each: 258 x 258 is a file of 200 KB."""
    return _saved(_picture(width, height, seed), "PNG", compress_level=1)


def big_png(seed: int = 0) -> bytes:
    """A real image of a little more than 8 MB."""
    return png(1640, 1640, seed)


def jpeg(width: int = 16, height: int = 16, seed: int = 0, progressive: bool = False, thumbnail: bool = False) -> bytes:
    """With `thumbnail` an EXIF segment holds a small JPEG of its own, with its own end marker."""
    exif = _exif(jpeg(8, 8, seed + 1)) if thumbnail else b""
    return _saved(_picture(width, height, seed), "JPEG", quality=90, progressive=progressive, exif=exif)


def gif(width: int = 16, height: int = 16, seed: int = 0, frames: int = 3) -> bytes:
    """Animated when there are `frames`."""
    first, *others = [_picture(width, height, seed * 1000 + number).quantize(32) for number in range(frames)]
    return _saved(first, "GIF", save_all=True, append_images=others, duration=100, loop=0)


def webp(width: int = 16, height: int = 16, seed: int = 0) -> bytes:
    return _saved(_picture(width, height, seed), "WEBP", lossless=True)


def pdf(seed: int = 0) -> bytes:
    """One page with a picture."""
    long_ago = time.gmtime(0)  # the default is now, and the bytes would change with it
    return _saved(_picture(64, 64, seed), "PDF", creationDate=long_ago, modDate=long_ago)


def html(seed: int = 0) -> bytes:
    return f"<!DOCTYPE html>\n<html lang=en><title>Report {seed}</title><p>Prüfung {seed} ✓</html>\n".encode()


def json(seed: int = 0) -> bytes:
    entry = {"url": f"https://example.test/{seed}", "status": 200, "text": "größer ✓"}
    return jsonlib.dumps({"log": {"version": "1.2", "entries": [entry]}}, ensure_ascii=False).encode()


def text(seed: int = 0) -> bytes:
    return f"12:00:0{seed % 10} step {seed} passed: Größe stimmt ✓ 日本 🎉\n".encode() * 3


def cut(data: bytes, n: int) -> bytes:
    """Without the last `n` bytes."""
    return data[: len(data) - n]


def bend(data: bytes, at: int) -> bytes:
    """With every bit of the byte at `at` flipped; counts from the end when negative."""
    bent = bytearray(data)
    bent[at] ^= 0xFF
    return bytes(bent)


def _picture(width: int, height: int, seed: int) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(seed).randbytes(3 * width * height))


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _exif(thumbnail: bytes) -> bytes:
    """TIFF whose first directory holds the orientation, the second the thumbnail."""
    picture = struct.pack("<H HHII I", 1, 0x112, 3, 1, 1, 26)
    compression, offset, length = (0x103, 3, 1, 6), (0x201, 4, 1, 68), (0x202, 4, 1, len(thumbnail))
    small = struct.pack("<H HHII HHII HHII I", 3, *compression, *offset, *length, 0)
    return b"Exif\0\0" + b"II*\0\x08\0\0\0" + picture + small + thumbnail
