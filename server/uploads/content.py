"""Detects the MIME type of a file from its bytes, and whether the file is intact. Pure: no I/O, no configuration.

Pass the bytes of one file to Inspector.feed() in chunks of any size, then call finish(). No image is decoded, and
nothing is decompressed. Between two chunks, only a head or a tail and a few bytes are kept, never the caller's buffer.
"""

import re
from dataclasses import dataclass, field

from server.uploads import text
from server.uploads.formats import Format, Gif, Jpeg, Pdf, Png, WebP

_EXTENSIONS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "application/pdf": ".pdf",
    "application/json": ".json",
    "application/zip": ".zip",
    "application/gzip": ".gz",
    "application/octet-stream": ".bin",
    "text/html": ".html",
    "text/plain": ".txt",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/quicktime": ".mov",
    "video/x-matroska": ".mkv",
}
ANYTHING = "application/octet-stream"  # where it is allowed, a file of any type that is not
KNOWN_TYPES = frozenset(_EXTENSIONS)

_HEAD = 1445  # bytes that determine the type: the "resource header" of the WHATWG MIME Sniffing standard
_CLAIMING = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".pdf")
_LETTER_SIGNATURES = (b"GIF87a", b"GIF89a", b"RIFF", b"%PDF-")
_TEXT_ARTIFACTS = frozenset({"log", "har"})  # artifact types whose files are text, whatever their name


