"""Connections: how they end, and the reply to input that is not valid HTTP.

For such input aiohttp would reply in plain text, with its version and the bytes that it could not parse. `Runner`
replaces aiohttp's connection and server classes by the subclasses below.
"""

import asyncio
import logging
import uuid
from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

from server.errors import MalformedRequest, ReportError
from server.http import reply
from server.http.middleware import NOTHING_ALLOWED, REQUEST_LOG, REQUESTS, SAFE_HEADERS
from server.services import SERVICES, Services

_UNREADABLE = (HttpProcessingError, web.RequestPayloadError)

_LINGER_SECONDS = 10.0
_MAX_LINGERING = 256  # connections of one process
_MAX_HEAD = 64 << 10  # bytes; nginx allows half of it


class Connection(web.RequestHandler):
    """A client's connection. Input that cannot be parsed gets a 400 and one log record, then the connection closes."""

    __slots__ = ("_app", "_discards", "_head", "_linger_timer", "_lingering", "_unreadable")

    def __init__(self, app: web.Application, manager: web.Server, lingering: "Lingering", **settings: Any) -> None:
        self._app = app
        self._lingering = lingering
        self._linger_timer: asyncio.TimerHandle | None = None
        self._discards = 0  # bytes that may still be discarded, while it lingers
        self._head = 0  # bytes of an incomplete request head
        self._unreadable = False  # whether input could not be parsed
        super().__init__(manager, **settings)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the reply. If the connection ends with it and the client may still be sending, linger."""
        resp, client_left = await super().finish_response(request, resp, start_time)
        may_be_sending = request.keep_alive or self._unreadable or not request.content.is_eof()
        unsent = self.transport is not None and self.transport.get_write_buffer_size() > 0
        if not client_left and not resp.keep_alive and (may_be_sending or unsent):
            self.linger()
        return resp, client_left

    def linger(self) -> None:
        """Close the sending side, then read and discard until the client closes (RFC 9112, 9.6).

        Closing a socket with unread bytes resets the connection, and a client that sends its whole body before it reads
        would lose the reply. Ends after 10 seconds, or as many bytes as the largest request may have.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self._force_close = True  # aiohttp starts no further request, and leaves closing the transport to this class
        self._messages.clear()
        self._discards = self._lingering.max_bytes
        self._linger_timer = self._loop.call_later(_LINGER_SECONDS, transport.abort)
        self._lingering.add(self)
        if transport.can_write_eof():
            transport.write_eof()
        transport.resume_reading()

    @property
    def idle_until(self) -> float | None:
        """When its idle timeout ends; None while a request is in progress. See Idle in accept.py."""
        if self.transport is None or self.transport.is_closing():
            return None
        waits = self._waiter is not None and not self._waiter.done()
        return self._next_keepalive_close_time if waits else None

    def drop(self) -> None:
        """Close at once, also when the client has not read its last reply."""
        if self.transport is not None:
            self.transport.abort()

    def force_close(self) -> None:
        """Close. transport.close() alone would wait without end for a client that does not read its last reply."""
        transport = self.transport
        super().force_close()
        if transport is not None and transport.get_write_buffer_size():
            self._loop.call_later(_LINGER_SECONDS, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._lingering.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._linger_timer is not None:
            self._discards -= len(data)
            if self._discards < 0 and self.transport is not None:
                self.transport.abort()
            return
        if self._unreadable:
            return
        # Between the arrival of a head and the start of its handler, neither of them is set: then this is a body.
        awaits_head = self._waiter is not None and not self._waiter.done()
        if self._current_request is not None:
            awaits_head = self._current_request.content.is_eof()
        super().data_received(data)
        if awaits_head and not self._messages:
            self._count_head(len(data))
        else:
            self._head = 0
        # The parser found broken framing inside a body, and aiohttp queued its error reply behind that request. Fail
        # the unfinished bodies: otherwise the request waits for the rest of its body until the timeout.
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            bodies = [body for _, body in self._messages]
            if self._current_request is not None:
                bodies.append(self._current_request.content)
            for body in bodies:
                if not body.is_eof() and body.exception() is None:
                    body.set_exception(web.RequestPayloadError())

    def _count_head(self, size: int) -> None:
        """Refuse a request head that is not complete after 64 KiB: aiohttp alone would store a megabyte of it."""
        self._head += size
        if self._head > _MAX_HEAD and not self._unreadable:
            self._unreadable = True
            error = LineTooLong(b"the head", _MAX_HEAD)
            self._messages.append((_ErrInfo(error.code, error, error.message), EMPTY_PAYLOAD))
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The reply to input that cannot be parsed (400), and to an exception outside of the middleware (500)."""
        self._unreadable = True
        request_id = uuid.uuid4().hex
        extra = {"fields": {"request_id": request_id}}
        self.log_exception("Error handling request from %s", request.remote, exc_info=exc, extra=extra)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of another reply has already been sent")
        error = MalformedRequest() if isinstance(exc, HttpProcessingError) else ReportError()
        own = {"X-Request-Id": request_id, "Content-Security-Policy": NOTHING_ALLOWED, "Connection": "close"}
        response = reply.json(error.status, reply.error_object(error, request_id), {**SAFE_HEADERS, **own})
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Log unparsable input without traceback and bytes: they may contain a token. Log other errors in full."""
        error = kwargs.get("exc_info")
        if not isinstance(error, _UNREADABLE):
            super().log_exception(*args, **kwargs)
            return
        REQUESTS.labels("other", "unknown", MalformedRequest.status).inc()
        if self._app[SERVICES].config.log.requests and REQUEST_LOG.isEnabledFor(logging.INFO):
            remote = self.peername[0] if isinstance(self.peername, tuple) else None
            fields = {"status": MalformedRequest.status, "error": type(error).__name__, "remote": remote}
            fields |= kwargs.get("extra", {}).get("fields", {})
            REQUEST_LOG.info("not an HTTP request", extra={"fields": fields})


class Lingering:
    """The connections of a server that linger, in the order in which they began.

    At most 256: one more ends the oldest, whose client has had the most time to read its reply.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes  # for each connection
        self._connections: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Connection) -> None:
        if len(self._connections) >= _MAX_LINGERING:
            oldest = next(iter(self._connections))
            self.remove(oldest)
            if oldest.transport is not None:
                oldest.transport.abort()
        self._connections[connection] = None

    def remove(self, connection: Connection) -> None:
        self._connections.pop(connection, None)


def largest_request(services: Services) -> int:
    """The most bytes that the body of any request may have."""
    limits: list[int] = [services.config.api.max_json_size]
    limits += [route.upload.rules(services.config.artifacts).max_total for route in services.routes if route.upload]
    return max(limits)


class _Server(web.Server):
    """Creates a Connection for each accepted socket."""

    def __init__(self, app: web.Application, made: web.Server) -> None:
        self._app = app
        self.lingering = Lingering(largest_request(app[SERVICES]))
        self._admission = app[SERVICES].admission
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
        )
        self._kwargs = made._kwargs

    @property
    def open(self) -> int:
        """Connections whose socket is open."""
        return self._admission.connections

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self._admission.connections += 1
        super().connection_made(handler, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self._admission.connections -= 1
        super().connection_lost(handler, exc)

    def __call__(self) -> web.RequestHandler:
        return Connection(self._app, self, self.lingering, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """aiohttp's AppRunner with _Server in place of web.Server, which is in `made` after setup()."""

    made: _Server

    async def _make_server(self) -> web.Server:
        self.made = _Server(self.app, await super()._make_server())
        return self.made
