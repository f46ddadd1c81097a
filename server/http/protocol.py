"""Answers input that is not valid HTTP with the same JSON errors as the rest of the API.

aiohttp would reply in plain text, with its version and the bytes that it could not parse. `Runner` replaces aiohttp's
connection and server classes by the subclasses below.
"""

import logging
import uuid
from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError

from server.errors import MalformedRequest, ReportError
from server.http import reply
from server.http.middleware import NOTHING_ALLOWED, REQUEST_LOG, REQUESTS, SAFE_HEADERS
from server.services import SERVICES

_UNREADABLE = (HttpProcessingError, web.RequestPayloadError)


class Connection(web.RequestHandler):
    """A client's connection. Input that cannot be parsed gets a 400 and one log record, then the connection closes."""

    __slots__ = ("_app",)

    def __init__(self, app: web.Application, manager: web.Server, **settings: Any) -> None:
        self._app = app
        super().__init__(manager, **settings)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # The parser found broken framing inside a body, and aiohttp queued its error reply behind that request. Fail
        # the unfinished bodies: otherwise the request waits for the rest of its body until the timeout.
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            bodies = [body for _, body in self._messages]
            if self._current_request is not None:
                bodies.append(self._current_request.content)
            for body in bodies:
                if not body.is_eof() and body.exception() is None:
                    body.set_exception(web.RequestPayloadError())

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The reply to input that cannot be parsed (400), and to an exception outside of the middleware (500)."""
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


class _Server(web.Server):
    """Creates a Connection for each accepted socket."""

    def __init__(self, app: web.Application, made: web.Server) -> None:
        self._app = app
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
        )
        self._kwargs = made._kwargs

    def __call__(self) -> web.RequestHandler:
        return Connection(self._app, self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """aiohttp's AppRunner with _Server in place of web.Server."""

    async def _make_server(self) -> web.Server:
        return _Server(self.app, await super()._make_server())
