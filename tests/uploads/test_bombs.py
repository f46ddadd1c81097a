"""Decompression bombs: an upload must not need memory for them, since the server does not decode images."""

import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests import makers
from tests.up_server import serving
from tests.uploads.test_content import SIGNATURE, chunk

SIDE = 60_000
RUNS = "/api/v1/reports/suite-runs"
MIB = 1 << 20


def png_bomb() -> bytes:
    """A valid black picture of 3.6 billion pixels: 450 MB of rows in 0.5 MB."""
    packer = zlib.compressobj(9)
    row = bytes(1 + SIDE // 8)
    rows = b"".join(packer.compress(row * 1000) for _ in range(SIDE // 1000)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 1, 0, 0, 0, 0))
    return SIGNATURE + head + chunk(b"IDAT", rows) + chunk(b"IEND")


def text_bomb() -> bytes:
    """A compressed comment that inflates to 500 MB, in a small picture."""
    packer = zlib.compressobj(9)
    text = b"".join(packer.compress(bytes(10 * MIB)) for _ in range(50)) + packer.flush()
    small = makers.png(20, 20)
    return small[:33] + chunk(b"zTXt", b"Comment\0\0" + text) + small[33:]


def gif_bomb() -> bytes:
    small = makers.gif(20, 20, frames=1)
    return small[:6] + struct.pack("<HH", SIDE, SIDE) + small[10:]


def jpeg_bomb() -> bytes:
    small = makers.jpeg(20, 20)
    at = small.index(b"\xff\xc0") + 5  # the frame's height and width
    return small[:at] + struct.pack(">HH", SIDE, SIDE) + small[at + 4 :]


def peak(pid: int) -> int:
    """The peak resident memory of a process in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


@pytest.mark.parametrize("bomb", [png_bomb, gif_bomb, jpeg_bomb])
def test_pillow_recognizes_the_files_as_decompression_bombs(bomb):
    with pytest.raises(Image.DecompressionBombError, match=str(SIDE * SIDE)):
        Image.open(io.BytesIO(bomb()))


def test_storing_a_decompression_bomb_needs_little_memory(tmp_path, dsn, make_token):
    bombs = {
        "a.png": (png_bomb(), "image/png"),
        "b.png": (text_bomb(), "image/png"),
        "c.gif": (gif_bomb(), "image/gif"),
        "d.jpg": (jpeg_bomb(), "image/jpeg"),
    }
    with serving(tmp_path / "data", dsn, make_token()) as server:
        run = server.ask_json("POST", RUNS, {"name": "x"}, status=201)["id"]
        case = server.ask_json("POST", f"{RUNS}/{run}/test-cases", {"name": "x"}, status=201)["id"]
        url = f"/api/v1/reports/test-case-results/{case}/artifacts"

        def send(name: str, content: bytes, kind: str) -> dict:
            return server.send(url, ("file", name, content, kind), ("artifact_type", "screenshot"))

        send("first.png", makers.png(900, 900), "image/png")  # what any upload needs is not counted below
        before = peak(server.process.pid)
        for name, (content, kind) in bombs.items():
            artifact = send(name, content, kind)
            assert artifact["mime_type"] == kind
            assert server.ask("GET", artifact["download_url"]).body == content
        assert peak(server.process.pid) - before < 64 * MIB
