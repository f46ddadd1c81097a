"""Decodes request bodies and queries into checked values. An error names the path of a wrong value and the rule."""

import asyncio
import json
import math
import re
import zlib
from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import Struct, inspect

from server.background import aside
from server.errors import BodyTimeout, Invalid, MalformedBody, NotForm, NotMultipart, Problem, TooLarge, UnknownEncoding
from server.http.fields import PATTERNS
from server.http.nesting import check_count, check_depth
from server.http.repair import BAD_TEXT, BAD_TEXT_RULE, MAX_TEXT_BYTES, Unrepairable, repaired, too_long
from server.limits import Reservation
from server.reports.words import WORDS
from server.services import CALL, SERVICES
from server.uploads import multipart
from server.wrong_values import requirement

T = TypeVar("T")

BOM = b"\xef\xbb\xbf"
# Bytes. Before a larger body is read, the server checks that its resource exists and that memory is available.
SMALL_BODY = 256 << 10
_SLOW_SECONDS = 0.9  # an upload whose client is this far behind `min_body_rate` frees its slot
_TINY = 1 << 10  # bytes; chunks below are joined
_PORTION = 4 << 10  # bytes of tiny chunks to join at once: up to 4,096 chunks, which take some milliseconds
_INFLATE = 256 << 10  # bytes to decompress at once
_MOST_AT_ONCE = 64  # chunks
_MAX_FIELDS = 100  # of a form
_ROWS = 500  # to free at once
_REGEX = "Expected `str` matching regex "


def decode_hook(wanted: Any, value: object) -> object:
    """msgspec's dec_hook: decodes the classes of fields.py."""
    return wanted.parse(value)


@cache
def _decoder(wanted: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cast(Any, wanted), dec_hook=decode_hook)


def from_json(raw: bytes, wanted: type[T], warnings: list[Problem]) -> T:
    """`raw` as `wanted`. Repairs odd values and appends to `warnings`, see repair.py.

    Raises MalformedBody (not JSON), TooLarge (too many values) or Invalid (wrong values, nested too deeply).
    """
    check_count(raw)
    check_depth(raw)
    raw = raw.removeprefix(BOM)
    try:
        value: T = _decoder(cast(Hashable, wanted)).decode(raw)
        if b"\\u0000" not in raw and (len(raw) <= MAX_TEXT_BYTES or not _has_long_text(value)):
            return value
        del value
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # also wrong values: ValidationError is a DecodeError
        if isinstance(error.__cause__, Unrepairable):
            raise Invalid(problem_of(cast(msgspec.ValidationError, error), wanted)) from None
    try:
        odd = _python_values(raw)
    except ValueError as error:
        raise MalformedBody(f"The body is not valid JSON: {error}") from None
    try:
        return from_plain(odd, wanted, warnings)
    except Invalid as error:
        # Its frames, and the error that it was made from, have all values: they are freed here, not on the event loop.
        del odd
        error.__context__ = None
        raise error.with_traceback(None) from None


def from_text(values: Mapping[str, str], wanted: type[T], warnings: list[Problem] | None = None) -> T:
    """A query or a form as `wanted`: numbers and booleans are parsed, an empty value is absent. Raises Invalid.

    A form is repaired and appends to `warnings`. A query, without `warnings`, is not: it would find other things.
    """
    present = {name: text for name, text in values.items() if text != ""}
    if not present:
        return _converted(present, wanted, strict=False)
    if warnings is None:
        check_text(present)
    return from_plain(present, wanted, warnings, strict=False)


def from_plain(value: object, wanted: type[T], warnings: list[Problem] | None, strict: bool = True) -> T:
    """Decoded JSON or a form's values as `wanted`, repaired unless `warnings` is None. Raises Invalid."""
    return _converted(repaired(value, wanted, warnings), wanted, strict)


