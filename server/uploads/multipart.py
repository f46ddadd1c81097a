"""A streaming parser for multipart/form-data bodies (RFC 7578, RFC 2046). Pure: no I/O.

File data is returned as views of the received chunks. A chunk is copied only when the previous one ended within a
possible boundary or within the headers of a part.
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote

from server.errors import MalformedBody, NotMultipart, TooLarge
from server.uploads import names

MAX_PARTS = 200
MAX_PART_HEADERS = 8 << 10
_MAX_PADDING = 256

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf';\s*({_WORD})\s*=\s*("(?:[^"\\]|\\.)*"|[^;"]*)\s*', re.DOTALL)
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
# The headers of a part as nearly all clients write them, with nothing to unquote: a tenth of the general parser's time.
_USUAL_HEADERS = re.compile(
    r"""Content-Disposition: form-data; name="([^"\\\r\n]+)"(?:; filename="([^"\\%?\r\n]*)")?"""
    r"""(?:\r\nContent-Type: ([!-~]+))?"""
)
_PLAIN_ENCODINGS = {"", "7bit", "8bit", "binary"}


@dataclass(frozen=True, slots=True)
class Part:
    """The headers of a part. `file_name` may still have folders and control characters; None when there is none."""

    name: str
    file_name: str | None
    content_type: str


class End(Enum):
    """The end of a part's data."""

    OF_PART = 0


Event = Part | memoryview | End


class _State(Enum):
    PREAMBLE = 0
    DELIMITER = 1
    HEADERS = 2
    DATA = 3
    EPILOGUE = 4


def boundary_of(content_type: str) -> bytes:
    """The boundary in a Content-Type header, b"" when it has none. Raises NotMultipart for another type."""
    kind, _, _ = content_type.partition(";")
    if kind.strip().lower() != "multipart/form-data":
        raise NotMultipart()
    return _parameters(content_type).get("boundary", "").encode("utf-8", "surrogateescape")


class Parser:
    """Call feed() with each chunk and read its events; call close() at the end of the body."""

    def __init__(self, boundary: bytes, user_agent: str = "") -> None:
        """Raises MalformedBody for a boundary that RFC 2046 does not allow (5.1.1).

        `user_agent` is that of the request: it decides whether file names are percent-encoded.
        """
        if not _BOUNDARY.fullmatch(boundary):
            raise MalformedBody("The Content-Type must name a boundary of 1 to 70 characters (RFC 2046, 5.1.1).")
        self._delimiter = b"\r\n--" + boundary
        self._opening = b"--" + boundary
        # A line end in front of the body: the first delimiter, at the start of the body, is then like any other.
        self._rest = b"\r\n"
        self._state = _State.PREAMBLE
        self._parts = 0
        self._user_agent = user_agent

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that `chunk` completes. Raises MalformedBody, TooLarge (parts, headers)."""
        position: int | None = 0
        if self._state is _State.PREAMBLE and self._rest == b"\r\n" and chunk.startswith(self._opening):
            # The usual beginning. Without this, joining the line end and the chunk would copy the whole first chunk.
            data, position, self._state = chunk, len(self._opening), _State.DELIMITER
        else:
            data = self._rest + chunk if self._rest else chunk
        self._rest = b""
        while position is not None:
            if self._state is _State.DATA:
                position = yield from self._data(data, position)
            elif self._state is _State.DELIMITER:
                position = self._after_delimiter(data, position)
            elif self._state is _State.HEADERS:
                position = yield from self._headers(data, position)
            elif self._state is _State.PREAMBLE:
                position = self._preamble(data, position)
            else:
                return  # ignore the epilogue; the caller limits the size of the body

    def close(self) -> None:
        """Raise MalformedBody when the body ended before its final boundary."""
        if self._state is not _State.EPILOGUE:
            raise MalformedBody("The multipart body ends before its final boundary.")

    def _preamble(self, data: bytes, position: int) -> int | None:
        at = data.find(self._delimiter, position)
        if at < 0:
            self._rest = data[self._unfinished(data, position) :]
            return None
        self._state = _State.DELIMITER
        return at + len(self._delimiter)

    def _after_delimiter(self, data: bytes, position: int) -> int | None:
        if data[position : position + 2] == b"--":
            self._state = _State.EPILOGUE
            return position + 2
        limit = position + _MAX_PADDING + 2  # fixed, so that the result does not depend on the chunk sizes
        at = data.find(b"\r\n", position, limit)
        if at < 0 and len(data) < limit:
            self._rest = data[position:]
            return None
        if at < 0 or data[position:at].strip(b" \t"):
            raise MalformedBody("In the multipart body, a boundary must be followed by a line end (CRLF).")
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise TooLarge(f"The multipart body has too many parts (maximum {MAX_PARTS}).")
        self._state = _State.HEADERS
        return at

    def _headers(self, data: bytes, position: int) -> Generator[Event, None, int | None]:
        # The search begins at the line end before the headers: otherwise a part without headers is not found.
        limit = position + MAX_PART_HEADERS + 4
        at = data.find(b"\r\n\r\n", position, limit)
        if at < 0 and len(data) >= limit:
            raise TooLarge("The headers of a part are larger than 8 KiB. Use shorter field and file names.")
        # The empty line after the headers may be part of the next delimiter: the part has no data (RFC 2046, 5.1.1).
        following = data[at + 2 : at + 2 + len(self._delimiter)]
        if at < 0 or (len(following) < len(self._delimiter) and self._delimiter.startswith(following)):
            self._rest = data[position:]
            return None
        yield _part(data[position + 2 : at] if at > position else b"", self._user_agent)
        self._state = _State.DATA
        return at + 2 if following == self._delimiter else at + 4

    def _data(self, data: bytes, position: int) -> Generator[Event, None, int | None]:
        at = data.find(self._delimiter, position)
        stop = at if at >= 0 else self._unfinished(data, position)
        if stop > position:
            yield memoryview(data)[position:stop]
        if at < 0:
            self._rest = data[stop:]
            return None
        yield End.OF_PART
        self._state = _State.DELIMITER
        return at + len(self._delimiter)

    def _unfinished(self, data: bytes, position: int) -> int:
        """The offset at which a delimiter may begin that continues in the next chunk; len(data) when there is none."""
        at = data.rfind(b"\r", max(position, len(data) - len(self._delimiter) + 1))
        return at if at >= 0 and self._delimiter.startswith(data[at:]) else len(data)


def _part(block: bytes, user_agent: str) -> Part:
    text = block.decode("utf-8", "replace")
    if usual := _USUAL_HEADERS.fullmatch(text):
        return Part(usual[1], usual[2], usual[3] or "")
    headers: dict[str, str] = {}
    for line in text.split("\r\n") if text else ():
        name, colon, value = line.partition(":")
        if not colon or not re.fullmatch(_WORD, name):
            raise MalformedBody("A part of the multipart body has a malformed header line.")
        headers[name.lower()] = value.strip()
    disposition = headers.get("content-disposition", "")
    if disposition.partition(";")[0].strip().lower() != "form-data":
        raise MalformedBody("A part of the multipart body has no Content-Disposition: form-data header.")
    if headers.get("content-transfer-encoding", "").lower() not in _PLAIN_ENCODINGS:
        raise MalformedBody("Content-Transfer-Encoding is not supported (RFC 7578, 4.7): send the bytes as they are.")
    parameters = _parameters(disposition)
    if not parameters.get("name"):
        raise MalformedBody("A part of the multipart body has no name in its Content-Disposition.")
    return Part(parameters["name"], _sent_name(parameters, user_agent), headers.get("content-type", ""))


def _parameters(header: str) -> dict[str, str]:
    """Parameters by lower-case name. A backslash escapes a quote or a backslash; any other one is kept as it is."""
    return {
        match[1].lower(): re.sub(r'\\(["\\])', r"\1", match[2][1:-1]) if match[2].startswith('"') else match[2].strip()
        for match in _PARAMETER.finditer(header)
    }


def _sent_name(parameters: dict[str, str], user_agent: str) -> str | None:
    extended = parameters.get("filename*", "")  # RFC 8187: charset'language'percent-encoded
    charset, _, rest = extended.partition("'")
    if charset.lower() in {"utf-8", "iso-8859-1"} and "'" in rest:
        return unquote(rest.partition("'")[2], encoding=charset, errors="replace")
    name = parameters.get("filename")
    return None if name is None else names.decoded(name, user_agent)
