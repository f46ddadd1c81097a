"""Around every request: its id, its line in the log, its figures, and errors as JSON."""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import Counter, Histogram

from server.database.errors import as_report_error
from server.errors import MalformedRequest, ReportError, RouteNotFound
from server.http import files, reply
from server.http.origin import Origin, Origins, check_head
from server.redact.rules import redact_target
from server.services import CALL, LOG, SERVICES, Call

REQUESTS = Counter(
    "reportd_requests",
    "Requests answered, by the pattern of their route. Status 499: the client left before it had the reply",
    ["method", "route", "status"],
)
SECONDS = Histogram(
    "reportd_request_seconds",
    "Time from the head of a request to its reply, which may still be on its way then; a download's to its last byte",
    ["method", "route"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
BODY_BYTES = Counter(
    "reportd_body_bytes",
    "Bytes of bodies: direction=received, of requests; direction=sent, of replies, without what nginx sends for us",
    ["direction"],
)
_RECEIVED, _SENT = BODY_BYTES.labels("received"), BODY_BYTES.labels("sent")

REQUEST_LOG = logging.getLogger("reportd.requests")

# What every reply says to a browser; a page and a download bring a policy of their own.
SAFE_HEADERS = {
    "Server": "reportd",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": (
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), microphone=(), midi=(), "
        "payment=(), usb=()"
    ),
}
NOTHING_ALLOWED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_ONLY_TLS = "max-age=31536000"

_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_CLIENT_GONE = 499  # for the log and the figures; nobody is there to read it
_CUT_OFF = 503  # likewise, of a request that the server did not live to answer
_DISCARD_BYTES = 1 << 20
_DISCARD_SECONDS = 2.0

# labels() takes a lock and makes text of each value; there are only as many of these as lines in /metrics.
_labelled: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}


def around(origins: Origins) -> Middleware:
    """The middleware of all requests: turns whatever happens into a reply that a client can act on."""

    @web.middleware
    async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
        sent_id = request.headers.get("X-Request-Id", "")
        origin = origins.of(request)
        request_id = sent_id if _SANE_ID.fullmatch(sent_id) else uuid.uuid4().hex
        request[CALL] = Call(request_id, origin.remote, origin.secure, origin.host)
        with request.app[SERVICES].admission.request():
            try:
                return await _serve(request, handler, origins, origin)
            finally:
                _let_go_of_body(request)

    return outermost


async def _serve(request: web.Request, handler: Handler, origins: Origins, origin: Origin) -> web.StreamResponse:
    """The reply, when it is logged and sent."""
    try:
        response, error = await _answer(request, handler, origins, origin)
        if large := _large_body(request, response):
            response = await _send_large(request, response, large)
    except asyncio.CancelledError as cancelled:
        _log(request, _CUT_OFF, 0, cancelled)
        raise
    # Before a small reply is sent: a client that has it finds it counted.
    _log(request, response.status, _sent(request, response), error)
    if not response.prepared:
        await (_send(request, response) if request.content.is_eof() else _answer_and_close(request, response))
    return response


def _let_go_of_body(request: web.Request) -> None:
    """What cut a body off stays with its reader, and its traceback has the reader and all that was read: a circle that
    Python may not look for before gigabytes have come together."""
    if (error := request.content.exception()) is not None:
        error.__traceback__ = None


async def _answer(
    request: web.Request, handler: Handler, origins: Origins, origin: Origin
) -> tuple[web.StreamResponse, BaseException | None]:
    """The reply, and for the log what went wrong, where it was not the client."""
    try:
        check_head(request)
        origins.check_host(origin)
        return await handler(request), None
    except MalformedRequest as error:
        response = reply.failure(request, error)
        response.headers[hdrs.CONNECTION] = "close"  # nobody can say what comes next on this one
        response.force_close()
        return response, None
    except ReportError as error:
        return reply.failure(request, error), error.__cause__ or error
    except web.HTTPException:
        return reply.failure(request, RouteNotFound()), None  # a target that is no path at all, like OPTIONS *
    except Exception as error:
        await request.app[SERVICES].pool.after(error)
        return reply.failure(request, as_report_error(error) or ReportError()), error


