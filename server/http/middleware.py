"""Around every request: its id, its line in the log, its count, and errors as JSON."""

import asyncio
import re
import time
import uuid
from contextlib import suppress

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from prometheus_client import Counter, Histogram

from server.context import ACTIVITY, LOG, REQUEST_ID
from server.db import as_report_error
from server.errors import ReportError, RouteNotFound
from server.http import reply

REQUESTS = Counter("reportd_requests", "Requests answered", ["method", "route", "status"])
SECONDS = Histogram("reportd_request_seconds", "Time from the head of a request to its reply", ["method", "route"])

_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_CLIENT_GONE = 499  # for the log and the figures; nobody is there to read it
_DISCARD_BYTES = 1 << 20
_DISCARD_SECONDS = 2.0


@web.middleware
async def outermost(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns whatever happens into a reply that a client can act on."""
    started = time.perf_counter()
    sent_id = request.headers.get("X-Request-Id", "")
    request[REQUEST_ID] = sent_id if _SANE_ID.fullmatch(sent_id) else uuid.uuid4().hex
    with request.app[ACTIVITY]:
        response = await _answer(request, handler)
    route, seconds = _route_of(request), time.perf_counter() - started
    method = request.method if request.method in hdrs.METH_ALL else "other"
    REQUESTS.labels(method, route, response.status).inc()
    SECONDS.labels(method, route).observe(seconds)
    line = "%s %s %d %.1f ms %s"
    LOG.info(line, request.method, request.raw_path, response.status, seconds * 1000, request[REQUEST_ID])
    if not response.prepared and not request.content.is_eof():
        await _answer_and_close(request, response)
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ReportError as error:
        return reply.failure(request, error)
    except web.HTTPException:
        return reply.failure(request, RouteNotFound())  # a target that is no path at all, like OPTIONS *
    except Exception as error:
        if request.transport is None:
            return web.Response(status=_CLIENT_GONE)
        return reply.failure(request, _of_exception(request, error))


async def mark(request: web.Request, response: web.StreamResponse) -> None:
    """What every reply carries; a signal, so that replies which are sent as they are made have it too."""
    response.headers["X-Request-Id"] = request.get(REQUEST_ID, "")
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Server"] = "reportd"
    if request.app[ACTIVITY].stopping:
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


def _of_exception(request: web.Request, error: Exception) -> ReportError:
    known = as_report_error(error)
    if known is None:
        LOG.error("request %s failed", request[REQUEST_ID], exc_info=error)
        return ReportError()
    if known.status >= 500:
        LOG.warning("request %s: %s (%r)", request[REQUEST_ID], known.detail, error)
    return known


def _route_of(request: web.Request) -> str:
    """The route's pattern, never the path: labels must stay few."""
    resource = request.match_info.route.resource
    known = resource is not None and not resource.canonical.startswith("/{")  # that one takes what no route does
    return resource.canonical if resource is not None and known else "unknown"