def _converted(value: object, wanted: type[T], strict: bool) -> T:
    try:
        return msgspec.convert(value, wanted, strict=strict, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        raise Invalid(problem_of(error, wanted, not strict)) from None


def parse(raw: bytes, path: str = "") -> Any:
    """JSON as Python's values, for what msgspec refuses, such as lone surrogates. `path`: where in the request it is.

    Raises ValueError for text that is not JSON, Invalid when it is nested too deeply.
    """
    check_depth(raw, path)
    return _python_values(raw.removeprefix(BOM))


def _python_values(raw: bytes) -> Any:
    return json.loads(raw.decode("utf-8", "surrogatepass"), parse_constant=_no_number, parse_float=_finite)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is out of range")
    return number


def check_text(values: Mapping[str, str]) -> None:
    """Raises Invalid for a text with a NUL character or a lone surrogate."""
    for name, text in values.items():
        if BAD_TEXT.search(text):
            raise Invalid(Problem(name, BAD_TEXT_RULE))


def _has_long_text(value: object) -> bool:
    """Whether any text has too many bytes. The types limit characters, each of up to 4 bytes."""
    if isinstance(value, str):
        return too_long(value)
    if isinstance(value, msgspec.Struct):
        return any(_has_long_text(getattr(value, name)) for name in value.__struct_fields__)
    return isinstance(value, list) and any(map(_has_long_text, value))


def problem_of(error: msgspec.ValidationError, wanted: Any, as_text: bool = False) -> Problem:
    """Where a value is wrong and what is allowed there. `as_text`: it came from a query or a form."""
    text, _, where = str(error).partition(" - at `$")
    path = where.removesuffix("`").removeprefix(".")
    missing = re.fullmatch(r"Object missing required field `(\w+)`", text)
    if missing:
        return Problem(f"{path}.{missing[1]}".removeprefix("."), "is required")
    if text.startswith("Invalid enum value"):
        return Problem(path, "must be one of: " + ", ".join(_allowed(wanted, path)))
    if text.startswith(_REGEX):
        pattern = text.removeprefix(_REGEX)[1:-1].replace("\\\\", "\\")
        return Problem(path, PATTERNS.get(pattern, f"must match {pattern}"))
    return Problem(path, requirement(text, as_text))


def _allowed(wanted: Any, path: str) -> list[str]:
    """The values that the Literal at `path` of a type allows."""
    kind: Any = inspect.type_info(wanted)
    for name in re.findall(r"\w+|\[", path):
        kind = _some(kind, inspect.StructType, inspect.ListType, inspect.DictType)
        if isinstance(kind, inspect.StructType):
            known = {field.encode_name: field.type for field in kind.fields}
            if name in known:
                kind = known[name]
        elif name == "[" and isinstance(kind, inspect.ListType):
            kind = kind.item_type
    kind = _some(kind, inspect.LiteralType)
    values = set(kind.values) if isinstance(kind, inspect.LiteralType) else set()
    return next((list(words) for words in WORDS if set(words) == values), [])


def _some(kind: Any, *kinds: type) -> Any:
    """`kind` without its metadata; for a union, its member that is one of `kinds`."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        return next((found for member in kind.types if isinstance(found := _some(member, *kinds), kinds)), kind)
    return kind


def check_length(request: web.Request, limit: int, detail: str = "") -> None:
    """Raises TooLarge when Content-Length is more than `limit` bytes."""
    if (request.content_length or 0) > limit:
        raise TooLarge(detail or f"The body is larger than {limit} bytes.")


class Body:
    """A request body, read in chunks: a client that is too slow for too long gets BodyTimeout. A context manager.

    The client has a budget of `body_timeout` seconds. The time that the server waits for chunks is subtracted, and each
    `min_body_rate` received bytes add one second. So a client that sends nothing is refused after `body_timeout`, one
    below the rate somewhat later. Time that the server spends on its own work is not subtracted. One timer serves the
    whole body: a timeout around each wait took 4 µs per chunk.
    """

    def __init__(self, request: web.Request) -> None:
        config = request.app[SERVICES].config.server
        self._content = request.content
        self._slot = request[CALL].slot
        self._full_budget = self._budget = config.body_timeout  # seconds
        self._rate = config.min_body_rate
        self._loop = asyncio.get_running_loop()
        self._waiting_since: float | None = None
        self._waited = 0.0  # seconds since the last check
        self._received = 0  # bytes since the last check
        self._timer: asyncio.TimerHandle | None = None
        self._at_once = 0  # chunks since the event loop had its turn

    def __enter__(self) -> "Body":
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._slot is not None:
            self._slot.count(True)  # the rest of the work does not wait for the client

    async def next_chunk(self) -> bytes:
        """The next chunk of the body, b"" at its end.

        Raises MalformedBody for broken framing, BodyTimeout when the client is too slow.
        """
        if self._content.at_eof() and self._content.exception() is None:
            return b""
        self._waiting_since = since = self._loop.time()
        if self._timer is None and not self._content.is_eof():  # otherwise it waits for nothing
            self._schedule_check(min(1.0, self._budget))
        try:
            while True:
                # Not readany(): it joins the received pieces, and so copies them.
                chunk, _ = await self._content.readchunk()
                if 0 < len(chunk) < _TINY and (more := self._content.read_nowait(_PORTION)):
                    chunk += more
                    self._at_once = _MOST_AT_ONCE
                if chunk or self._content.at_eof():
                    await self._take_turns()
                    self._received += len(chunk)
                    return chunk
        except (web.RequestPayloadError, HttpProcessingError):
            raise MalformedBody("The body could not be read: its framing is broken.") from None
        finally:
            self._waited += self._loop.time() - max(since, self._waiting_since)
            self._waiting_since = None

    async def _take_turns(self) -> None:
        """Let the event loop do other work now and then. Chunks that have been received already are read without a
        wait, and each read makes aiohttp parse more of them: a body of 2-byte chunks blocked the loop for 0.4 s."""
        self._at_once += 1
        if self._at_once > _MOST_AT_ONCE:
            self._at_once = 0
            await asyncio.sleep(0)

    def _schedule_check(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._check_rate)

    def _check_rate(self) -> None:
        now = self._loop.time()
        if self._waiting_since is not None:
            self._waited += now - self._waiting_since
            self._waiting_since = now
        self._budget = min(self._full_budget, self._budget - self._waited + self._received / self._rate)
        self._waited, self._received = 0.0, 0
        if self._budget <= 0:
            self._content.set_exception(BodyTimeout())
            return
        if self._slot is not None:
            self._slot.count(self._full_budget - self._budget < _SLOW_SECONDS)
        self._schedule_check(min(1.0, max(self._budget, 0.01)))


async def read_body(request: web.Request, limit: int, memory: Reservation) -> bytes:
    """The whole body, decompressed.

    Raises TooLarge as soon as there are more than `limit` bytes, Overloaded when there is no memory for a large body.
    Memory is reserved for received bytes, not for Content-Length: otherwise a slow client would hold memory that it
    does not need yet.
    """
    inflater = _inflater(request.headers.get("Content-Encoding", ""))
    parts: list[bytes] = []
    received = size = 0
    with Body(request) as body:
        while chunk := await body.next_chunk():
            received += len(chunk)
            for part in [chunk] if inflater is None else inflater.feed(chunk):
                size += len(part)
                if max(size, received) > limit:
                    raise TooLarge(f"The body is larger than {limit} bytes.")
                parts.append(part)
                if size > SMALL_BODY:
                    memory.grow(size)
                if len(part) == _INFLATE:
                    await asyncio.sleep(0)  # a small chunk may become 1,000 times as large
    if inflater is not None:
        inflater.close()
    return await aside(size, b"".join, parts)


async def release(body: Struct) -> None:
    """Free the rows of a large JSON body that is not needed any more: in portions, since no other request is served
    while they are freed, and headers of 8,000 requests can take 40 ms."""
    freed = 0
    for rows in _lists(body):
        while rows:
            freed += len(rows[-_ROWS:])
            del rows[-_ROWS:]
            if freed >= _ROWS:
                freed = 0
                await asyncio.sleep(0)


def _lists(value: Struct) -> Iterator[list[Any]]:
    """The lists in a body, inner ones first. Values in a list are alike: only some have lists of their own."""
    for name in value.__struct_fields__:
        rows = getattr(value, name)
        if isinstance(rows, list):
            first = rows[0] if rows and isinstance(rows[0], Struct) else None
            if first is not None and any(isinstance(getattr(first, each), list) for each in first.__struct_fields__):
                for row in rows:
                    yield from _lists(row)
            yield rows


def boundary_of(request: web.Request) -> bytes:
    """The boundary of an upload. Raises NotMultipart for a body of another type, or a compressed one."""
    boundary = multipart.boundary_of(request.headers.get("Content-Type", ""))
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise NotMultipart()
    return boundary


def form_of(request: web.Request, raw: bytes) -> dict[str, str]:
    """The fields of an HTML form by name. Raises NotForm for a body of another type, MalformedBody."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise NotForm()
    try:
        return dict(parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS))
    except ValueError:  # also UnicodeDecodeError
        raise MalformedBody() from None


