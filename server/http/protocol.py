"""What comes on a connection before it is a request, and what is no HTTP: refused as everything else is.

aiohttp answers that itself: in plain text, with its version, and with the bytes that it could not read. Its classes
for a connection and for what makes them are public, and `Runner` is the one place that says which are used.
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
    """A client's connection. What cannot be read on it is one 400 and one line, and then it is closed."""

    __slots__ = ("_app",)

    def __init__(self, app: web.Application, manager: web.Server, **settings: Any) -> None:
        self._app = app
        super().__init__(manager, **settings)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # aiohttp answers broken framing after the request whose body it is in, and that one would wait for its body.
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
        """The reply to what is no request, and to what the application itself could not answer."""
        self.log_exception("Error handling request from %s", request.remote, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of another reply is sent already")
        request_id = uuid.uuid4().hex
        error = MalformedRequest() if isinstance(exc, HttpProcessingError) else ReportError()
        own = {"X-Request-Id": request_id, "Content-Security-Policy": NOTHING_ALLOWED, "Connection": "close"}
        response = reply.json(error.status, reply.error_object(error, request_id), {**SAFE_HEADERS, **own})
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kwargs: Any) -> None:
        """Without the traceback and without the bytes, for a token may be among them; our own mistakes with both."""
        error = kwargs.get("exc_info")
        if not isinstance(error, _UNREADABLE):
            super().log_exception(*args, **kwargs)
            return
        REQUESTS.labels("other", "unknown", MalformedRequest.status).inc()
        if self._app[SERVICES].config.log.requests and REQUEST_LOG.isEnabledFor(logging.INFO):
            remote = self.peername[0] if isinstance(self.peername, tuple) else None
            fields = {"status": MalformedRequest.status, "error": type(error).__name__, "remote": remote}
            REQUEST_LOG.info("not an HTTP request", extra={"fields": fields})


class _Server(web.Server):
    """Makes the connections of an application."""

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
    """Runs an application with the connections above."""

    async def _make_server(self) -> web.Server:
        return _Server(self.app, await super()._make_server())
