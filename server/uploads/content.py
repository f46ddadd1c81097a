"""Detects the MIME type of a file from its bytes, and whether the file is intact. Pure: no I/O, no configuration.

Pass the bytes of one file to Inspector.feed() in chunks of any size, then call finish(). No image is decoded, and
nothing is decompressed. Between two chunks, only a head or a tail and a few bytes are kept, never the caller's buffer.
"""

import codecs
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from struct import Struct
from zlib import crc32

_EXTENSIONS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "application/pdf": ".pdf",
    "application/json": ".json",
    "application/zip": ".zip",
    "text/html": ".html",
    "text/plain": ".txt",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
}
KNOWN_TYPES = frozenset(_EXTENSIONS)

_HEAD = 1445  # bytes that determine the type: the "resource header" of the WHATWG MIME Sniffing standard
_CLAIMING = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".pdf")
_LETTER_SIGNATURES = (b"GIF87a", b"GIF89a", b"RIFF", b"%PDF-")


def extension(mime_type: str) -> str:
    """`.png` for `image/png`. Raises KeyError for a type outside KNOWN_TYPES."""
    return _EXTENSIONS[mime_type]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one file. `mime_type` is None for an unknown format; `intact` has no meaning then."""

    mime_type: str | None
    intact: bool
    claimed: bool  # the file name or the declared type says that it is an image or a PDF

    @property
    def corrupted(self) -> bool:
        """Whether it is damaged or truncated, or claims to be an image or a PDF and has no known format."""
        return not self.intact or (self.mime_type is None and self.claimed)


class Inspector:
    """Inspects one file while it is received: call `feed` with its bytes in order, then `finish`."""

    __slots__ = ("_claimed", "_format", "_head", "_json")

    def __init__(self, file_name: str, declared_type: str) -> None:
        name = file_name.lower()
        declared = declared_type.partition(";")[0].strip().lower()
        self._claimed = name.endswith(_CLAIMING) or declared.startswith(("image/", "application/pdf"))
        self._json = name.endswith((".json", ".har")) or declared.endswith(("application/json", "+json"))
        self._head = b""
        self._format: _Format | None = None

    def feed(self, data: bytes | memoryview) -> None:
        if self._format is None:
            if len(self._head) + len(data) < _HEAD:
                self._head += data
                return
            if self._head:  # copies one chunk, once per file
                data = self._head + data
            self._format = _recognise(bytes(data[:_HEAD]), self._json)
        self._format.feed(memoryview(data))

    def finish(self) -> Verdict:
        """The verdict on all bytes that were fed, of which there may be none."""
        if self._format is None:
            self._format = self._recognise_short()
            self._format.feed(memoryview(self._head))
        self._format.finish()
        return Verdict(self._format.mime_type, self._format.intact, self._claimed)

    def _recognise_short(self) -> "_Format":
        # Otherwise an image that is truncated within a signature of letters, like GIF8, would pass as plain text.
        if self._claimed and any(magic.startswith(self._head) for magic in _LETTER_SIGNATURES):
            return _Format(None, self._head)
        return _recognise(self._head, self._json)


class _Format:
    """A format that is recognised by its head and not checked further: the other bytes are not inspected."""

    intact = True

    def __init__(self, mime_type: str | None, head: bytes) -> None:
        self.mime_type = mime_type

    def feed(self, view: memoryview) -> None:
        """Inspect the next bytes, beginning with the first of the file. Must not keep a reference to `view`."""

    def finish(self) -> None:
        """Set the final `mime_type` and `intact`."""


class _Text(_Format):
    """UTF-8 without NUL up to the end, else no known format. JSON and HTML are not parsed: they are always intact."""

    def __init__(self, mime_type: str | None, head: bytes) -> None:
        super().__init__(mime_type, head)
        self.decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, view: memoryview) -> None:
        # Small slices stay in the CPU cache: 1 MiB of text at once can become 4 MiB of str.
        for start in range(0, len(view), 1 << 16):
            if self.mime_type:
                self._check(view[start : start + (1 << 16)], last=False)

    def finish(self) -> None:
        self._check(memoryview(b""), last=True)

    def _check(self, view: memoryview, last: bool) -> None:
        try:
            if "\0" in self.decoder.decode(view, last):
                self.mime_type = None
        except UnicodeDecodeError:
            self.mime_type = None


class _Pdf(_Format):
    """Intact with `%%EOF` in its last 1024 bytes: PDF readers search there, so some trailing bytes are allowed."""

    tail = b""

    def feed(self, view: memoryview) -> None:
        self.tail = (self.tail + view[-1024:])[-1024:]

    def finish(self) -> None:
        self.intact = b"%%EOF" in self.tail


class _WebP(_Format):
    """Intact when it has at least as many bytes as its RIFF header says."""

    def __init__(self, mime_type: str | None, head: bytes) -> None:
        super().__init__(mime_type, head)
        self.missing = 8 + int.from_bytes(head[4:8], "little")

    def feed(self, view: memoryview) -> None:
        self.missing -= len(view)

    def finish(self) -> None:
        self.intact = self.missing <= 0


class _Walk(_Format, ABC):
    """A sequence of blocks with length fields. Intact once the end marker is reached; trailing bytes are allowed.

    `walk` continues at offset `at` of a view and returns the offset where it stopped. An offset within the view: the
    rest is too short to parse, and is passed again in front of the next bytes. An offset beyond the view: that many
    of the next bytes are skipped.
    """

    intact = False
    walking = True
    at = 0
    carry = b""

    def feed(self, view: memoryview) -> None:
        if not self.walking:
            return
        if self.carry:  # rare, so copying the chunk costs little
            view = memoryview(self.carry + view)
        at = self.walk(view, self.at)
        self.carry = bytes(view[at:])
        self.at = max(0, at - len(view))

    @abstractmethod
    def walk(self, view: memoryview, at: int) -> int: ...

    def end(self, view: memoryview, intact: bool) -> int:
        self.walking = False
        self.intact = intact
        return len(view)


class _Png(_Walk):
    """Chunks with length, kind, data, and a CRC-32 of kind and data. First IHDR, then at least one IDAT, last IEND.

    One step reads the 12 bytes between the data of two chunks: the checksum of the one, the length and kind of the
    next. Before the first chunk, the second half of the signature is in the place of the checksum.
    """

    BETWEEN = Struct(">II4s")  # checksum, next length, next kind
    at = 4
    crc = 0x0D0A1A0A  # of the current chunk so far
    left = 0  # bytes of the current chunk's data that have not arrived
    kind = b""  # of the current chunk
    pixels = False  # an IDAT was seen

    def walk(self, view: memoryview, at: int) -> int:
        size = len(view)
        while at < size:
            data = view[at : at + self.left]
            self.crc = crc32(data, self.crc)
            self.left -= len(data)
            at += len(data)
            if self.left or size - at < 12:
                break
            crc, length, kind = self.BETWEEN.unpack_from(view, at)
            if crc != self.crc or length > 0x7FFFFFFF or not kind.isalpha():
                return self.end(view, intact=False)
            if (kind == b"IHDR") != (self.kind == b""):  # IHDR must be the first chunk and occur once
                return self.end(view, intact=False)
            if kind == b"IEND":
                if size - at < 16:
                    break
                checked = view[at + 4 : at + 16].tobytes() == b"\0\0\0\0IEND\xae\x42\x60\x82"
                return self.end(view, intact=checked and self.pixels)
            self.pixels = self.pixels or kind == b"IDAT"
            self.kind, self.left, self.crc = kind, length, crc32(kind)
            at += 12
        return at


class _Jpeg(_Walk):
    """Segments, which have a length field, and scans, which end at the next marker; from SOI to EOI.

    Segments are skipped by length. Otherwise the EOI of a thumbnail within a segment would count as the end. Stray
    bytes between segments are skipped like a scan, as viewers do: some cameras write them.
    """

    # After FF: 00 is an escaped FF, FF a fill byte; 01 and D0 to D7 (TEM, RST) are markers without a length.
    MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
    at = 2
    scanned = False

    def walk(self, view: memoryview, at: int) -> int:
        size = len(view)
        while found := self.MARKER.search(view, at):
            start, at = found.span()
            marker = view[at - 1]
            if marker == 0xD9:  # EOI
                return self.end(view, intact=self.scanned)
            if marker < 0xC0 or marker == 0xD8:  # reserved, or a second SOI: an earlier length is wrong
                return self.end(view, intact=False)
            if size - at < 2:
                return start
            length = view[at] << 8 | view[at + 1]
            if length < 2:
                return self.end(view, intact=False)
            self.scanned = self.scanned or marker == 0xDA  # SOS
            at += length
        if at < size:
            at = size - 1 if view[-1] == 0xFF else size
        return at


class _Gif(_Walk):
    """A screen descriptor, then extensions and images, each with sub-blocks of up to 255 bytes, then a trailer."""

    sub_block = 0  # the length of the last sub-block; 0 outside of an extension or image
    drawn = False

    def __init__(self, mime_type: str | None, head: bytes) -> None:
        super().__init__(mime_type, head)
        self.at = 13 + (_colours(head[10]) if len(head) > 10 else 0)

    def walk(self, view: memoryview, at: int) -> int:
        size = len(view)
        sub_block = self.sub_block
        while at < size:
            if sub_block:
                sub_block = view[at]
                at += 1 + sub_block
            elif view[at] == 0x21:  # extension: its label, then its sub-blocks
                at += 2
                sub_block = 1
            elif view[at] == 0x2C:  # image: position, size, flags, colours, code size, then its sub-blocks
                if size - at < 10:
                    break
                at += 11 + _colours(view[at + 9])
                sub_block = 1
                self.drawn = True
            else:
                return self.end(view, intact=self.drawn and view[at] == 0x3B)
        self.sub_block = sub_block
        return at


def _colours(flags: int) -> int:
    """The size in bytes of the colour table, from the flags of a GIF's screen or image descriptor."""
    return 6 << (flags & 7) if flags & 0x80 else 0


