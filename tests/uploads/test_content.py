"""server/uploads/content.py: verdicts on valid, truncated, damaged, mislabelled and random files."""

import gzip
import hashlib
import io
import random
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from itertools import pairwise
from struct import pack
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from server.uploads.content import ANYTHING, KNOWN_TYPES, Inspector, Verdict, extension
from tests import makers


def zip_of(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return file.getvalue()


def mp4(brand: bytes) -> bytes:
    return pack(">I4s4sI4s4s", 24, b"ftyp", brand, 512, b"isom", b"mp42") + pack(">I4s", 8, b"mdat")


def ebml(doc_type: bytes, size: bytes = b"\x84") -> bytes:
    body = b"\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82" + size + doc_type
    return b"\x1a\x45\xdf\xa3" + bytes([0x80 | len(body)]) + body + b"\x18\x53\x80\x67\x01" + b"\xff" * 7


def chunk(kind: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A PNG chunk with a valid checksum. `kind`, `data` and `length` may be invalid."""
    return pack(">I", len(data) if length is None else length) + kind + data + pack(">I", crc32(kind + data))


SIGNATURE = b"\x89PNG\r\n\x1a\n"
IHDR = chunk(b"IHDR", pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
IDAT = chunk(b"IDAT", b"pixels")
IEND = chunk(b"IEND")

BOM = b"\xef\xbb\xbf"
MATROSKA = ebml(b"matroska", b"\x88")
GARBAGE = b"\x80" + random.Random(7).randbytes(5000)

# Images longer than the head that decides the type: the inspector buffers a shorter file and checks it in one piece.
FILES = {
    "shot.png": (makers.png(30, 30), "image/png"),
    "noise.png": (makers.png(200, 200), "image/png"),  # several chunks
    "photo.jpg": (makers.jpeg(48, 48), "image/jpeg"),
    "progressive.jpg": (makers.jpeg(48, 48, progressive=True), "image/jpeg"),
    "exif.jpg": (makers.jpeg(48, 48, thumbnail=True), "image/jpeg"),
    "still.gif": (makers.gif(64, 64, frames=1), "image/gif"),
    "film.gif": (makers.gif(48, 48), "image/gif"),
    "picture.webp": (makers.webp(30, 30), "image/webp"),
    "page.pdf": (makers.pdf(), "application/pdf"),
    "report.html": (makers.html(), "text/html"),
    "trace.har": (makers.json(), "application/json"),
    "log.txt": (makers.text() * 30, "text/plain"),
    "all.zip": (zip_of("a", "b"), "application/zip"),
    "none.zip": (zip_of(), "application/zip"),
    "video.mp4": (mp4(b"isom"), "video/mp4"),
    "video.webm": (ebml(b"webm"), "video/webm"),
    "video.mov": (mp4(b"qt  "), "video/quicktime"),
    "video.mkv": (ebml(b"matroska", b"\x88"), "video/x-matroska"),
    "app.log.gz": (gzip.compress(b"text", mtime=0), "application/gzip"),
}
SMALL = {
    "small.png": makers.png(4, 4),
    "small.jpg": makers.jpeg(8, 8),
    "small progressive.jpg": makers.jpeg(8, 8, progressive=True),
    "thumbnail.jpg": makers.jpeg(8, 8, thumbnail=True),
    "small.gif": makers.gif(4, 4, frames=1),
    "small film.gif": makers.gif(6, 6),
}
every_file = pytest.mark.parametrize(("name", "data", "mime_type"), [(n, *f) for n, f in FILES.items()])
small_image = pytest.mark.parametrize(("name", "data"), SMALL.items())


def judge(data: bytes, name: str = "file", declared: str = "", cuts: list[int] | None = None) -> Verdict:
    """The verdict on `data`, fed in one piece or cut at the given offsets."""
    inspector = Inspector(name, declared)
    edges = [0, *sorted(cuts or []), len(data)]
    for start, end in pairwise(edges):
        inspector.feed(memoryview(data)[start:end])
    return inspector.finish()


def type_of(data: bytes, name: str = "file", declared: str = "") -> str | None:
    return judge(data, name, declared).mime_type


# --- every format, in any chunks ---


@every_file
def test_a_valid_file_is_recognised_and_intact(name: str, data: bytes, mime_type: str) -> None:
    verdict = judge(data, name)

    assert (verdict.mime_type, verdict.intact, verdict.corrupted) == (mime_type, True, False)


@every_file
def test_the_verdict_is_the_same_one_byte_at_a_time(name: str, data: bytes, mime_type: str) -> None:
    assert judge(data, name, cuts=list(range(len(data)))) == judge(data, name)


@every_file
def test_the_type_depends_on_the_content_and_not_on_the_name(name: str, data: bytes, mime_type: str) -> None:
    if mime_type == "application/json":
        mime_type = "text/plain"  # JSON is plain text unless its name or declared type says JSON
    for wrong in ("a.txt", "a.png", "a.pdf", "a", ""):
        for declared in ("image/jpeg", "text/html", "video/mp4", "application/octet-stream"):
            verdict = judge(data, wrong, declared)
            assert (verdict.mime_type, verdict.corrupted) == (mime_type, False)


@pytest.mark.parametrize("name", [n for n, (_, t) in FILES.items() if t.startswith("image/")])
def test_pillow_reads_the_generated_images(name: str) -> None:
    data, mime_type = FILES[name]
    image = Image.open(io.BytesIO(data))
    image.load()

    assert image.get_format_mimetype() == mime_type


def test_generated_files_depend_only_on_the_seed() -> None:
    for name in ("png", "jpeg", "gif", "webp", "pdf", "html", "json", "text"):
        make = getattr(makers, name)
        assert make(seed=1) == make(seed=1) != make(seed=2)


@st.composite
def damaged_files(draw: st.DrawFn) -> tuple[str, bytes]:
    name = draw(st.sampled_from(sorted(FILES)))
    data = FILES[name][0]
    for at in draw(st.lists(st.integers(0, len(data) - 1), max_size=2)):
        data = makers.flip_byte(data, at)
    data += draw(st.sampled_from([b"", b"\0", b"trailing \xff\xd9"]))
    return name, makers.cut(data, draw(st.just(0) | st.integers(0, len(data))))


@given(damaged_files(), st.data())
def test_the_verdict_is_the_same_in_any_chunks(file: tuple[str, bytes], data: st.DataObject) -> None:
    name, content = file
    near_the_start = st.integers(0, min(len(content), 1500))
    anywhere = st.integers(0, len(content))
    cuts = data.draw(st.lists(near_the_start | anywhere, max_size=12))

    assert judge(content, name, cuts=cuts) == judge(content, name)


BEGINNINGS = [
    b"",
    BOM,
    b" ",
    b"<",
    SIGNATURE + IHDR,
    b"\xff\xd8\xff",
    b"GIF89a",
    b"%PDF-",
    b"RIFF\4\0\0\0WEBP",
]


@given(st.sampled_from(BEGINNINGS), st.binary(max_size=3000), st.text(max_size=8), st.text(max_size=8))
def test_arbitrary_bytes_never_raise(beginning: bytes, rest: bytes, name: str, declared: str) -> None:
    verdict = judge(beginning + rest, name, declared)

    assert verdict.mime_type is None or verdict.mime_type in KNOWN_TYPES
    assert verdict == judge(beginning + rest, name, declared, cuts=[1, 7, 100, 1500])


def test_an_empty_file_has_a_verdict() -> None:
    assert Inspector("a.png", "image/png").finish().mime_type is None
    assert Inspector("a.txt", "").finish() == judge(b"", "a.txt", cuts=[0, 0])


def test_every_known_type_has_an_extension() -> None:
    assert {extension(mime_type) for _, mime_type in FILES.values()} == {
        ".png", ".jpg", ".gif", ".webp", ".pdf", ".html", ".json", ".txt", ".zip", ".gz", ".mp4", ".webm", ".mov",
        ".mkv",
    }  # fmt: skip
    assert {mime_type for _, mime_type in FILES.values()} | {ANYTHING} == KNOWN_TYPES
    assert extension(ANYTHING) == ".bin"


# --- memory ---


@every_file
def test_feed_keeps_no_view_of_the_buffer(name: str, data: bytes, mime_type: str) -> None:
    inspector = Inspector(name, "")
    for start in range(0, len(data), 700):
        buffer = bytearray(data[start : start + 700])
        inspector.feed(memoryview(buffer))
        buffer[:] = b""  # raises BufferError while a view of it exists
    assert inspector.finish() == judge(data, name)


@pytest.mark.parametrize(
    "beginning",
    [
        SIGNATURE + IHDR + pack(">I4s", 1 << 30, b"IDAT"),
        b"\xff\xd8\xff\xda\0\2",
        b"%PDF-1.7",
        b"\x80",
        b"text",
    ],
)
def test_memory_does_not_grow_with_the_file(beginning: bytes) -> None:
    window = memoryview(makers.text() * 6400)
    inspector = Inspector("file", "")
    inspector.feed(beginning + makers.text() * 10)
    tracemalloc.start()
    try:
        for _ in range(5):
            inspector.feed(window)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(window) / 2


# --- completeness ---


@small_image
def test_every_proper_prefix_is_corrupted(name: str, data: bytes) -> None:
    assert judge(data, name).intact
    for length in range(1, len(data)):
        if not name.endswith(".gif") or length < data.index(b"\0,") or length in range(len(data) - 20, len(data) - 1):
            assert judge(data[:length], name).corrupted, length


@small_image
def test_trailing_bytes_are_allowed(name: str, data: bytes) -> None:
    for trailing in (b"\0", b"\xff", b"more", data, GARBAGE):
        assert judge(data + trailing, name).intact
        assert judge(data + trailing, name, cuts=[len(data) - 1, len(data), len(data) + 1]).intact


def test_every_flipped_bit_of_a_png_is_detected() -> None:
    data = makers.png(4, 4)
    for at in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data + b"trailing")
            damaged[at] ^= 1 << bit
            assert judge(bytes(damaged), "a.png").corrupted, (at, bit)
    assert judge(makers.flip_byte(data + b"trailing", -1), "a.png").intact


def test_damage_in_a_big_png_is_detected() -> None:
    data = makers.big_png()
    windows = list(range(0, len(data), 1 << 20))

    assert len(data) > 8_000_000
    assert judge(data, "a.png", cuts=windows) == Verdict("image/png", intact=True, claimed=True)
    assert judge(makers.flip_byte(data, 5_000_000), "a.png", cuts=windows).corrupted
    assert judge(makers.cut(data, 1), "a.png", cuts=windows).corrupted


@pytest.mark.parametrize(
    ("chunks", "intact"),
    [
        (IHDR + IDAT + IEND, True),
        (IHDR + IDAT * 3000 + IEND, True),
        (IHDR + chunk(b"tEXt", b"a\0b") + IDAT + chunk(b"IDAT") + chunk(b"tIME") + IEND, True),
        (IHDR + IEND, False),
        (IDAT + IEND, False),
        (chunk(b"tEXt") + IHDR + IDAT + IEND, False),
        (IHDR + IHDR + IDAT + IEND, False),
        (IHDR + IDAT + IHDR + IEND, False),
        (IHDR + IDAT + chunk(b"I\xc4AT", b"x") + IEND, False),
        (IHDR + IDAT + chunk(b"ID T", b"x") + IEND, False),
        (IHDR + IDAT + chunk(b"IEND", b"x"), False),
        (IHDR + IDAT + IEND[:-1] + b"\0", False),
        (IHDR + IDAT[:-1] + b"\0" + IEND, False),
        (IHDR + IDAT + chunk(b"IDAT", b"x", length=1 << 31), False),
        (IHDR + IDAT, False),
        (b"", False),
    ],
)
def test_png_chunks_must_be_valid_and_in_order(chunks: bytes, intact: bool) -> None:
    data = SIGNATURE + chunks

    assert judge(data) == judge(data, cuts=list(range(0, len(data), 5))) == Verdict("image/png", intact, False)
    longer = data.replace(IDAT, IDAT + chunk(b"tEXt", bytes(1500)), 1)
    assert judge(longer, cuts=list(range(len(longer)))) == Verdict("image/png", intact, False)


def test_a_jpeg_truncated_right_after_its_thumbnail_is_corrupted() -> None:
    data = makers.jpeg(thumbnail=True)
    end = data.index(makers.jpeg(8, 8, seed=1)) + len(makers.jpeg(8, 8, seed=1))

    assert data[end - 2 : end] == b"\xff\xd9"
    assert judge(data[:end], "a.jpg").corrupted
    assert judge(data[:end], "a.jpg", cuts=[30, end - 2, end - 1]).corrupted


def test_a_progressive_jpeg_without_all_its_scans_is_corrupted() -> None:
    data = makers.jpeg(64, 64, progressive=True)
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]

    assert len(scans) > 3
    assert judge(data).intact
    for at in scans:
        assert judge(data[:at]).corrupted


def test_a_jpeg_with_restart_markers_is_intact() -> None:
    file = io.BytesIO()
    Image.open(io.BytesIO(makers.jpeg(64, 64))).save(file, "JPEG", restart_marker_blocks=1)

    assert b"\xff\xd0" in file.getvalue()
    assert judge(file.getvalue()).intact
    assert judge(file.getvalue()[:-2]).corrupted


SCAN = b"\xff\xda\0\4ab" + b"scan\xff\0scan"


@pytest.mark.parametrize(
    ("rest", "intact"),
    [
        (SCAN + b"\xff\xd9", True),
        (SCAN + b"\xff\xff\xff\xd9", True),  # fill bytes
        (SCAN + b"\xff\xd3\xff\x01scan\xff\xd9", True),  # RST, TEM
        (b"\xff\xff\xe1\0\4\xff\xd9" + SCAN + b"\xff\xd9", True),  # an end marker inside a segment
        (b"\xff\xe1\0\2stray" + SCAN + b"\xff\xd9", True),
        (SCAN + b"\xff\xdd\0\4\0\0" + SCAN + b"\xff\xd9", True),
        (SCAN + b"\xff\xfe\0\2\xff\xd9", True),
        (b"\xff\xe1\0\2\xff\xd9", False),  # no scan
        (SCAN + b"\xff\xd8\0\2\xff\xd9", False),  # a second start
        (SCAN + b"\xff\x37\0\2\xff\xd9", False),  # reserved
        (b"\xff\xe1\0\1" + SCAN + b"\xff\xd9", False),  # a segment shorter than its length
        (b"\xff\xe1\xff\xff" + SCAN + b"\xff\xd9", False),
        (b"\xff\xda\0\x20ab\xff\xd9", False),
        (SCAN + b"\xff", False),
        (SCAN + b"\xff\0\xd9", False),
    ],
)
def test_jpeg_segments_must_be_valid(rest: bytes, intact: bool) -> None:
    data = b"\xff\xd8\xff\xfe\x08\0" + bytes(2046) + rest

    assert judge(data) == judge(data, cuts=list(range(len(data)))) == Verdict("image/jpeg", intact, False)


COMMENT = b"\x21\xfe" + (b"\xff" + b";" * 255) * 8 + b"\0"
SCREEN = b"GIF89a\1\0\1\0\0\0\0" + COMMENT
PICTURE = b"\x2c" + bytes(8) + b"\0" + b"\2" + b"\3;;;\0"


@pytest.mark.parametrize(
    ("data", "intact"),
    [
        (SCREEN + PICTURE + b";", True),
        (b"GIF87a\1\0\1\0\x81\0\0" + b";" * 12 + COMMENT + PICTURE + b";", True),  # 4 colours
        (SCREEN + b"\x2c" + bytes(8) + b"\x80" + b";" * 6 + b"\2\1;\0;", True),  # a local table of 2 colours
        (SCREEN + b"\x21\xfe\3;;;\0" + PICTURE + PICTURE + b";", True),
        (SCREEN + PICTURE, True),  # without a trailer
        (SCREEN + PICTURE + PICTURE, True),
        (SCREEN + PICTURE + b"\x21\xfe\3;;;\0", True),
        (SCREEN + PICTURE + b"\x21\xf9", True),  # the next frame begins, without an image
        (SCREEN + PICTURE + b"\x21\xfe\3;", True),
        (SCREEN + PICTURE + b"\x2c", False),
        (SCREEN + PICTURE + PICTURE[:-1], False),
        (SCREEN + PICTURE + PICTURE[:-2], False),
        (SCREEN + PICTURE + PICTURE[:11], False),
        (SCREEN, False),
        (SCREEN + b"\x21\xfe\3;;;\0", False),
        (SCREEN + b";", False),
        (SCREEN + b"\x21\xfe\3;;;\0;", False),
        (SCREEN + PICTURE + b"\x2c" + bytes(8) + b"\x81" + b";" * 12, False),
        (SCREEN + PICTURE + b"?;", False),
        (SCREEN + PICTURE[:-1] + b";", False),
    ],
)
def test_gif_blocks_must_be_valid(data: bytes, intact: bool) -> None:
    assert judge(data) == judge(data, cuts=list(range(len(data)))) == Verdict("image/gif", intact, False)


def test_a_pdf_must_have_its_end_mark_in_the_last_64_kib() -> None:
    body = b"%PDF-1.7\n" + bytes(4000)
    far, too_far = b"%%EOF" + b"x" * (65_536 - 5), b"%%EOF" + b"x" * (65_536 - 4)

    for cuts in ([], list(range(0, 69_000, 7)), [4008, 4009, 4010, 4011, 4012, 4013, 69_000]):
        assert judge(body + far, cuts=cuts).intact
        assert judge(body + far + bytes(300_000), cuts=cuts).intact  # zero bytes at the end do not count
        assert judge(body + far + bytes(300_000) + b"x", cuts=cuts).corrupted
        assert judge(body + too_far, cuts=cuts).corrupted
        assert judge(body + too_far + bytes(10), cuts=cuts).corrupted
    assert judge(b"%PDF-1.7\n%%EOF").intact and judge(b"%PDF-1.7\n%%EOF" + bytes(100_000)).intact
    assert judge(b"%PDF-1.7\n" + bytes(100_000)).corrupted
    assert judge(body + b"%%EO").corrupted
    assert judge(makers.cut(makers.pdf(), 8), "a.pdf").corrupted


def test_a_webp_must_be_as_long_as_its_header_says() -> None:
    data = makers.webp()

    assert judge(data + b"trailing").intact
    assert judge(makers.cut(data, 1)).corrupted
    assert judge(makers.cut(data, 1), cuts=[5, 500]).corrupted


# --- hostile files: many tiny blocks ---

TINY = {
    "chunks.png": (SIGNATURE + IHDR + IDAT, IDAT[:0] + chunk(b"IDAT"), IEND),
    "one byte chunks.png": (SIGNATURE + IHDR + IDAT, chunk(b"IDAT", b"x"), IEND),
    "segments.jpg": (b"\xff\xd8", b"\xff\xe1\0\2", SCAN + b"\xff\xd9"),
    "escapes.jpg": (b"\xff\xd8" + SCAN, b"\xff\0", b"\xff\xd9"),
    "fill bytes.jpg": (b"\xff\xd8" + SCAN, b"\xff", b"\xff\xd9"),
    "restarts.jpg": (b"\xff\xd8" + SCAN, b"\xff\xd0", b"\xff\xd9"),
    "sub-blocks.gif": (SCREEN + PICTURE[:-1], b"\1;", b"\0;"),
    "images.gif": (SCREEN, PICTURE, b";"),
    "extensions.gif": (SCREEN + PICTURE, b"\x21\xfe\0", b";"),
    "comments.pdf": (b"%PDF-1.7\n", b"%", b"\n%%EOF"),
    "zero bytes.pdf": (b"%PDF-1.7\n%%EOF", b"\0", b""),
    "umlauts.txt": (b"", "ü".encode(), b""),
    "utf-16.txt": (b"\xff\xfe", "Ü\n".encode("utf-16-le"), b""),
    "noise.log": (b"", b"a\xff\0", b""),
}
tiny_blocks = pytest.mark.parametrize(("name", "parts"), TINY.items())


def filled(parts: tuple[bytes, bytes, bytes], size: int) -> bytes:
    return parts[0] + parts[1] * (size // len(parts[1])) + parts[2]


@tiny_blocks
@pytest.mark.parametrize("size", [1400, 1 << 16, 1 << 20])
def test_inspecting_a_file_of_tiny_blocks_costs_a_small_multiple_of_hashing_it(
    name: str, parts: tuple[bytes, bytes, bytes], size: int
) -> None:
    """At most 6 on an idle machine. Without a limit, the empty segments cost 160 times as much."""
    view = memoryview(filled(parts, 4 << 20))

    def seconds(feed: Callable[[memoryview], object]) -> float:
        begin = time.thread_time()
        for start in range(0, len(view), size):
            feed(view[start : start + size])
        return time.thread_time() - begin

    inspecting = min(seconds(Inspector(name, "").feed) for _ in range(3))
    assert inspecting < 15 * min(seconds(hashlib.sha256().update) for _ in range(3))


@tiny_blocks
def test_a_file_of_tiny_blocks_is_intact_with_its_end_only(name: str, parts: tuple[bytes, bytes, bytes]) -> None:
    data = filled(parts, 3 << 20)
    for cuts in ([], list(range(0, len(data), 1 << 16)), [len(data) - 3]):
        assert not judge(data, name, cuts=cuts).corrupted
        if name != "zero bytes.pdf":
            assert not judge(data + b"trailing" * 100, name, cuts=cuts).corrupted
    if name.endswith((".png", ".jpg")):
        assert judge(data[: -len(parts[2])], name).corrupted
    assert judge(filled((SCREEN, b"\x21\xfe\0", b";"), 3 << 20)).corrupted  # a GIF without an image


# --- text ---


@pytest.mark.parametrize(
    ("data", "mime_type"),
    [
        (b"plain", "text/plain"),
        (BOM + b"plain", "text/plain"),
        (BOM, "text/plain"),
        (b" \n", "text/plain"),
        ("Größe ✓ 🎉".encode(), "text/plain"),
        ("🎉".encode()[:-1], "text/plain"),  # cut in a character
        (b"a" * 100_000 + "✓".encode()[:-1], "text/plain"),
        ("Größe".encode("utf-16"), "text/plain"),
        (b"\xfe\xff" + "Größe".encode("utf-16-be"), "text/plain"),
        ("Größe".encode("utf-32"), None),
        (b"\xff\xfea\0\0\0", None),
        (b"\xff\xfea\0\0\xdca\0", None),  # a lone surrogate
        (b"a" * 100_000 + b"\0", None),
        (b"a\0b", None),
        (b"a" * 100_000 + b"\xff" + b"a" * 100_000, None),
        ("Größe".encode("latin-1"), None),
        ("plain".encode("utf-16-le"), None),
        (b"\xed\xa0\x80", None),  # a surrogate
        (b"\xc0\xaf", None),  # overlong
        (b"<!doctype html>\xff", None),
        (b'{"a": "\0"}', None),
    ],
)
def test_utf8_without_nul_and_utf16_with_a_mark_are_text_under_any_name(data: bytes, mime_type: str | None) -> None:
    assert type_of(data) == mime_type
    assert judge(data, cuts=list(range(len(data) - 20, len(data))) if len(data) > 20 else [1]) == judge(data)
    said = judge(data, "a.txt")
    assert said.mime_type in ("text/plain", "text/html") and not said.corrupted


ENCODED = [
    (b"plain", "utf-8"),
    (BOM + b"plain", "utf-8"),
    (b"a\0b", "utf-8"),
    (bytes(5000) + b"after a truncation", "utf-8"),
    ("Größe".encode(), "utf-8"),
    ("Größe".encode()[:3], "utf-8"),
    ("Größe".encode("utf-16"), "utf-16le"),
    ("Größe".encode("utf-16") + b"\0\0", "utf-16le"),
    ("Größe".encode("utf-16")[:-1], "utf-16le"),
    (b"\xfe\xff" + "Größe".encode("utf-16-be"), "utf-16be"),
    ("without a mark".encode("utf-16-le"), "utf-16le"),
    ("without a mark\n".encode("utf-16-be") * 1000, "utf-16be"),
    ("Größe".encode("cp1252"), "unknown"),
    (b"a" * 100_000 + b"\xff" + b"a" * 100_000, "unknown"),
    ("Größe".encode("utf-32"), "unknown"),
    (GARBAGE, "unknown"),
]


@pytest.mark.parametrize(("data", "encoding"), ENCODED)
def test_text_in_any_encoding_is_text_when_its_name_or_declared_type_says_so(data: bytes, encoding: str) -> None:
    for name in (
        "a.log",
        "A.LOG.12",
        "app.log.2026-01-31",
        "junit.xml",
        "stderr",
        "job-stdout",
        "picture.svg",
        "a.har",
    ):
        verdict = judge(data, name, "application/octet-stream")
        assert (verdict.mime_type, verdict.text_encoding) == ("text/plain", encoding), name
        assert verdict == judge(data, name, "application/octet-stream", cuts=[1, *range(0, len(data), 999)])
    for declared in ("text/plain; charset=x", "application/xml", "application/json", "image/svg+xml"):
        assert judge(data, "a", declared).text_encoding == encoding
        assert judge(data, "a", declared).mime_type == "text/plain"


@pytest.mark.parametrize(("data", "encoding"), ENCODED)
def test_other_text_has_a_type_that_the_artifact_type_can_choose(data: bytes, encoding: str) -> None:
    verdict = judge(data, "a.bin", "application/octet-stream")
    assert verdict.type_as("log") == verdict.type_as("har") == "text/plain"
    assert verdict.type_as("other") == verdict.mime_type
    assert judge(data, "a.png").type_as("log") == judge(data, "a.png").mime_type  # the name says that it is an image


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"\x7fELF\2\1\1\0", "an ELF program or core dump"),
        (b"BZh91AY&SY\0", "bzip2 data"),
        (b"MDMP\x93\xa7\0\0", "a Windows minidump"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"a.txt".ljust(257, b"\0") + b"ustar", "a tar archive"),
        (b"\x89PNG\n\x1a\n", "a damaged PNG image"),
    ],
)
def test_a_binary_signature_contradicts_a_name_of_text(data: bytes, found: str) -> None:
    for name in ("a.log", "a.json", "a.bin"):
        verdict = judge(data, name, "text/plain")
        assert (verdict.type_as("log"), verdict.found) == (None, found)


def test_letters_of_a_binary_signature_are_text() -> None:
    for data in (b"MZ", b"BM", b"II*", b"7z", b"Rar!", b"OggS", b"BZh91AY&SY", b"RIFF1234WAVE"):
        assert type_of(data) == "text/plain"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"a" * 70_000 + b"\xff", "byte 70000 (0xff) is not UTF-8"),
        ("✓".encode() * 30_000 + b"\xc3a", "byte 90000 (0xc3) is not UTF-8"),
        ("ü".encode() * 40_000 + b"\0" + b"a" * 100_000 + b"\xff", "byte 80000 is NUL"),
        ("x".encode("utf-16") + b"\0\0", "byte 4 is NUL"),
        ("a mark".encode("utf-16-le"), "it looks like UTF-16 without a byte order mark"),
    ],
)
def test_an_unknown_format_says_where_it_stopped_being_text(data: bytes, why: str) -> None:
    for cuts in ([], [1, 2, 3, 69_999], list(range(0, len(data), 65_537))):
        assert judge(data, "a.bin", cuts=cuts).found == f"no known format, and no text: {why}"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_html_and_json_are_recognised_in_every_encoding(encoding: str) -> None:
    assert judge("<!DOCTYPE html><p>Größe".encode(encoding), "a.html").mime_type == "text/html"
    assert judge('{"Größe": 1}'.encode(encoding), "a.json").mime_type == "application/json"


@pytest.mark.parametrize("name", ["a.log", "messages", "x.json", "a.trx", "core.log.gz.txt"])
def test_names_of_text(name: str) -> None:
    assert judge(GARBAGE, name).mime_type == "text/plain"
    assert judge(GARBAGE, name, "image/png").mime_type == "text/plain"  # the name decides before the declared type


@pytest.mark.parametrize("name", ["a.log.gz", "log", "a.bin", "blog", "a.png", "a.log.png", "a.exe", "alog"])
def test_names_of_other_files(name: str) -> None:
    assert judge(GARBAGE, name).mime_type is None


@given(st.text(min_size=1), st.lists(st.integers(0, 4000)))
def test_any_utf8_text_is_text_in_any_chunks(characters: str, cuts: list[int]) -> None:
    data = ("ü" + characters.replace("\0", "") * 20).encode()

    assert judge(data, "a.log", cuts=[cut for cut in cuts if cut < len(data)]).mime_type == "text/plain"


@pytest.mark.parametrize(
    ("data", "mime_type"),
    [
        (b"<!doctype html>", "text/html"),
        (b"<!DOCTYPE HTML PUBLIC", "text/html"),
        (b"<!DocType Html >", "text/html"),
        (b"\t\n\x0c\r <html lang=en>", "text/html"),
        (BOM + b"<html>", "text/html"),
        (BOM + b" \n<HeAd>", "text/html"),
        (b" " * 1400 + b"<body>", "text/html"),
        (b"<!-- a comment", "text/html"),
        (b"<a href=x>", "text/html"),
        (b"<B>", "text/html"),
        (b"<h1>", "text/html"),
        (b"<a", "text/plain"),
        (b"<a\n>", "text/plain"),
        (b"<html", "text/plain"),
        (b"<abbr>", "text/plain"),
        (b"<h2>", "text/plain"),
        (b"<!doctype html", "text/plain"),
        (b"<!--comment", "text/plain"),
        (b"<!doctype  html>", "text/plain"),
        (b"text <html>", "text/plain"),
        (b" " * 2000 + b"<body>", "text/plain"),
        (b"<?xml version='1.0'?>", "text/plain"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "text/plain"),
        (b"\x0b<html>", "text/plain"),
    ],
)
def test_html_is_recognised_by_the_patterns_of_whatwg(data: bytes, mime_type: str) -> None:
    assert type_of(data) == mime_type
    assert judge(data, cuts=list(range(len(data)))) == judge(data)


def test_every_html_tag_of_whatwg_is_recognised() -> None:
    tags = "html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|!--|!doctype html"
    for tag in tags.split("|"):
        assert type_of(f"<{tag}>".encode()) == type_of(f"<{tag.upper()} x".encode()) == "text/html"
        assert type_of(f"<{tag}x>".encode()) == type_of(f"<{tag}".encode()) == "text/plain"


@pytest.mark.parametrize("data", [b'{"a":1}', b" \n[1]", b'"a"', b"-1", b"0", b"9.5", b"true", b"false", b"nul"])
def test_json_is_recognised_when_its_name_or_declared_type_says_so(data: bytes) -> None:
    for content in (data, BOM + data):
        for name in ("a.json", "a.JSON", "trace.har", "a.Har"):
            assert type_of(content, name, "text/plain") == "application/json"
        for declared in ("application/json", "Application/JSON; charset=utf-8", "application/problem+json"):
            assert type_of(content, "a", declared) == "application/json"
        assert type_of(content, "a.txt", "text/plain") == "text/plain"
        assert type_of(content, "json", "application/jsonl") == "text/plain"


def test_json_must_begin_like_json() -> None:
    for data in (b"undefined", b"# a comment", b"", b"+1", b"'a'", b".5", b"}"):
        assert type_of(data, "a.json", "application/json") == "text/plain"
    assert type_of(b"<html>", "a.json", "application/json") == "text/html"


# --- wrong and unknown types ---


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.jpg", "a.jpeg", "a.gif", "a.webp", "a.pdf", "a.bmp"])
def test_random_bytes_with_the_name_of_an_image_are_corrupted(name: str) -> None:
    assert judge(GARBAGE, name) == Verdict(None, True, True, "unknown")
    assert judge(GARBAGE, name).corrupted


@pytest.mark.parametrize("declared", ["image/png", "IMAGE/JPEG", " image/gif; q=1", "application/pdf", "image/x"])
def test_random_bytes_with_the_declared_type_of_an_image_are_corrupted(declared: str) -> None:
    assert judge(GARBAGE, "a.bin", declared).corrupted


@pytest.mark.parametrize("name", ["a.bin", "png", "a.png.gz", "a.mp4", "a.zip", ""])
def test_other_random_bytes_are_unknown_but_not_corrupted(name: str) -> None:
    verdict = judge(GARBAGE, name, "application/octet-stream")

    assert (verdict.mime_type, verdict.corrupted) == (None, False)


def test_text_named_like_an_image_is_text() -> None:
    assert judge(b"plain", "a.png", "image/png") == Verdict("text/plain", True, True, "utf-8")
    assert not judge(b"plain", "a.png", "image/png").corrupted


def test_a_truncated_image_is_corrupted_under_any_name() -> None:
    assert judge(makers.cut(makers.png(), 1), "a.txt", "text/plain").corrupted


def test_a_partial_signature_is_text_unless_the_name_is_that_of_an_image() -> None:
    for beginning in (b"GIF8", b"GIF87", b"%PDF", b"RIFF"):
        assert judge(beginning, "notes.txt") == Verdict("text/plain", True, False, "utf-8")
        assert judge(beginning, "a.gif").corrupted


@pytest.mark.parametrize(
    ("data", "mime_type"),
    [
        (b"\n%PDF-1.4 %%EOF", "application/pdf"),
        (BOM + b"%PDF-1.4 %%EOF", "application/pdf"),
        (b"junk %PDF-1.4 %%EOF", "text/plain"),
        (b"<html>%PDF-1.4 %%EOF", "text/html"),
        (b"GIF88a", "text/plain"),
        (b"\x89PNG\n\x1a\n", None),
        (b"\xff\xd8", None),
        (b"RIFF\x24\0\0\0WAVEfmt ", None),
        (b"RIFF\x0a\n\0\0WEBPVP8 ", "image/webp"),  # the length holds a line feed
        (mp4(b"mp42"), "video/mp4"),
        (mp4(b"iso5"), "video/mp4"),
        (mp4(b"M4V "), "video/mp4"),
        (mp4(b"qt  "), "video/quicktime"),
        (b"\0\0\0\x08wide\0\0\1\0mdat", "video/quicktime"),
        (b"\0\0\1\0moov", "video/quicktime"),
        (b"\0\0\1\0free", None),
        (mp4(b"heic"), None),
        (mp4(b"avif"), None),
        (mp4(b"M4A "), None),
        (ebml(b"webm", b"\x40\x04"), "video/webm"),
        (ebml(b"webm", b"\x01\0\0\0\0\0\0\x04"), "video/webm"),
        (MATROSKA, "video/x-matroska"),
        (ebml(b"matroska", b"\x40\x08"), "video/x-matroska"),
        (ebml(b"matroskas", b"\x89"), None),
        (ebml(b"webmx", b"\x85"), None),
        (b"PK\3\4", "application/zip"),
        (b"PK\7\x08", "text/plain"),
        (b"\x1f\x8b\x08\0", "application/gzip"),
        (b"\x1f\x8b\0", None),
        (b"\x7fELF\2\1\1\0", None),
    ],
)
def test_the_type_is_recognised_by_its_signature(data: bytes, mime_type: str | None) -> None:
    assert type_of(data, "a.png", "image/png") == mime_type
    assert judge(data, cuts=list(range(len(data)))) == judge(data)
