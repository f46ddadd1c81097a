"""Sends a stored file: whole or a range, conditional requests (RFC 9110, 13 and 14), headers that make it harmless."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import quote
from uuid import UUID

from aiohttp import web
from prometheus_client import Counter

from server.errors import ContentMissing, RangeNotSatisfiable, ReportError
from server.reports.downloads import Stored
from server.services import CALL, LOG, SERVICES
from server.storage.paths import leads_out

MISSING = Counter("reportd_content_missing", "Downloads of artifacts whose file is missing or short")

CHUNK = 256 << 10  # what is in memory of a download
_RANGE = re.compile(r"bytes=(?:([0-9]+)-([0-9]*)|-([0-9]+))")
_BEYOND = 1 << 62  # more than any file has

# Two that nginx would compare with the times of the file, and what it says when it hands a download back.
_OURS = ("If-Match", "If-Unmodified-Since", "X-Accel-Redirect")

_SANDBOX = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; frame-ancestors 'self'"
)
_PDF_POLICY = "frame-ancestors 'self'"  # a sandbox breaks Chrome's PDF viewer


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a file to send: its first byte and how many."""

    start: int
    count: int


async def reply(
    request: web.Request, artifact_id: UUID, stored: Stored, cache_control: str, attachment: bool
) -> web.StreamResponse:
    """The bytes of a stored file, or the part of them that is asked for. Raises ContentMissing, RangeNotSatisfiable."""
    headers = headers_of(stored.file_name, stored.mime_type, stored.checksum, cache_control, attachment)
    if not_modified(request.headers.get("If-None-Match"), stored.checksum):
        return web.Response(status=304, headers=headers)
    size = stored.file_size
    span = span_of(request.headers.get("Range"), request.headers.get("If-Range"), stored.checksum, size)
    prefix = request.app[SERVICES].config.artifacts.accel_redirect
    if prefix and not leads_out(stored.storage_path) and not ours_to_send(request):
        return handed_over(headers, prefix + stored.storage_path)
    if span is not None:
        headers["Content-Range"] = f"bytes {span.start}-{span.start + span.count - 1}/{size}"
    return await _reply(request, artifact_id, stored, headers, 200 if span is None else 206, span or Span(0, size))


async def _reply(
    request: web.Request, artifact_id: UUID, stored: Stored, headers: Mapping[str, str], status: int, span: Span
) -> web.StreamResponse:
    """A small file in one piece, read in one go; a large one in parts, as the client takes them."""
    storage, path, size = request.app[SERVICES].storage, stored.storage_path, stored.file_size
    first = await storage.read(path, size, span.start, 0 if request.method == "HEAD" else min(span.count, CHUNK))
    if first is None:
        MISSING.inc()
        LOG.error("artifact %s: the file is missing or not %d bytes long", artifact_id, size)
        raise ContentMissing()
    if len(first) == span.count:
        return web.Response(status=status, headers=headers, body=first)
    response = web.StreamResponse(status=status, headers=headers)
    rest = storage.parts(path, size, span.start + len(first), span.start + span.count, CHUNK)
    await send(request, response, span.count, first, rest)
    return response


def headers_of(file_name: str, mime_type: str, checksum: str, cache_control: str, attachment: bool) -> dict[str, str]:
    """S1's headers and those that keep uploaded content from doing harm (contract, section 7)."""
    return {
        "Content-Type": f"{mime_type}; charset=utf-8" if mime_type.startswith("text/") else mime_type,
        "Content-Disposition": disposition(file_name, attachment),
        "Cache-Control": cache_control,
        "ETag": f'"{checksum}"',
        "Accept-Ranges": "bytes",
        "Vary": "Authorization, Cookie",
        "Content-Security-Policy": _PDF_POLICY if mime_type == "application/pdf" else _SANDBOX,
    }


def disposition(file_name: str, attachment: bool) -> str:
    """Content-Disposition with a quoted name, and `filename*` (RFC 8187) for what ASCII cannot say."""
    kind = "attachment" if attachment else "inline"
    plain = re.sub(r"[^\x20-\x7e]", "_", file_name).replace("\\", "\\\\").replace('"', '\\"')
    extended = "" if file_name.isascii() else f"; filename*=UTF-8''{quote(file_name, safe='')}"
    return f'{kind}; filename="{plain}"{extended}'


def not_modified(if_none_match: str | None, checksum: str) -> bool:
    """Whether the caller's copy is the one we have; weak comparison (RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    tags = re.findall(r'(?:W/)?"([^"]*)"', if_none_match)
    return if_none_match.strip() == "*" or checksum in tags


def span_of(range_header: str | None, if_range: str | None, checksum: str, size: int) -> Span | None:
    """The range asked for; None for the whole file (no range, several, malformed, or another version's).

    Raises RangeNotSatisfiable for one that lies outside the file.
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
    """A number that may have thousands of digits, which int() refuses."""
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) < 19 else _BEYOND


def ours_to_send(request: web.Request) -> bool:
    """Whether nginx cannot answer this one, or has tried and handed it back."""
    return any(name in request.headers for name in _OURS)


def handed_over(headers: Mapping[str, str], location: str) -> web.Response:
    """The reply by which nginx sends a file, or the range of it that is asked for: its headers, and where it lies.

    Without what nginx would say twice and what it would say of its errors too: how long they may be kept.
    """
    own = {name: value for name, value in headers.items() if name not in {"Accept-Ranges", "Cache-Control"}}
    kept = {"X-Accel-Redirect": quote(location), "X-Accel-Cache-Control": headers["Cache-Control"]}
    return web.Response(headers={**own, **kept})


async def send(
    request: web.Request, response: web.StreamResponse, count: int, first: bytes, rest: AsyncGenerator[bytes, None]
) -> None:
    """Sends the head of a reply of `count` bytes, then `first`, then what `rest` gives.

    Not by the kernel's sendfile: that would wait for the disk on the event loop, and a disk that stalls would stop
    every request. A client that takes too long for a part is given up.
    """
    response.content_length = count
    await response.prepare(request)
    transport, call = request.transport, request[CALL]
    if request.method == "HEAD" or transport is None:
        return
    seconds, call.sent = request.app[SERVICES].config.server.body_timeout, 0
    try:
        async with aclosing(rest):
            part: bytes | None = first
            while part:
                async with asyncio.timeout(seconds):
                    await response.write(part)
                call.sent += len(part)
                part = await anext(rest, None) if call.sent < count else None
        if call.sent == count:
            await response.write_eof()
        else:
            LOG.error("a file ended %d bytes early while it was sent", count - call.sent)
    except (ConnectionError, TimeoutError) as error:
        call.client_left = True
        LOG.debug("while sending a file: %r", error)
    except ReportError as error:
        LOG.error("while sending a file: %r", error)
    if call.sent != count:
        transport.abort()  # the client must see that the body it was promised is not whole