_BLANK = rb"(?:\xef\xbb\xbf)?[\t\n\x0c\r ]*"
_MAGIC: tuple[tuple[re.Pattern[bytes], str, type[_Format]], ...] = tuple(
    (re.compile(pattern, re.DOTALL), mime_type, kind)
    for pattern, mime_type, kind in (
        (rb"\x89PNG\r\n\x1a\n", "image/png", _Png),
        (rb"\xff\xd8\xff", "image/jpeg", _Jpeg),
        (rb"GIF8[79]a", "image/gif", _Gif),
        (rb"RIFF.{4}WEBP", "image/webp", _WebP),
        # PDF readers accept up to 1 KiB of any bytes before %PDF-. Here only blanks are allowed (some generators begin
        # with an empty line). Otherwise one file could be both a web page and a PDF.
        (_BLANK + rb"%PDF-", "application/pdf", _Pdf),
        (rb"PK(?:\x03\x04|\x05\x06)", "application/zip", _Format),
        # By major brand: HEIC, AVIF, M4A and QuickTime have the same box structure but are not MP4 video.
        (rb"\0\0..ftyp(?:iso.|mp4[12]|mp71|avc1|dash|cmfc|M4V[ HP]|MSNV|XAVC)", "video/mp4", _Format),
        # EBML with the DocType webm (42 82, with the length 4 in any of eight widths); that of Matroska is matroska.
        (rb"\x1aE\xdf\xa3.{1,60}?B\x82(?:\x84|[@ \x10\x08\x04\2\1]\0*\x04)webm", "video/webm", _Format),
    )
)
# The patterns of the WHATWG MIME Sniffing standard for text/html; each must be followed by a space or `>`.
_HTML = re.compile(
    _BLANK + rb"<(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|!--)[ >]",
    re.IGNORECASE,
)
_JSON = re.compile(_BLANK + rb'[{\["\-0-9tfn]')


def _recognise(head: bytes, named_json: bool) -> _Format:
    """The format of a file that begins with `head`. `named_json` matters only between JSON and plain text."""
    for magic, mime_type, kind in _MAGIC:
        if magic.match(head):
            return kind(mime_type, head)
    if b"\0" in head:
        return _Format(None, head)
    if _HTML.match(head):
        return _Text("text/html", head)
    return _Text("application/json" if named_json and _JSON.match(head) else "text/plain", head)
