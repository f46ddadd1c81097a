"""Sends stored files: ranges, conditional requests (RFC 9110, 13 and 14), headers that disable active content."""

import asyncio
import re
import socket
import struct
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote
from uuid import UUID

from aiohttp import HttpVersion11, web
from prometheus_client import Counter

from server.errors import ContentMissing, RangeNotSatisfiable
from server.reports.downloads import Stored, stored_at
from server.services import CALL, LOG, SERVICES
from server.storage.paths import leads_out

MISSING = Counter("reportd_content_missing", "Downloads of artifacts whose file is missing or has the wrong size")

CHUNK = 256 << 10  # bytes of a download in memory at a time
_SMALL = 64 << 10  # bytes of a download that is read, and sent with its headers by one write
_RANGE = re.compile(r"bytes=(?:([0-9]+)-([0-9]*)|-([0-9]+))")
_BEYOND = 1 << 62  # larger than any file

# nginx would compare the first two with the file's modification time. It sends the third when it returns a download.
_NOT_FOR_NGINX = ("If-Match", "If-Unmodified-Since", "X-Accel-Redirect")

_SANDBOX = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; frame-ancestors 'self'"
)
_PDF_POLICY = "frame-ancestors 'self'"  # a sandbox breaks Chrome's PDF viewer


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a file to send: the offset of its first byte, and its length in bytes."""

    start: int
    count: int


async def reply(
    request: web.Request, artifact_id: UUID, stored: Stored, cache_control: str, attachment: bool
) -> web.StreamResponse:
    """The stored file or the requested range of it. Raises ContentMissing, RangeNotSatisfiable."""
    headers = headers_of(stored, cache_control, attachment)
    if not_modified(request.headers.get("If-None-Match"), stored.checksum):
        return web.Response(status=304, headers=headers)
    size = stored.file_size
    span = span_of(request.headers.get("Range"), request.headers.get("If-Range"), stored.checksum, size)
    prefix = request.app[SERVICES].config.artifacts.accel_redirect
    if prefix and not leads_out(stored.storage_path) and not bypasses_nginx(request):
        return nginx_reply(headers, prefix + stored.storage_path)
    if span is not None:
        headers["Content-Range"] = f"bytes {span.start}-{span.start + span.count - 1}/{size}"
    return await _reply(request, artifact_id, stored, headers, 200 if span is None else 206, span or Span(0, size))


async def _reply(
    request: web.Request, artifact_id: UUID, stored: Stored, headers: Mapping[str, str], status: int, span: Span
) -> web.StreamResponse:
    """Send a small file with one read and one write, a large one by the kernel as far as the socket takes it, and the
    rest in parts: each is read after the previous was sent."""
    storage, path, size = request.app[SERVICES].storage, stored.storage_path, stored.file_size
    if request.method == "GET" and span.count > _SMALL:
        file = _File(status=status, headers=headers)
        if await file.send(request, stored, span):
            return file
    first = await storage.read(path, size, span.start, 0 if request.method == "HEAD" else min(span.count, CHUNK))
    if first is None:
        await storage.ensure_missing(await stored_at(request.app[SERVICES].pool, artifact_id))
        MISSING.inc()
        LOG.error("artifact %s: the file is missing or not %d bytes long", artifact_id, size)
        raise ContentMissing()
    if len(first) == span.count:
        return web.Response(status=status, headers=headers, body=first)
    response = web.StreamResponse(status=status, headers=headers)
    rest = storage.parts(path, size, span.start + len(first), span.start + span.count, CHUNK)
    await send(request, response, span.count, first, rest)
    return response


class _File(web.StreamResponse):
    """The reply with a stored file, whose headers and first bytes a thread of the storage sends."""

    _send_headers_immediately = False  # aiohttp's name

    async def send(self, request: web.Request, stored: Stored, span: Span) -> bool:
        """Send `span` of the file. False, with nothing sent, when it is missing, or when earlier replies wait for the
        client."""
        transport, call, storage = request.transport, request[CALL], request.app[SERVICES].storage
        if transport is None or transport.is_closing() or transport.get_write_buffer_size():
            return False
        self.content_length = span.count
        writer: Any = await self.prepare(request)
        head, writer._headers_buf, writer._headers_written = writer._headers_buf, None, True
        path, size = stored.storage_path, stored.file_size
        # Who acquires it first decides: the thread to send, or this coroutine that the thread may not send any more.
        acquire = partial(threading.Lock().acquire, blocking=False)
        sock: socket.socket = transport.get_extra_info("socket")
        try:
            # A duplicate: the number of the transport's own descriptor may soon be that of another connection.
            to = sock.dup()
        except OSError:  # out of descriptors
            return False
        try:
            done = await storage.send(path, size, span.start, span.count, head, to, acquire)
        except BaseException:
            if not acquire():  # the thread may send at any time, so no other reply can be sent
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                reset(request)
            raise
        if done is None:
            return False
        sent, file = done
        if sent < len(head):
            transport.write(head[sent:])
        writer.output_size += sent
        call.sent = max(0, sent - len(head))
        rest = storage.parts(path, size, span.start + call.sent, span.start + span.count, CHUNK, file)
        await send(request, self, span.count, b"", rest)
        return True


def headers_of(stored: Stored, cache_control: str, attachment: bool) -> dict[str, str]:
    """The headers that the specification gives, and those that stop a browser from running uploaded content."""
    return {
        "Content-Type": content_type(stored.mime_type, stored.text_encoding),
        "Content-Disposition": disposition(stored.file_name, attachment),
        "Cache-Control": cache_control,
        "ETag": f'"{stored.checksum}"',
        "Accept-Ranges": "bytes",
        "Vary": "Authorization, Cookie",
        "Content-Security-Policy": _PDF_POLICY if stored.mime_type == "application/pdf" else _SANDBOX,
    }


def content_type(mime_type: str, text_encoding: str | None) -> str:
    """The type with the charset of its text; without one when the encoding is unknown: then the browser chooses.

    JSON is UTF-8 by definition (RFC 8259, 8.1), so its charset is only named when it is another one.
    """
    named = text_encoding not in (None, "unknown") and (mime_type != "application/json" or text_encoding != "utf-8")
    return f"{mime_type}; charset={text_encoding}" if named else mime_type


def disposition(file_name: str, attachment: bool) -> str:
    """Content-Disposition with a quoted name, and with `filename*` (RFC 8187) when the name is not ASCII."""
    kind = "attachment" if attachment else "inline"
    plain = re.sub(r"[^\x20-\x7e]", "_", file_name).replace("\\", "\\\\").replace('"', '\\"')
    extended = "" if file_name.isascii() else f"; filename*=UTF-8''{quote(file_name, safe='')}"
    return f'{kind}; filename="{plain}"{extended}'


def not_modified(if_none_match: str | None, checksum: str) -> bool:
    """Whether the client's cached copy is current: weak comparison of entity tags (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    tags = re.findall(r'(?:W/)?"([^"]*)"', if_none_match)
    return if_none_match.strip() == "*" or checksum in tags


