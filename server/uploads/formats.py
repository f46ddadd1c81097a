"""The binary formats that are checked for completeness while they stream. Pure: no image is decoded.

Between two calls of feed(), a format keeps only a few bytes or a tail of the file, never the caller's buffer.
"""

import re
from abc import ABC, abstractmethod
from struct import Struct

try:
    # Not isal, which is as fast by itself: it makes the hashing that follows slower, by as much as it saves.
    from zlib_ng.zlib_ng import crc32  # 13 times as fast as zlib
except ImportError:  # setup.py does not require it on processors without a wheel
    from zlib import crc32


class Format:
    """A format that is recognised by its head and not checked further: the other bytes are not inspected."""

    intact = True

    def __init__(self, mime_type: str | None, head: bytes) -> None:
        self.mime_type = mime_type

    def feed(self, view: memoryview) -> None:
        """Inspect the next bytes, beginning with the first of the file. Must not keep a reference to `view`."""

    def finish(self) -> None:
        """Set the final `mime_type` and `intact`."""


class Pdf(Format):
    """Intact with `%%EOF` in its last 64 KiB, zero bytes at the end not counted: viewers show such files.

    Browsers pad PDFs with zero bytes, and download managers append more.
    """

    WITHIN = 64 << 10
    MARK = b"%%EOF"
    size = 0  # without zero bytes at the end
    fed = 0
    mark = -1  # the offset of the last mark
    carry = b""  # the last bytes, in which a mark may begin

    def feed(self, view: memoryview) -> None:
        for start in range(0, len(view), 1 << 16):  # the slices are copied, which stays in the CPU cache
            self._search(view[start : start + (1 << 16)])

    def _search(self, view: memoryview) -> None:
        data = self.carry + view
        start = self.fed - len(self.carry)
        if (at := data.rfind(self.MARK)) >= 0:
            self.mark = start + at
        if length := len(data.rstrip(b"\0")):
            self.size = start + length
        self.fed += len(view)
        self.carry = data[-len(self.MARK) + 1 :]

    def finish(self) -> None:
        self.intact = self.mark >= max(0, self.size - self.WITHIN)


class WebP(Format):
    """Intact when it has at least as many bytes as its RIFF header says."""

    def __init__(self, mime_type: str | None, head: bytes) -> None:
        super().__init__(mime_type, head)
        self.missing = 8 + int.from_bytes(head[4:8], "little")

    def feed(self, view: memoryview) -> None:
        self.missing -= len(view)

    def finish(self) -> None:
        self.intact = self.missing <= 0


class Walk(Format, ABC):
    """A sequence of blocks with length fields. Intact once the end marker is reached; trailing bytes are allowed.

    `walk` continues at offset `at` of a view and returns the offset where it stopped. An offset within the view: the
    rest is too short to parse, and is passed again in front of the next bytes. An offset beyond the view: that many
    of the next bytes are skipped.

    A block costs as much as hashing hundreds of bytes. A file of tiny blocks would occupy the event loop for seconds,
    so a block must have `BLOCK` bytes on average, apart from the first `FIRST` blocks. In the rest of a file of smaller
    ones, which no encoder is known to write, the end marker is only searched.
    """

    FIRST = 4096
    BLOCK = 512
    END: bytes
    intact = False
    walking = True
    at = 0
    carry = b""

    def __init__(self, mime_type: str | None, head: bytes) -> None:
        super().__init__(mime_type, head)
        self.blocks = float(self.FIRST)  # how many more the bytes so far may have

    def feed(self, view: memoryview) -> None:
        if not self.walking:
            return
        if self.carry:  # rare, so copying the chunk costs little
            view = memoryview(self.carry + view)
        if self.blocks > 0:
            self.blocks += (len(view) - len(self.carry)) / self.BLOCK
            at = self.walk(view, self.at)
            self.carry = bytes(view[at:])
            self.at = max(0, at - len(view))
        if self.walking and self.blocks <= 0:
            self.carry = self.search(bytes(view))

    def search(self, data: bytes) -> bytes:
        """Look for the end marker. Returns the last bytes, in which it may begin."""
        if self.END in data:
            self.end(memoryview(data), intact=True)
        return data[-len(self.END) :]

    @abstractmethod
    def walk(self, view: memoryview, at: int) -> int: ...

    def end(self, view: memoryview, intact: bool) -> int:
        self.walking = False
        self.intact = intact
        return len(view)