def extension(mime_type: str) -> str:
    """`.png` for `image/png`. Raises KeyError for a type outside KNOWN_TYPES."""
    return _EXTENSIONS[mime_type]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one file. `mime_type` is None for an unknown format; `intact` has no meaning then."""

    mime_type: str | None
    intact: bool
    claimed: bool  # the file name or the declared type says that it is an image or a PDF
    text_encoding: str | None = None  # utf-8, utf-16le, utf-16be or unknown; None when it cannot be text
    as_text: str | None = None  # the type of an unknown format if its artifact type says that it is text
    found: str = field(default="", compare=False)  # what an unknown format is, for people

    @property
    def corrupted(self) -> bool:
        """Whether it is damaged or truncated, or claims to be an image or a PDF and has no known format."""
        return not self.intact or (self.mime_type is None and self.claimed)

    def type_as(self, artifact_type: str) -> str | None:
        """The MIME type of an artifact of this type; None for an unknown format."""
        return self.mime_type or (self.as_text if artifact_type in _TEXT_ARTIFACTS else None)


class Inspector:
    """Inspects one file while it is received: call `feed` with its bytes in order, then `finish`."""

    __slots__ = ("_claimed", "_format", "_head", "_json", "_text")

    def __init__(self, file_name: str, declared_type: str) -> None:
        name = file_name.lower()
        declared = declared_type.partition(";")[0].strip().lower()
        # The name decides before the declared type: many clients declare one type for every file.
        named, image = text.is_text_name(name), name.endswith(_CLAIMING)
        self._text = named or (not image and text.is_text_type(declared))
        self._claimed = image or (not self._text and declared.startswith(("image/", "application/pdf")))
        self._json = name.endswith((".json", ".har")) or declared.endswith(("application/json", "+json"))
        self._head = b""
        self._format: Format | _Text | None = None

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
        if isinstance(self._format, _Text):
            return self._format.verdict(self._text, self._claimed)
        self._format.finish()
        return Verdict(self._format.mime_type, self._format.intact, self._claimed, found="a damaged image or PDF")

    def _recognise_short(self) -> "Format | _Text":
        # Otherwise an image that is truncated within a signature of letters, like GIF8, would pass as plain text.
        if self._claimed and any(magic.startswith(self._head) for magic in _LETTER_SIGNATURES):
            return Format(None, self._head)
        return _recognise(self._head, self._json)


class _Text:
    """A content without the signature of a known type: text or an unknown format. JSON and HTML are not parsed.

    Text is kept in any encoding. UTF-8 without NUL, or UTF-16 with a byte order mark, proves itself. Any other content
    is text when its name, declared or artifact type says so, and when it has no signature of a binary format.
    """

    def __init__(self, mime_type: str, encoding: str, unmarked: bool, binary: str | None) -> None:
        self.mime_type = mime_type
        self._unmarked = unmarked  # UTF-16 without a byte order mark
        self._binary = binary
        self._decoding = text.Decoding(encoding)

    def feed(self, view: memoryview) -> None:
        self._decoding.feed(view)

    def verdict(self, said: bool, claimed: bool) -> Verdict:
        """`said`: the name or the declared type says that the file is text."""
        encoding, stopped = self._decoding.encoding, self._decoding.stopped
        if not stopped and not self._unmarked:
            return Verdict(self.mime_type, True, claimed, encoding)
        if self._binary:
            return Verdict(None, True, claimed, found=self._binary)
        found = f"no known format, and no text: {stopped or 'it looks like UTF-16 without a byte order mark'}"
        as_text = None if claimed else self.mime_type
        return Verdict(as_text if said else None, True, claimed, encoding, as_text, found)


_BLANK = rb"(?:\xef\xbb\xbf)?[\t\n\x0c\r ]*"
_MAGIC: tuple[tuple[re.Pattern[bytes], str, type[Format]], ...] = tuple(
    (re.compile(pattern, re.DOTALL), mime_type, kind)
    for pattern, mime_type, kind in (
        (rb"\x89PNG\r\n\x1a\n", "image/png", Png),
        (rb"\xff\xd8\xff", "image/jpeg", Jpeg),
        (rb"GIF8[79]a", "image/gif", Gif),
        (rb"RIFF.{4}WEBP", "image/webp", WebP),
        # PDF readers accept up to 1 KiB of any bytes before %PDF-. Here only blanks are allowed (some generators begin
        # with an empty line). Otherwise one file could be both a web page and a PDF.
        (_BLANK + rb"%PDF-", "application/pdf", Pdf),
        (rb"PK(?:\x03\x04|\x05\x06)", "application/zip", Format),
        # By major brand: HEIC, AVIF and M4A have the same box structure but are not videos.
        (rb"\0\0..ftyp(?:iso.|mp4[12]|mp71|avc1|dash|cmfc|M4V[ HP]|MSNV|XAVC)", "video/mp4", Format),
        (rb"\0\0..ftypqt  |\0...(?:moov|mdat|wide)", "video/quicktime", Format),  # old files have no ftyp
        # EBML with the DocType webm or matroska (42 82, with the length 4 or 8 in any of eight widths).
        (rb"\x1aE\xdf\xa3.{1,60}?B\x82(?:\x84|[@ \x10\x08\x04\2\1]\0*\x04)webm", "video/webm", Format),
        (
            rb"\x1aE\xdf\xa3.{1,60}?B\x82(?:\x88|[@ \x10\x08\x04\2\1]\0*\x08)matroska",
            "video/x-matroska",
            Format,
        ),
        (rb"\x1f\x8b\x08", "application/gzip", Format),
    )
)
# Binary formats without a type of their own here. Without this list, a core dump named crash.log would be kept as text.
_BINARY: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"\x89PNG", "a damaged PNG image"),
        (rb"\0\0..ftyp", "an ISO media file (such as HEIC, AVIF, M4A)"),
        (rb"\x1aE\xdf\xa3", "an EBML file"),
        (rb"BZh[1-9]1AY&SY", "bzip2 data"),
        (rb"\xfd7zXZ\0", "xz data"),
        (rb"\x28\xb5\x2f\xfd", "zstd data"),
        (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
        (rb"Rar!\x1a\x07", "a RAR archive"),
        (rb".{257}ustar", "a tar archive"),
        (rb"\x7fELF", "an ELF program or core dump"),
        (rb"MZ.{62,1000}PE\0\0", "a Windows program"),
        (rb"MDMP\x93\xa7", "a Windows minidump"),
        (rb"ElfFile\0", "a Windows event log"),
        (rb"(?:\xca\xfe\xba\xbe|\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe)", "a Java class or macOS program"),
        (rb"JAVA PROFILE 1\.0", "a Java heap dump"),
        (rb"\0asm", "a WebAssembly module"),
        (rb"LPKSHHRH", "a systemd journal"),
        (rb"SQLite format 3\0", "an SQLite database"),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document"),
        (rb"(?:\xd4\xc3\xb2\xa1|\xa1\xb2\xc3\xd4|\x0a\x0d\x0d\x0a)", "a network capture"),
        (rb"RIFF.{4}(?:WAVE|AVI )", "a WAV or AVI file"),
        (rb"OggS\0|fLaC\0|ID3[\2-\4]\0", "an audio file"),
        (rb"II\*\0|MM\0\*", "a TIFF image"),
        (rb"BM.{4}\0\0\0\0", "a BMP image"),
    )
)
# The patterns of the WHATWG MIME Sniffing standard for text/html; each must be followed by a space or `>`.
_HTML = re.compile(
    _BLANK + rb"<(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p|!--)[ >]",
    re.IGNORECASE,
)
_JSON = re.compile(_BLANK + rb'[{\["\-0-9tfn]')


def _recognise(head: bytes, named_json: bool) -> Format | _Text:
    """The format of a file that begins with `head`. `named_json` matters only between JSON and plain text."""
    for magic, mime_type, kind in _MAGIC:
        if magic.match(head):
            return kind(mime_type, head)
    encoding, marked, plain = text.beginning(head)
    mime_type = "text/plain"
    if _HTML.match(plain):
        mime_type = "text/html"
    elif named_json and _JSON.match(plain):
        mime_type = "application/json"
    binary = None
    if b"\0" in head or not head.isascii():
        binary = next((name for magic, name in _BINARY if magic.match(head)), None)
    return _Text(mime_type, encoding, encoding != text.UTF_8 and not marked, binary)