def _large_body(request: web.Request, response: web.StreamResponse) -> bytes | None:
    """The body of a reply that a slow client may take its time for."""
    body = response.body if isinstance(response, web.Response) else None
    if not isinstance(body, bytes) or len(body) <= files.CHUNK or request.method == hdrs.METH_HEAD:
        return None
    return body if request.content.is_eof() else None


async def _send_large(request: web.Request, response: web.StreamResponse, body: bytes) -> web.StreamResponse:
    """Sends a reply in parts, as a file is sent: in progress until the client has taken it, or does not.

    aiohttp would send it after all this, when nobody looks at the time any more.
    """
    whole = memoryview(body)

    async def rest() -> AsyncGenerator[bytes, None]:
        for start in range(files.CHUNK, len(whole), files.CHUNK):
            yield bytes(whole[start : start + files.CHUNK])

    stream = web.StreamResponse(status=response.status, headers=response.headers)
    await files.send(request, stream, len(body), body[: files.CHUNK], rest())
    return stream


async def _send(request: web.Request, response: web.StreamResponse) -> None:
    """Sends a small reply, which only waits when the client has not taken those before it."""
    transport = request.transport
    if transport is None:
        return
    try:
        await response.prepare(request)
        if transport.get_write_buffer_size():
            async with asyncio.timeout(request.app[SERVICES].config.server.body_timeout):
                await response.write_eof()
        else:
            await response.write_eof()
    except (ConnectionError, TimeoutError) as error:
        LOG.debug("while answering: %r", error)
        transport.abort()


async def mark(request: web.Request, response: web.StreamResponse) -> None:
    """What every reply carries; a signal, so that replies which are sent as they are made have it too."""
    headers, call = response.headers, request.get(CALL)
    headers["X-Request-Id"] = call.request_id if call else ""
    headers.update(SAFE_HEADERS)
    headers.setdefault("Content-Security-Policy", NOTHING_ALLOWED)
    if call and call.shared:
        headers["X-Robots-Tag"] = "noindex"  # of a link that somebody has put on a page
    if call and call.secure:
        headers["Strict-Transport-Security"] = _ONLY_TLS
    # Behind an upgrade that it does not know, aiohttp drops what it has of the next request, and reads on within it.
    if request.app[SERVICES].admission.stopping or hdrs.UPGRADE in request.headers:
        response.headers[hdrs.CONNECTION] = "close"
        response.force_close()


async def _answer_and_close(request: web.Request, response: web.StreamResponse) -> None:
    """Answers at once and reads on for a bounded while: a socket closed with unread bytes would reset the
    connection, and the client would lose the answer."""
    response.force_close()
    response.headers[hdrs.CONNECTION] = "close"
    try:
        await response.prepare(request)
        await response.write_eof()
        discarded = 0
        with suppress(asyncio.TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                while discarded < _DISCARD_BYTES and (chunk := await request.content.readany()):
                    discarded += len(chunk)
    except Exception as error:
        LOG.debug("while refusing a body: %r", error)
    finally:
        request.protocol.force_close()


def _log(request: web.Request, status: int, sent: int, error: BaseException | None) -> None:
    """Counts a request, and writes its line."""
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
    """Bytes of the body of a reply, also of one that is about to be sent."""
    if (sent := request[CALL].sent) is not None:
        return sent
    body = response.body if isinstance(response, web.Response) and request.method != hdrs.METH_HEAD else None
    return len(body) if isinstance(body, bytes) else 0


def _route_of(request: web.Request) -> str:
    """The route's pattern, never the path: labels must stay few."""
    resource = request.match_info.route.resource
    known = resource is not None and not resource.canonical.startswith("/{")  # that one takes what no route does
    return resource.canonical if resource is not None and known else "unknown"
