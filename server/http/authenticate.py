"""The caller of a request, authenticated by token, session cookie, or the evidence link in its path."""

import hmac
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import hdrs, web

from server.auth.callers import ANYONE, Caller
from server.auth.open_link import open_link
from server.auth.tokens import csrf_token
from server.errors import CrossSite, CsrfTokenNeeded, Unauthorized
from server.http.origin import is_cross_site
from server.services import CALL, SERVICES

COOKIE = "reportd_session"
CSRF_HEADER = "X-CSRF-Token"
_IN_HEADER = re.compile(rf"(?:^|;)[ \t]*{COOKIE}=([^;]*)")
_SAFE = {hdrs.METH_GET, hdrs.METH_HEAD}


async def authenticate(request: web.Request, again: Any = None) -> Caller:
    """The caller, by Bearer token or session cookie.

    The cookie of a token's session is valid for GET and HEAD only. The cookie of a person's session is valid for every
    method; methods other than GET and HEAD also need the CSRF token. `again`: a connection; the caller is then looked
    up with it, without the cache. Raises Unauthorized, CsrfTokenNeeded, CrossSite.
    """
    services = request.app[SERVICES]
    scheme, token = credentials(request)
    cookie = "" if scheme else session_cookie(request)
    found: Caller | None = None
    if scheme == "bearer":
        found = await services.callers.by_token(services.pool, token, again)
    elif cookie:
        found = await services.callers.by_cookie(services.pool, cookie, again)
        if found is not None and request.method not in _SAFE:
            if found.kind == "person":
                _check_csrf(request, cookie)
            else:
                found = None
    if found is not None:
        return found
    if not services.config.auth.required and not scheme:
        return ANYONE
    raise Unauthorized()


async def open_page(request: web.Request) -> Caller:
    """The bearer of an evidence link, counted as opened. Sets the call's `shared`. Raises LinkNotFound."""
    return await _open(request, openings=1)


async def open_image(request: web.Request) -> Caller:
    """As open_page, but counted as a download."""
    return await _open(request, downloads=1)


def credentials(request: web.Request) -> tuple[str, str]:
    """The scheme, in lower case, and the rest of the Authorization header; empty without one."""
    scheme, _, rest = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return scheme.lower(), rest.strip()


def session_cookie(request: web.Request) -> str:
    """The value of the session cookie: the last one of several, empty without any.

    Not from request.cookies, which takes 20 ms to parse 8 KB of garbage that anybody may send.
    """
    found = _IN_HEADER.findall(request.headers.get(hdrs.COOKIE, ""))
    return str(found[-1]).strip() if found else ""


def session_end(request: web.Request) -> datetime:
    """When a session that starts now ends."""
    return datetime.now(UTC) + timedelta(hours=request.app[SERVICES].config.auth.session_hours)


def set_session(request: web.Request, response: web.StreamResponse, cookie: str, ends: datetime) -> None:
    """Give the browser the cookie of a session that has started."""
    seconds, secure = int((ends - datetime.now(UTC)).total_seconds()), request[CALL].secure
    response.set_cookie(COOKIE, cookie, max_age=seconds, path="/", httponly=True, samesite="Lax", secure=secure)


def end_session(request: web.Request, response: web.StreamResponse) -> None:
    """Make the browser forget its session cookie."""
    response.del_cookie(COOKIE, path="/", httponly=True, samesite="Lax", secure=request[CALL].secure)


async def _open(request: web.Request, **uses: int) -> Caller:
    services = request.app[SERVICES]
    if request.method == hdrs.METH_HEAD:  # shows nothing, so it does not count as a use
        uses = {}
    text, by_anyone = request.match_info["link"], not services.config.auth.required
    timeout = services.config.database.pool_timeout
    await request[CALL].until_sent.enter_async_context(services.admission.link(text, timeout))
    caller, shared = await open_link(services.pool, services.signing_keys, text, by_anyone, **uses)
    request[CALL].shared = shared
    return caller


def _check_csrf(request: web.Request, cookie: str) -> None:
    if is_cross_site(request, request[CALL].host):
        raise CrossSite()
    sent = (request.headers.get(CSRF_HEADER) or request[CALL].csrf_token).encode("utf-8", "surrogateescape")
    if not hmac.compare_digest(sent, csrf_token(cookie).encode()):
        raise CsrfTokenNeeded()
