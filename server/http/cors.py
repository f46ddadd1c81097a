"""Cross-Origin Resource Sharing: what pages of `[server] allowed_origins` may send, and read of the replies.

Without that setting nothing here changes a reply. An allowed origin is trusted like a page of this server: with the
cookie of a person it may do what the person may.
"""

from aiohttp import hdrs, web

from server.services import SERVICES

# What a page may send beside the headers that need no permission, and read beside those (https://fetch.spec.whatwg.org).
_SENT = (
    "Authorization, Content-Encoding, Content-Type, Idempotency-Key, If-Match, If-Modified-Since, If-None-Match, "
    "If-Range, If-Unmodified-Since, Range, X-CSRF-Token, X-Request-Id"
)
_READ = (
    "Accept-Ranges, Allow, Content-Disposition, Content-Range, ETag, Idempotent-Replayed, Retry-After, "
    "WWW-Authenticate, X-Request-Id, X-Total-Count"
)
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": _SENT,
    "Access-Control-Max-Age": "7200",  # seconds; no browser remembers it for longer
    "Cache-Control": "no-store",
}


def is_allowed(request: web.Request) -> bool:
    """Whether a page of an allowed origin made the browser send this request."""
    return request.headers.get(hdrs.ORIGIN) in request.app[SERVICES].config.server.allowed_origins


def preflight(request: web.Request) -> web.Response | None:
    """The reply to the browser's question whether a page may send a request; None for every other request."""
    asks = request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    return web.Response(status=204, headers=_PREFLIGHT) if asks and is_allowed(request) else None


def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Let a page of an allowed origin read the reply."""
    if not request.app[SERVICES].config.server.allowed_origins:
        return
    # Also to requests without an origin: otherwise a browser would show a page the reply that an image has cached.
    response.headers[hdrs.VARY] = ", ".join([*response.headers.getall(hdrs.VARY, []), hdrs.ORIGIN])
    if is_allowed(request):
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = request.headers[hdrs.ORIGIN]
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS] = "true"
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _READ