def span_of(range_header: str | None, if_range: str | None, checksum: str, size: int) -> Span | None:
    """The requested range; None for the whole file (no range, several, malformed, or If-Range does not match).

    Raises RangeNotSatisfiable when the range lies outside the file.
    """
    match = _RANGE.fullmatch((range_header or "").strip())
    if match is None or (if_range is not None and if_range.strip() != f'"{checksum}"'):
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(0, size - _number(suffix)), size
    else:
        start, end = _number(first), min(_number(last) + 1, size) if last else size
        if last and _number(last) < start:
            return None
    if start >= end:
        raise RangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return Span(start, end - start)


def _number(digits: str) -> int:
    """The number, or _BEYOND when it has more than 18 digits: int() refuses thousands of them."""
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) < 19 else _BEYOND


def bypasses_nginx(request: web.Request) -> bool:
    """Whether nginx cannot answer this request, or has tried and returned it to reportd."""
    return any(name in request.headers for name in _NOT_FOR_NGINX)


def nginx_reply(headers: Mapping[str, str], location: str) -> web.Response:
    """The reply that makes nginx send the file at `location`, or the requested range of it.

    nginx adds Accept-Ranges itself. Cache-Control has another name, else nginx would also send it with its errors.
    """
    own = {name: value for name, value in headers.items() if name not in {"Accept-Ranges", "Cache-Control"}}
    kept = {"X-Accel-Redirect": quote(location), "X-Accel-Cache-Control": headers["Cache-Control"]}
    return web.Response(headers={**own, **kept})


async def send(
    request: web.Request,
    response: web.StreamResponse,
    count: int | None,
    first: bytes,
    rest: AsyncGenerator[bytes, None],
) -> None:
    """Send the headers of a reply of `count` bytes (None: not known), then `first`, then the parts of `rest`.

    Bytes of the body that the call counts as sent already are in neither.

    A client that takes longer than `body_timeout` for 256 KiB is disconnected. If the reply cannot be sent to its end,
    the connection is reset, so that no client takes a part of it for the whole.
    """
    call, sent_all = request[CALL], False
    async with aclosing(rest):
        if count is not None:
            response.content_length = count
        elif request.version < HttpVersion11:
            response.force_close()  # HTTP/1.0 has no chunks: the body ends with the connection
        await response.prepare(request)
        if request.method == "HEAD":
            return
        call.sent = call.sent or 0
        try:
            part: bytes | None = first or (b"" if call.sent == count else await _next(request, rest))
            while part:
                await _write(request, response, part)
                part = first = b""  # released before the next one is made
                if count is None or call.sent < count:
                    part = await _next(request, rest)
            if part is not None and count in (None, call.sent):
                await response.write_eof()
                sent_all = True
            elif part is not None:
                LOG.error("sending a file stopped: the file ended %d bytes early", (count or 0) - call.sent)
        except (ConnectionError, TimeoutError) as error:
            call.client_left = True
            LOG.debug("sending a reply in parts failed: %r", error)
        finally:
            if not sent_all:
                reset(request)


async def _write(request: web.Request, response: web.StreamResponse, part: bytes) -> None:
    """Write a part in pieces that asyncio may copy. Raises TimeoutError for a client that does not read."""
    view = memoryview(part)
    for start in range(0, len(view), CHUNK):
        piece = bytes(view[start : start + CHUNK]) if len(view) > CHUNK else part
        async with asyncio.timeout(request.app[SERVICES].config.server.body_timeout):
            await response.write(piece)
        request[CALL].sent = (request[CALL].sent or 0) + len(piece)


async def _next(request: web.Request, rest: AsyncGenerator[bytes, None]) -> bytes | None:
    """The next part that is not empty; b"" at the end; None when making it failed, which is logged."""
    call = request[CALL]
    try:
        while (part := await anext(rest, None)) == b"":
            pass
    except Exception as error:
        LOG.error("request %s: its reply was cut after %d bytes: %r", call.request_id, call.sent, error)
        return None
    return part or b""


def reset(request: web.Request) -> None:
    """Close the connection with a reset. To a client without chunks, a mere end would be the end of the body."""
    transport = request.transport
    if transport is None:
        return
    with suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
