"""JSON replies. Only this file decides how ids, times and errors are encoded."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from aiohttp import web

from server.background import aside
from server.errors import Problem, ReportError
from server.reports.listing import PORTION, Listing
from server.services import CALL, SERVICES

Response = web.StreamResponse

_JSON = {"Content-Type": "application/json", "Cache-Control": "no-store"}
MARK = b"\0"  # the place of a list in a reply that is sent in portions: neither JSON nor a page can contain it


class InPortions(web.StreamResponse):
    """A reply whose body is made while it is sent: `first`, then the parts of `rest`, which may raise any error.
    `held`: the bytes of it that are in memory beside one part."""

    def __init__(self, headers: Mapping[str, str], first: bytes, rest: AsyncGenerator[bytes, None], held: int) -> None:
        super().__init__(headers=headers)
        self.first, self.rest, self.held = first, rest, held

    def start(self) -> bytes:
        """`first`, which is released when its caller has sent it."""
        first, self.first = self.first, b""
        return first


def encode(value: Any) -> bytes:
    """JSON bytes. Times are UTC with three digits and `Z`, as in the examples of the specification."""
    return orjson.dumps(value, default=_encode_other, option=orjson.OPT_PASSTHROUGH_DATETIME)


def plain(value: Any) -> Any:
    """The value as a client decodes it from the JSON."""
    return orjson.loads(encode(value))


def _encode_other(value: object) -> Any:
    if isinstance(value, Listing):
        return value.items if value.whole else orjson.Fragment(b"[" + MARK + b"]")
    if isinstance(value, datetime):
        # Cutting orjson's own text takes a third as long as isoformat(), and a list of 50 steps has 200 times.
        text = orjson.dumps(value)
        return orjson.Fragment(text[:24] + b'Z"' if text[20:21] == b"." else text[:20] + b'.000Z"')
    if isinstance(value, UUID):  # asyncpg's own subclass, which orjson does not encode
        return str(value)
    raise TypeError(f"cannot be encoded as JSON: {type(value)}")


def ok(value: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    """200 with JSON."""
    return json(200, value, headers)


def created(value: Any) -> web.Response:
    """201 with JSON."""
    return json(201, value)


async def created_many(value: Any, size: int) -> web.Response:
    """201 with JSON of about `size` bytes."""
    return raw(201, await aside(size, encode, value))


def no_content() -> web.Response:
    """204."""
    return web.Response(status=204, headers={"Cache-Control": "no-store"})


def json(status: int, value: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    """Any status with JSON."""
    return raw(status, encode(value), headers)


def raw(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> web.Response:
    """Any status with JSON that is encoded already."""
    return web.Response(status=status, body=body, headers={**_JSON, **(headers or {})})


def add_warnings(response: Response, warnings: Sequence[Problem]) -> None:
    """Adds `warnings` to a JSON object that is encoded already."""
    if isinstance(response, web.Response) and isinstance(response.body, bytes):
        added = encode({"warnings": [{"path": each.path, "message": each.message} for each in warnings]})
        response.body = response.body[:-1] + b"," + added[1:]


def error_body(request: web.Request, error: ReportError) -> dict[str, Any]:
    """The error object: `detail`, `code`, `request_id` and, for wrong values, `errors`."""
    return error_object(error, request[CALL].request_id if CALL in request else "")


def error_object(error: ReportError, request_id: str) -> dict[str, Any]:
    """As error_body, for input that could not be parsed as a request."""
    body: dict[str, Any] = {"detail": error.detail, "code": error.code, "request_id": request_id}
    if error.problems:
        body["errors"] = [{"path": p.path, "message": p.message} for p in error.problems]
    return body


def failure(request: web.Request, error: ReportError) -> web.Response:
    """The JSON reply for an error."""
    return json(error.status, error_body(request, error), error.headers)


def wants_array(request: web.Request, requested: str | None) -> bool:
    """Whether to send a list in the array form: as the query, else the token, else the configuration says."""
    shape = requested or request[CALL].known_caller.shape or request.app[SERVICES].config.api.collection_shape
    return shape == "array"


async def listed(
    request: web.Request, value: Any, lists: Sequence[Listing], headers: Mapping[str, str] | None = None
) -> Response:
    """200 with JSON: `value`, which contains `lists` in this order. Sent in portions, unless they all are whole."""
    text = encode(value)
    if all(each.whole for each in lists):
        return raw(200, text, headers)
    reads = request[CALL].reads
    parts = [each.portions(reads, _Items()) for each in lists if not each.whole]
    return await in_portions(text, parts, {**_JSON, **(headers or {})})


async def array(request: web.Request, items: Listing, total: int) -> Response:
    """A list in the array form. X-Total-Count is the number of all items that match the filters."""
    return await listed(request, items, [items], {"X-Total-Count": str(total)})


async def in_portions(
    text: bytes, lists: Sequence[AsyncGenerator[bytes, None]], headers: Mapping[str, str]
) -> InPortions:
    """200 with `text`, in which each MARK is replaced by the next one of `lists`. The first portion is made here: an
    error, such as a database that is away, still becomes an error reply."""
    rest = _joined(text.split(MARK), lists)
    first = [await anext(rest), await anext(rest, b"")]
    return InPortions(headers, b"".join(first), rest, len(text))


async def _joined(texts: list[bytes], lists: Sequence[AsyncGenerator[bytes, None]]) -> AsyncGenerator[bytes, None]:
    yield texts[0]
    for text, parts in zip(texts[1:], lists, strict=True):
        async with aclosing(parts):
            async for part in parts:
                yield part
        yield text


class _Items:
    """Encodes one portion of a JSON list after the other, with commas and without the brackets."""

    def __init__(self) -> None:
        self._comma = b""

    async def __call__(self, items: Any) -> bytes:
        text = await aside(PORTION, encode, items)
        if text == b"[]":
            return b""
        comma, self._comma = self._comma, b","
        return comma + memoryview(text)[1:-1]
