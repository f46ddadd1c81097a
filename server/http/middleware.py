"""The middleware of every request: request id, log record, metrics, and errors as JSON."""

import asyncio
import logging
import os
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict
from prometheus_client import Counter, Histogram

from server.database.errors import as_report_error
from server.errors import MalformedRequest, Overloaded, ReportError, RouteNotFound
from server.http import cors, files, reply
from server.http.origin import Origin, Origins, check_head
from server.limits import ReplyMemory
from server.redact.rules import redact_target
from server.reports.listing import PORTION
from server.services import CALL, LOG, SERVICES, Call

REQUESTS = Counter(
    "reportd_requests",
    "Requests by method, route pattern and status. Status 499: the client disconnected before it had the reply",
    ["method", "route", "status"],
)
SECONDS = Histogram(
    "reportd_request_seconds",
    "Time from receiving a request's headers until its reply is ready; until the last byte is sent for replies above "
    "256 KiB and downloads above 64 KiB",
    ["method", "route"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
BODY_BYTES = Counter(
    "reportd_body_bytes",
    "Body bytes: direction=received, of requests; direction=sent, of replies, without downloads that nginx sends",
    ["direction"],
)
_RECEIVED, _SENT = BODY_BYTES.labels("received"), BODY_BYTES.labels("sent")

REQUEST_LOG = logging.getLogger("reportd.requests")

# Security headers of every reply. Pages and downloads set a Content-Security-Policy of their own.
SAFE_HEADERS = CIMultiDict(
    {
        "Server": "reportd",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "Permissions-Policy": (
            "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), microphone=(), midi=(), "
            "payment=(), usb=()"
        ),
    }
)
NOTHING_ALLOWED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HSTS = "max-age=31536000"

_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_CLIENT_GONE = 499  # logged and counted, never sent: the client has disconnected
_BUFFERED = 64 << 10  # bytes that asyncio buffers before a write blocks
_CANCELLED = 503  # logged and counted, never sent: a shutdown cancelled the request

# A cache: labels() takes a lock and converts each value to text. Bounded, since the label values are.
_labelled: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}


def outermost(origins: Origins) -> Middleware:
    """The only middleware: request id, count of requests in progress, log record, metrics, and errors as JSON."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        sent_id = request.headers.get("X-Request-Id", "")
        origin = origins.of(request)
        request_id = sent_id if _SANE_ID.fullmatch(sent_id) else os.urandom(16).hex()
        call = request[CALL] = Call(request_id, origin.remote, origin.secure, origin.host)
        call.reads, admission = request.app[SERVICES].pool, request.app[SERVICES].admission
        admission.begin_request()
        try:
            return await _serve(request, handler, origins, origin)
        finally:
            try:
                await call.close()
            finally:
                _release_body(request)
                admission.end_request()

    return middleware


async def _serve(request: web.Request, handler: Handler, origins: Origins, origin: Origin) -> web.StreamResponse:
    """The reply, after it was logged and sent."""
    try:
        response, error = await _answer(request, handler, origins, origin)
        _close_if_body_is_unread(request, response)
        if size := _size_in_memory(request, response):
            try:
                with request.app[SERVICES].admission.reply(size) as memory:
                    response = await _send_large(request, response, memory)
            except Overloaded as overloaded:
                response, error = _refuse(request, overloaded), overloaded
                _close_if_body_is_unread(request, response)
    except asyncio.CancelledError as cancelled:
        _log(request, _CANCELLED, 0, cancelled)
        raise
    # Count a small reply before it is sent: a client that has it must find it in /metrics.
    _log(request, response.status, _sent(request, response), error)
    if not response.prepared:
        await _send(request, response)
    return response


def _release_body(request: web.Request) -> None:
    """Break a reference cycle: the body keeps the exception that ended it, whose traceback keeps the body. Without
    this, gigabytes of bodies may pile up before Python's garbage collector runs."""
    if (error := request.content.exception()) is not None:
        error.__traceback__ = None


async def _answer(
    request: web.Request, handler: Handler, origins: Origins, origin: Origin
) -> tuple[web.StreamResponse, BaseException | None]:
    """The reply, and the exception that the log record of a 5xx shows."""
    try:
        check_head(request)
        origins.check_host(origin)
        return cors.preflight(request) or await handler(request), None
    except MalformedRequest as error:
        response = reply.failure(request, error)
        response.headers[hdrs.CONNECTION] = "close"  # where the next request begins is unknown
        response.force_close()
        return response, None
    except ReportError as error:
        return _refuse(request, error), error.__cause__ or error
    except web.HTTPException:
        return reply.failure(request, RouteNotFound()), None  # the target is not a path, as in OPTIONS *
    except Exception as error:
        return _refuse(request, as_report_error(error) or ReportError()), error


def _refuse(request: web.Request, error: ReportError) -> web.StreamResponse:
    """The reply for an error: JSON, or what the route has instead, like a page."""
    return (request[CALL].refusal or reply.failure)(request, error)


def _close_if_body_is_unread(request: web.Request, response: web.StreamResponse) -> None:
    """Announce that the connection ends after a reply that is sent before the whole body has arrived. The rest of the
    body is then discarded, see Connection.linger() in protocol.py."""
    if not response.prepared and not request.content.is_eof():
        response.headers[hdrs.CONNECTION] = "close"
        response.force_close()


def _size_in_memory(request: web.Request, response: web.StreamResponse) -> int:
    """The bytes in memory of a reply that must be sent in parts; 0 for a small reply."""
    if request.method == hdrs.METH_HEAD:
        return 0
    if isinstance(response, web.Response):
        body = response.body
        return len(body) if isinstance(body, bytes) and len(body) > files.CHUNK else 0
    return response.held + max(2 * PORTION, len(response.first)) if isinstance(response, reply.InPortions) else 0


async def _send_large(request: web.Request, response: web.StreamResponse, memory: ReplyMemory) -> web.StreamResponse:
    """Send a large reply in parts, as a file is sent: in progress to its end, with a timeout for each part.

    aiohttp would send it after the middleware has returned, with no timeout for a client that does not read.
    """
    stream = web.StreamResponse(status=response.status, headers=response.headers)

    async def rest() -> AsyncGenerator[bytes, None]:
        if isinstance(response, reply.InPortions):
            async with aclosing(response.rest):
                async for part in response.rest:
                    memory.grow(response.held + len(part))
                    yield part

    if isinstance(response, reply.InPortions):
        await files.send(request, stream, None, response.start(), rest())
    elif isinstance(response, web.Response) and isinstance(response.body, bytes):
        await files.send(request, stream, len(response.body), response.body, rest())
    return stream


async def _send(request: web.Request, response: web.StreamResponse) -> None:
    """Send a small reply. It only blocks, and needs a timeout, when asyncio's buffer is full: when the client has not
    read earlier replies, or this one is larger than the buffer."""
    transport = request.transport
    if transport is None:
        return
    try:
        await response.prepare(request)
        if transport.get_write_buffer_size() or _sent(request, response) > _BUFFERED:
            async with asyncio.timeout(request.app[SERVICES].config.server.body_timeout):
                await response.write_eof()
        else:
            await response.write_eof()
    except (ConnectionError, TimeoutError) as error:
        LOG.debug("sending a reply failed: %r", error)
        transport.abort()


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers of every reply. A callback of on_response_prepare, so that it also runs for streamed replies."""
    headers, call = response.headers, request.get(CALL)
    headers["X-Request-Id"] = call.request_id if call else ""
    headers.update(SAFE_HEADERS)
    headers.setdefault("Content-Security-Policy", NOTHING_ALLOWED)
    cors.add_headers(request, response)
    if call and call.shared:
        headers["X-Robots-Tag"] = "noindex"  # the evidence link may be published on a web page
    if call and call.secure:
        headers["Strict-Transport-Security"] = _HSTS
    # No upgrade is supported. After an Upgrade header, aiohttp may not parse the bytes that follow as requests: close.
    if request.app[SERVICES].admission.stopping or hdrs.UPGRADE in request.headers:
        response.headers[hdrs.CONNECTION] = "close"
        response.force_close()


def _log(request: web.Request, status: int, sent: int, error: BaseException | None) -> None:
    """Update the metrics for a request, and write its log record."""
    call = request[CALL]
    seconds = time.perf_counter() - call.started
    if status != ReportError.status and (request.transport is None or call.client_left):
        status = _CLIENT_GONE
    route, received = _route_of(request), request.content.total_bytes
    _count(request.method if request.method in hdrs.METH_ALL else "other", route, status, seconds)
    if received:
        _RECEIVED.inc(received)
    if sent:
        _SENT.inc(sent)
    failed = status >= 500
    level = logging.INFO if not failed else logging.ERROR if status == ReportError.status else logging.WARNING
    if not (failed or request.app[SERVICES].config.log.requests) or not REQUEST_LOG.isEnabledFor(level):
        return
    path = redact_target(request.raw_path)
    fields: dict[str, Any] = {
        "method": request.method,
        "path": path,
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
        "received": received,
        "sent": sent,
        "caller": call.caller.name if call.caller else None,
        "remote": call.remote or None,
        "request_id": call.request_id,
        "route": route,
    }
    if failed and error is not None:
        fields["error"] = repr(error)
    trace = error if level == logging.ERROR else None
    extra = {"fields": fields}
    REQUEST_LOG.log(level, "%s %s %d", request.method, path, status, exc_info=trace, extra=extra)


def _count(method: str, route: str, status: int, seconds: float) -> None:
    key = (method, route, status)
    if key not in _labelled:
        _labelled[key] = REQUESTS.labels(method, route, status), SECONDS.labels(method, route)
    requests, histogram = _labelled[key]
    requests.inc()
    histogram.observe(seconds)


def _sent(request: web.Request, response: web.StreamResponse) -> int:
    """Body bytes of a reply: those sent so far of a streamed reply, all bytes of a reply that is yet to be sent."""
    if (sent := request[CALL].sent) is not None:
        return sent
    body = response.body if isinstance(response, web.Response) and request.method != hdrs.METH_HEAD else None
    return len(body) if isinstance(body, bytes) else 0


def _route_of(request: web.Request) -> str:
    """The route's pattern. Never the path: each path would be a metric label of its own, without bound."""
    resource = request.match_info.route.resource
    known = resource is not None and not resource.canonical.startswith("/{")  # the catch-all route
    return resource.canonical if resource is not None and known else "unknown"