class Png(Walk):
    """Chunks with length, kind, data, and a CRC-32 of kind and data. First IHDR, then at least one IDAT, last IEND.

    One step reads the 12 bytes between the data of two chunks: the checksum of the one, the length and kind of the
    next. Before the first chunk, the second half of the signature is in the place of the checksum.
    """

    BETWEEN = Struct(">II4s")  # checksum, next length, next kind
    END = b"\0\0\0\0IEND\xae\x42\x60\x82"
    at = 4
    crc = 0x0D0A1A0A  # of the current chunk so far
    left = 0  # bytes of the current chunk's data that have not arrived
    kind = b""  # of the current chunk
    pixels = False  # an IDAT was seen

    def walk(self, view: memoryview, at: int) -> int:
        size = len(view)
        while at < size and self.blocks > 0:
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
                checked = view[at + 4 : at + 16].tobytes() == self.END
                return self.end(view, intact=checked and self.pixels)
            self.pixels = self.pixels or kind == b"IDAT"
            self.kind, self.left, self.crc = kind, length, crc32(kind)
            self.blocks -= 1
            at += 12
        return at


class Jpeg(Walk):
    """Segments, which have a length field, and scans, which end at the next marker; from SOI to EOI.

    Segments are skipped by length. Otherwise the EOI of a thumbnail within a segment would count as the end. Stray
    bytes between segments are skipped like a scan, as viewers do: some cameras write them.
    """

    # After FF: 00 is an escaped FF, FF a fill byte; 01 and D0 to D7 (TEM, RST) are markers without a length.
    MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
    END = b"\xff\xd9"
    at = 2
    scanned = False
    unsampled = 0  # bytes since the last sample

    def walk(self, view: memoryview, at: int) -> int:
        size = len(view)
        self._charge_search(view)
        while self.blocks > 0 and (found := self.MARKER.search(view, at)):
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
            self.blocks -= 1
            at += length
        if at < size:
            at = size - 1 if view[-1] == 0xFF else size
        return at

    def _charge_search(self, view: memoryview) -> None:
        """Count bytes that are full of FF as blocks: the search for a marker stops at each FF. From a sample."""
        self.unsampled += len(view)
        if self.unsampled >= 1 << 16:
            sample = bytes(view[:: max(1, len(view) >> 6)])
            if sample.count(0xFF) > len(sample) / 8 + 4:
                self.blocks -= self.unsampled / 16
            self.unsampled = 0


class Gif(Walk):
    """A screen descriptor, then extensions and images, each with sub-blocks of up to 255 bytes, then a trailer.

    Viewers show a file without a trailer: it is intact unless it ends within an image.
    """

    BLOCK = 64  # a sub-block costs little
    END = b"\0"  # of an image: a trailer is not needed
    sub_block = 0  # the length of the last sub-block; 0 outside of an extension or image
    drawn = False
    in_image = False  # the last extension or image is an image

    def __init__(self, mime_type: str | None, head: bytes) -> None:
        super().__init__(mime_type, head)
        self.at = 13 + (_colours(head[10]) if len(head) > 10 else 0)

    def walk(self, view: memoryview, at: int) -> int:
        size = len(view)
        sub_block, blocks = self.sub_block, self.blocks
        while at < size and blocks > 0:
            blocks -= 1
            if sub_block:
                sub_block = view[at]
                at += 1 + sub_block
            elif view[at] == 0x21:  # extension: its label, then its sub-blocks
                at += 2
                sub_block = 1
                self.in_image = False
            elif view[at] == 0x2C:  # image: position, size, flags, colours, code size, then its sub-blocks
                if size - at < 10:
                    break
                at += 11 + _colours(view[at + 9])
                sub_block = 1
                self.drawn = self.in_image = True
            else:
                return self.end(view, intact=self.drawn and view[at] == 0x3B)
        self.sub_block, self.blocks = sub_block, blocks
        return at

    def search(self, data: bytes) -> bytes:
        return super().search(data) if self.drawn else b""

    def finish(self) -> None:
        if self.walking and self.blocks > 0:
            self.intact = self.drawn and not self.carry and not (self.in_image and self.sub_block)


def _colours(flags: int) -> int:
    """The size in bytes of the colour table, from the flags of a GIF's screen or image descriptor."""
    return 6 << (flags & 7) if flags & 0x80 else 0
