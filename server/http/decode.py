"""Decodes request bodies and queries into checked values. An error names the path of a wrong value and the rule."""

import asyncio
import json
import re
import zlib
from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any, TypeVar, cast

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import inspect

from server.errors import BodyTimeout, Invalid, MalformedBody, NotMultipart, Problem, TooLarge, UnknownEncoding
from server.http.fields import PATTERNS
from server.http.nesting import Where, check_depth, path_of
from server.limits import Reservation
from server.reports.words import WORDS
from server.services import CALL, SERVICES
from server.uploads import multipart
from server.wrong_values import requirement

T = TypeVar("T")

MAX_TEXT_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"
# Bytes. Before a larger body is read, the server checks that its resource exists and that memory is available.
SMALL_BODY = 256 << 10
_SLOW_SECONDS = 0.9  # an upload whose client is this far behind `min_body_rate` frees its slot
_BAD_TEXT = re.compile("[\x00\ud800-\udfff]")
_REGEX = "Expected `str` matching regex "


def decode_hook(wanted: Any, value: object) -> object:
    """msgspec's dec_hook: decodes the classes of fields.py."""
    return wanted.parse(value)


@cache
def _decoder(wanted: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cast(Any, wanted), dec_hook=decode_hook)


def from_json(raw: bytes, wanted: type[T]) -> T:
    """`raw` as `wanted`. Raises MalformedBody (not JSON) or Invalid (wrong values, NUL, lone surrogates, too deep)."""
    check_depth(raw)
    try:
        value: T = _decoder(cast(Hashable, wanted)).decode(raw)
    except msgspec.ValidationError as error:
        raise Invalid(problem_of(error, wanted)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _refuse_bad_text(raw)
        raise MalformedBody(f"The body is not valid JSON: {error}") from None
    if b"\\u0000" in raw:
        _refuse_bad_text(raw)
    if len(raw) > MAX_TEXT_BYTES:
        _refuse_long_text(value)
    return value


def from_text(values: Mapping[str, str], wanted: type[T]) -> T:
    """A query or a form as `wanted`: numbers and booleans are parsed, an empty value is absent. Raises Invalid."""
    present = {name: text for name, text in values.items() if text != ""}
    check_text(present)
    return from_plain(present, wanted, strict=False)


def from_plain(value: object, wanted: type[T], strict: bool = True) -> T:
    """Decoded JSON or a form's values as `wanted`. Raises Invalid."""
    try:
        return msgspec.convert(value, wanted, strict=strict, dec_hook=decode_hook)
    except msgspec.ValidationError as error:
        raise Invalid(problem_of(error, wanted, not strict)) from None


def parse(raw: bytes, path: str = "") -> Any:
    """JSON as Python's values, for what msgspec refuses, such as lone surrogates. `path`: where in the request it is.

    Raises ValueError for text that is not JSON, Invalid when it is nested too deeply.
    """
    check_depth(raw, path)
    return json.loads(raw.removeprefix(BOM).decode("utf-8", "surrogatepass"))


def check_text(value: object, where: Where = None) -> None:
    """Raises Invalid with the path of the first string or key that has a NUL character or a lone surrogate."""
    if isinstance(value, str):
        if _BAD_TEXT.search(value):
            path = _BAD_TEXT.sub("\ufffd", path_of(where))
            raise Invalid(Problem(path, "must not contain NUL characters or lone surrogates"))
    elif isinstance(value, dict):
        for key, child in value.items():
            check_text(key, (where, key))
            check_text(child, (where, key))
    elif isinstance(value, list):
        for i, child in enumerate(value):
            check_text(child, (where, i))


def _refuse_long_text(value: object, path: str = "") -> None:
    """Raises Invalid for a string of too many bytes. The types limit characters, each of up to 4 bytes."""
    if isinstance(value, str) and len(value) * 4 > MAX_TEXT_BYTES and len(value.encode()) > MAX_TEXT_BYTES:
        raise Invalid(Problem(path, "must be at most 1 MiB as UTF-8"))
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _refuse_long_text(getattr(value, name), f"{path}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _refuse_long_text(item, f"{path}[{i}]")


def _refuse_bad_text(raw: bytes) -> None:
    """Raises Invalid, with their path, for strings that are valid JSON but cannot be stored. Python's decoder accepts
    them, msgspec refuses some without a path."""
    try:
        value = parse(raw)
    except ValueError:
        return
    check_text(value)


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
        self._waiting_since = since = self._loop.time()
        if self._timer is None:
            self._schedule_check(min(1.0, self._budget))
        try:
            while True:
                # Not readany(): it joins the received pieces, and so copies them.
                chunk, _ = await self._content.readchunk()
                if chunk or self._content.at_eof():
                    self._received += len(chunk)
                    return chunk
        except (web.RequestPayloadError, HttpProcessingError):
            raise MalformedBody("The body could not be read: its framing is broken.") from None
        finally:
            self._waited += self._loop.time() - max(since, self._waiting_since)
            self._waiting_since = None

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
            if inflater is not None:
                chunk = inflater.feed(chunk, limit + 1 - size)
            size += len(chunk)
            if max(size, received) > limit:
                raise TooLarge(f"The body is larger than {limit} bytes.")
            parts.append(chunk)
            if size > SMALL_BODY:
                memory.grow(size)
    if inflater is not None:
        inflater.close()
    return b"".join(parts)


def boundary_of(request: web.Request) -> bytes:
    """The boundary of an upload. Raises NotMultipart for a body of another type, or a compressed one."""
    boundary = multipart.boundary_of(request.headers.get("Content-Type", ""))
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise NotMultipart()
    return boundary


def check_encoding(request: web.Request) -> None:
    """Raises UnknownEncoding for a Content-Encoding that is not supported."""
    _inflater(request.headers.get("Content-Encoding", ""))


class _Inflater:
    """Decompresses a body. gzip may consist of several members, one after the other (RFC 1952, 2.2)."""

    def __init__(self, wbits: int) -> None:
        self._wbits = wbits
        self._stream = zlib.decompressobj(wbits)

    def feed(self, data: bytes, limit: int) -> bytes:
        """At most `limit` decompressed bytes of `data`. Raises MalformedBody."""
        found = b""
        try:
            while data and len(found) < limit:
                if self._stream.eof:
                    self._stream = zlib.decompressobj(self._wbits)
                found += self._stream.decompress(data, limit - len(found))
                data = self._stream.unused_data
        except zlib.error as error:
            raise MalformedBody(f"The body does not match its Content-Encoding: {error}") from None
        return found

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
