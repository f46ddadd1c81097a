"""Sends a stored file: whole or a range, conditional requests (RFC 9110, 13 and 14), headers that make it harmless."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from aiohttp import web

from server.context import CLIENT_LEFT, CONFIG, LOG, SENT
from server.errors import RangeNotSatisfiable, ReportError

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
    request: web.Request,
    response: web.StreamResponse,
    span: Span,
    chunk: bytes | None,
    read: Callable[[int, int], Awaitable[bytes | None]],
) -> None:
    """Sends the head, then `chunk`, then what `read(start, count)` gives of the rest of the span.

    Not by the kernel's sendfile: that would wait for the disk on the event loop, and a disk that stalls would stop
    every request. A client that takes too long for a chunk is given up.
    """
    response.content_length = span.count
    await response.prepare(request)
    transport = request.transport
    if request.method == "HEAD" or transport is None:
        return
    at, end = span.start, span.start + span.count
    try:
        while chunk:
            async with asyncio.timeout(request.app[CONFIG].server.body_timeout):
                await response.write(chunk)
            at += len(chunk)
            chunk = await read(at, min(end - at, CHUNK)) if at < end else None
        if at == end:
            await response.write_eof()
    except (ConnectionError, TimeoutError) as error:
        request[CLIENT_LEFT] = True
        LOG.debug("while sending a file: %r", error)
    except ReportError as error:
        LOG.error("while sending a file: %r", error)
    request[SENT] = at - span.start
    if at != end:
        transport.abort()  # the client must see that the body it was promised is not whole
