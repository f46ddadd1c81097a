"""Text files in pages of 2,000 lines or 512 KiB. Only the page in view is in memory, and what comes before it is read
once: a file may have a gigabyte."""

from array import array
from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing
from copy import deepcopy
from dataclasses import dataclass, field

from server.background import aside
from server.reports.result_files import ResultFile
from server.storage.folder import Storage

LINES = 2_000
BYTES = 512 << 10
MOST_PAGES = 20_000  # 10 GiB of text, or 40 million lines
SEARCHED = 10 << 20  # bytes of a file
MATCHES = 200  # lines that are shown
_COUNTED = 10_000  # lines that match
_AROUND = 100  # characters of a line before and after a match
_REMEMBERED = 32  # files


class Text:
    """One encoding: where lines end in bytes, and the text of bytes. `narrow`: a line end is one byte."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding if encoding.startswith("utf-16") else "utf-8"
        self.narrow = self.encoding == "utf-8"

    def count(self, data: bytes) -> int:
        return data.count(b"\n") if self.narrow else self._units(data).count("\n")

    def after(self, data: bytes, lines: int) -> int:
        """The offset after so many line ends."""
        where = data.split(b"\n", lines) if self.narrow else self._units(data).split("\n", lines)
        return len(data) - len(where[-1]) if self.narrow else len(data) - len(self._bytes(str(where[-1])))

    def after_last(self, data: bytes) -> int:
        """The offset after the last line end; 0 when there is none."""
        if self.narrow:
            return data.rfind(b"\n") + 1
        text = self._units(data)
        return len(self._bytes(text[: text.rfind("\n") + 1]))

    def partial(self, data: bytes) -> int:
        """How many bytes at the end may be a part of a character."""
        if not self.narrow:
            return 2 if data[-2:] and 0xD8 <= data[-2:][self.encoding == "utf-16le"] <= 0xDB else 0
        for size in range(1, min(4, len(data)) + 1):
            if data[-size] & 0xC0 != 0x80:
                return size if data[-size] >= 0xC0 else 0
        return 0

    def decode(self, data: bytes, errors: str = "surrogateescape") -> str:
        """The text, with one kind of line end. `errors`: what becomes of bytes that are no text (in UTF-16: U+FFFD)."""
        text = data.decode(self.encoding, errors if self.narrow else "replace")
        return text.replace("\r\n", "\n").replace("\r", "␍")

    def _units(self, data: bytes) -> str:
        return data[: len(data) & ~1].decode(self.encoding, "surrogatepass")

    def _bytes(self, text: str) -> bytes:
        return text.encode(self.encoding, "surrogatepass")


class PageStarts:
    """Where the pages of a text begin: found while its bytes are fed in order, up to `read`."""

    def __init__(self, text: Text, size: int) -> None:
        self.text, self.size, self.read = text, size, 0
        self.offsets, self.lines = array("Q", [0]), array("Q", [1])  # of the first byte and line of each page
        self.within = array("B", [0])  # whether a page begins within a line
        self._ends = 0  # line ends before `read`
        self._of_page = 0  # line ends of the last page
        self._line = 0  # offset after the last line end

    @property
    def done(self) -> bool:
        return self.read >= self.size or len(self.offsets) > MOST_PAGES

    @property
    def last_line(self) -> int:
        """The number of the last line that begins before `read`."""
        return max(1, self._ends + (self._line < self.read))

    def feed(self, data: bytes) -> None:
        at = 0
        while at < len(data) and not self.done:
            window = data[at : at + BYTES - (self.read - self.offsets[-1])]
            ends, left = self.text.count(window), LINES - self._of_page
            if ends >= left:
                window, ends = window[: self.text.after(window, left)], left
            if last := self.text.after_last(window):
                self._line = self.read + last
            self.read += len(window)
            self._ends += ends
            self._of_page += ends
            at += len(window)
            if self._of_page == LINES or self.read - self.offsets[-1] >= BYTES:
                self._begin(window)

    def _begin(self, window: bytes) -> None:
        """A new page: after the last line end of this page, or within its line when that is all of it."""
        within = self._line <= self.offsets[-1]
        start = self.read - self.text.partial(window) if within else self._line
        if start < self.size:
            self.offsets.append(start)
            self.lines.append(self._ends + 1)
            self.within.append(within)
            self._of_page = 0

    def page_of(self, line: int) -> int:
        """The page, from 0, on which a line begins; the last one when there are fewer lines."""
        found = 0
        for page in range(len(self.lines)):
            if self.lines[page] > line:
                break
            if not (self.within[page] and self.lines[page] == line):
                found = page
        return found


@dataclass(frozen=True, slots=True)
class TextPage:
    """`number`: from 1. `first`: the number of the first line. `within`: that line began on an earlier page; `cut`: the
    last one goes on on the next. `pages` and `last_line`: None while the end of the file has not been read."""

    number: int
    first: int
    lines: list[str]
    within: bool
    cut: bool
    more: bool
    pages: int | None
    last_line: int | None


@dataclass(frozen=True, slots=True)
class Match:
    """A line that has what was searched for: its number, and its text before, at and after that."""

    line: int
    before: str
    found: str
    after: str


@dataclass(frozen=True, slots=True)
class Found:
    """The first matching lines, and how many there are (at most 10,000). `whole`: all of the file was searched."""

    matches: list[Match]
    lines: int
    whole: bool


_known: OrderedDict[str, PageStarts] = OrderedDict()


async def page(storage: Storage, file: ResultFile, number: int, line: int | None, end: bool) -> TextPage | None:
    """A page of a file: the one with a line, the last one, or the one with this number (at most the last). None when
    the stored file is missing."""
    text = Text(file.text_encoding or "utf-8")
    starts = deepcopy(_known.get(file.checksum)) or PageStarts(text, file.size)

    def enough() -> bool:
        reached = not end and len(starts.offsets) > number
        return starts.done or (starts.lines[-1] > line if line is not None else reached)

    if not enough() and not await _scan(storage, file, starts, enough):
        return None
    _remember(file.checksum, starts)
    at = len(starts.offsets) - 1 if end else min(number, len(starts.offsets)) - 1
    at = min(starts.page_of(line) if line is not None else at, MOST_PAGES - 1)
    start = starts.offsets[at]
    stop = starts.offsets[at + 1] if at + 1 < len(starts.offsets) else min(start + BYTES, file.size)
    data = await storage.read(file.storage_path, file.size, start, stop - start)
    if data is None:
        return None
    lines = (await aside(len(data), text.decode, data)).split("\n")
    more = stop < file.size
    cut = more and lines[-1] != ""
    if lines[-1] == "":
        lines.pop()
    if at == 0 and lines:
        lines[0] = lines[0].removeprefix("\ufeff")
    ended = starts.read >= starts.size
    return TextPage(
        at + 1,
        starts.lines[at],
        lines,
        bool(starts.within[at]),
        cut,
        more and at + 1 < MOST_PAGES,
        len(starts.offsets) if ended else None,
        starts.last_line if ended else None,
    )


async def _scan(storage: Storage, file: ResultFile, starts: PageStarts, enough: Callable[[], bool]) -> bool:
    """Whether the file could be read until there was enough."""
    async with aclosing(storage.parts(file.storage_path, file.size, starts.read, file.size, BYTES)) as parts:
        async for part in parts:
            await aside(len(part), starts.feed, part)
            if enough():
                break
    return enough()


def _remember(checksum: str, starts: PageStarts) -> None:
    known = _known.pop(checksum, starts)
    _known[checksum] = known if known.read > starts.read else starts
    while len(_known) > _REMEMBERED:
        _known.popitem(last=False)


async def find(storage: Storage, file: ResultFile, wanted: str, plain: Callable[[str], str]) -> Found | None:
    """The lines that have a text, in any case, among the first 10 MiB. `plain` removes what is not shown. None when the
    stored file is missing."""
    text = Text(file.text_encoding or "utf-8")
    search = _Search(wanted.lower(), lambda data: plain(text.decode(data, "backslashreplace")))
    size = min(file.size, SEARCHED)
    rest, read = b"", 0
    async with aclosing(storage.parts(file.storage_path, file.size, 0, size, BYTES)) as parts:
        async for part in parts:
            rest, read = rest + part, read + len(part)
            whole = len(rest) if read == size or len(rest) > 2 * BYTES else text.after_last(rest)
            piece, rest = rest[:whole], rest[whole:]
            await aside(len(piece), search.feed, piece)
            if search.lines >= _COUNTED:
                break
    if read < size and search.lines < _COUNTED:
        return None
    return Found(search.matches, search.lines, file.size <= SEARCHED)


@dataclass(slots=True)
class _Search:
    wanted: str
    shown: Callable[[bytes], str]
    matches: list[Match] = field(default_factory=list)
    lines: int = 0
    line: int = 1
    last: int = 0  # the line of the last match

    def feed(self, data: bytes) -> None:
        text = self.shown(data)
        lower = text.lower()
        shown = text if len(text) == len(lower) else lower  # few letters are longer as small ones
        at = counted = 0
        while (at := lower.find(self.wanted, at)) >= 0 and self.lines < _COUNTED:
            self.line += lower.count("\n", counted, at)
            counted = at
            if self.line != self.last:
                self._add(shown, at)
            self.last = self.line
            following = lower.find("\n", at)
            at = following if following >= 0 else len(lower)
        self.line += lower.count("\n", counted)

    def _add(self, text: str, at: int) -> None:
        self.lines += 1
        if len(self.matches) < MATCHES:
            start, end = text.rfind("\n", 0, at) + 1, at + len(self.wanted)
            stop = text.find("\n", end)
            stop = len(text) if stop < 0 else stop
            before = ("…" if at - start > _AROUND else "") + text[max(start, at - _AROUND) : at]
            after = text[end : min(stop, end + _AROUND)] + ("…" if stop > end + _AROUND else "")
            self.matches.append(Match(self.line, before, text[at:end], after))