def check_encoding(request: web.Request) -> None:
    """Raises UnknownEncoding for a Content-Encoding that is not supported."""
    _inflater(request.headers.get("Content-Encoding", ""))


class _Inflater:
    """Decompresses a body. gzip may consist of several members, one after the other (RFC 1952, 2.2)."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._stream = zlib.decompressobj(wbits)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decompressed bytes of `data`, at most _INFLATE at a time. Raises MalformedBody."""
        part = b""
        try:
            while data or len(part) == _INFLATE:  # after a full part, zlib may hold more output than input is left
                if self._stream.eof:
                    if not data:
                        break
                    self._stream = zlib.decompressobj(self._wbits)
                part = self._stream.decompress(data, _INFLATE)
                yield part
                data = self._stream.unused_data or self._stream.unconsumed_tail
        except zlib.error as error:
            raise MalformedBody(f"The body does not match its Content-Encoding: {error}") from None

    def close(self) -> None:
        """Raises MalformedBody when the end of the compressed data is missing."""
        if not self._stream.eof:
            raise MalformedBody("The compressed body ends too early.")


def _inflater(encoding: str) -> _Inflater | None:
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return None
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise UnknownEncoding()
    return _Inflater(zlib.MAX_WBITS | (0 if encoding == "deflate" else 16))
