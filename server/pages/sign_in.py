"""Signing in and out with a browser: with name and password, with a token, or at the provider of single sign-on."""

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import partial
from typing import Annotated
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from msgspec import Meta, Struct, field

from server.auth import accounts, id_tokens, single_sign_on
from server.auth.passwords import LONGEST
from server.auth.tokens import csrf_token, new_cookie
from server.errors import (
    ClaimsRefused,
    CrossSite,
    CsrfTokenNeeded,
    IssuerAway,
    ReportError,
    RouteNotFound,
    SignInFailed,
    TooManyLogins,
    WrongCredentials,
    WrongToken,
)
from server.http import html
from server.http.authenticate import end_session, session_cookie, session_end, set_session
from server.http.origin import is_cross_site
from server.http.reply import Response
from server.services import CALL, SERVICES
from server.viewer import render

# A path of this server. Browsers read `//host` and `/\host` as another host, and drop tabs and line ends.
_OWN_PATH = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")

# The browser's half of a sign-in at the provider: its secret, and the page that it asked for.
FLOW_COOKIE = "reportd_sign_in"
_FLOW = re.compile(rf"(?:^|;)[ \t]*{FLOW_COOKIE}=([\w-]{{43}})\.([\w-]*)", re.ASCII)
_FLOW_SECONDS = 900
_FLOW_PATH = "/sign-in"
_LONGEST_NEXT = 2000  # characters; browsers take cookies of 4,096 bytes


class SignIn(Struct):
    """The query of the sign-in page: where the browser goes afterwards."""

    next: Annotated[str, Meta(max_length=4000)] = "/"


class Credentials(SignIn):
    """The fields of the sign-in page. With a `token`, name and password are not looked at."""

    name: Annotated[str, Meta(max_length=100)] = ""
    password: Annotated[str, Meta(max_length=LONGEST)] = ""
    token: Annotated[str, Meta(max_length=200)] = ""


class ComingBack(Struct):
    """The query with which the provider sends a browser back (RFC 6749, 4.1.2; RFC 9207)."""

    code: Annotated[str, Meta(max_length=4000)] = ""
    state: Annotated[str, Meta(max_length=200)] = ""
    error: Annotated[str, Meta(max_length=200)] = ""
    issuer: Annotated[str, Meta(max_length=1000)] = field(default="", name="iss")


class Nothing(Struct):
    """A form without fields other than its CSRF token."""


async def show(request: web.Request, query: SignIn) -> Response:
    """The page to sign in."""
    return await _form(request, query.next)


async def create(request: web.Request, form: Credentials) -> Response:
    """Starts a session, and sends the browser to the page that it asked for."""
    if is_cross_site(request, request[CALL].host):
        raise CrossSite()
    try:
        return await (_with_token(request, form) if form.token else _with_password(request, form))
    except (WrongCredentials, WrongToken, TooManyLogins) as error:
        return await _refused(request, form.next, error, form.name)


async def start(request: web.Request, query: SignIn) -> Response:
    """Sends the browser to the provider of single sign-on."""
    services, secret, next = request.app[SERVICES], new_cookie(), _own(query.next)
    if not services.config.auth.oidc.on:
        raise RouteNotFound()
    try:
        address = await single_sign_on.address(services.issuers, services.config.auth.oidc, _flow(request, secret))
    except IssuerAway as error:
        return await _refused(request, query.next, error)
    response = html.see_other(address)
    kept = urlsafe_b64encode((next if len(next) <= _LONGEST_NEXT else "/").encode()).rstrip(b"=").decode()
    _set_flow(request, response, f"{secret}.{kept}", _FLOW_SECONDS)
    return response


async def come_back(request: web.Request, query: ComingBack) -> Response:
    """Starts the session of a person who has signed in at the provider, and opens the page that was asked for."""
    services, call = request.app[SERVICES], request[CALL]
    oidc, former, cookie = services.config.auth.oidc, session_cookie(request), new_cookie()
    if not oidc.on:
        raise RouteNotFound()
    secret, next = _kept_flow(request)
    flow = _flow(request, secret)
    session = accounts.NewSession(cookie, former, session_end(request))
    try:
        if not secret or not hmac.compare_digest(query.state.encode("utf-8", "replace"), flow.state.encode()):
            raise SignInFailed()
        if query.error or not query.code or query.issuer not in ("", oidc.issuer):
            raise SignInFailed(f"{oidc.issuer} has not signed you in: {id_tokens.shown(query.error or 'no code')}.")
        await single_sign_on.sign_in(services.pool, services.issuers, oidc, flow, query.code, session, call)
    except (WrongCredentials, ClaimsRefused, TooManyLogins, IssuerAway) as error:
        return await _refused(request, next, error)
    services.callers.evict(former)
    response = html.see_other(next)
    _set_flow(request, response, "", 0)
    set_session(request, response, cookie, session.ends)
    return response


async def confirm(request: web.Request) -> Response:
    """The page to sign out. It is a page of its own, since it has a CSRF token and so is not compressed."""
    token = csrf_token(session_cookie(request))
    return await html.page(request, partial(render.page, "sign_out.html", csrf_token=token), secret=True)


async def delete(request: web.Request, form: Nothing) -> Response:
    """Ends the session, of a person or of a token, and sends the browser to the sign-in page."""
    services, call, cookie = request.app[SERVICES], request[CALL], session_cookie(request)
    caller = await services.callers.by_cookie(services.pool, cookie)
    if caller is not None:
        if is_cross_site(request, call.host):
            raise CrossSite()
        if not hmac.compare_digest(call.csrf_token.encode(), csrf_token(cookie).encode()):
            raise CsrfTokenNeeded()
        call.caller = caller
        async with services.pool.transaction() as connection:
            await accounts.log_out(connection, caller, cookie, call.actor())
        services.callers.evict(cookie)
    response = html.see_other("/sign-in")
    end_session(request, response)
    return response


async def _with_password(request: web.Request, form: Credentials) -> Response:
    if not form.name or not form.password:
        raise WrongCredentials()
    services, call, former, cookie = request.app[SERVICES], request[CALL], session_cookie(request), new_cookie()
    session = accounts.NewSession(cookie, former, session_end(request))
    await accounts.log_in(services.pool, services.passwords, form.name, form.password, session, call)
    services.callers.evict(former)
    response = html.see_other(_own(form.next))
    set_session(request, response, cookie, session.ends)
    return response


async def _with_token(request: web.Request, form: Credentials) -> Response:
    services, call, cookie, secret = request.app[SERVICES], request[CALL], new_cookie(), form.token.strip()
    call.caller = await services.callers.by_token(services.pool, secret)
    if call.caller is None:
        raise WrongToken()
    async with services.pool.transaction() as connection:
        ends = await accounts.start_for_token(
            connection, call.caller, secret, cookie, session_end(request), call.actor()
        )
    response = html.see_other(_own(form.next))
    set_session(request, response, cookie, ends)
    return response


async def _form(request: web.Request, next: str, name: str = "", error: ReportError | None = None) -> web.Response:
    provider = urlsplit(request.app[SERVICES].config.auth.oidc.issuer).hostname
    draw = partial(render.page, "sign_in.html", next=_own(next), name=name, error=error, provider=provider)
    return await html.page(request, draw, status=error.status if error else 200)


async def _refused(request: web.Request, next: str, error: ReportError, name: str = "") -> web.Response:
    response = await _form(request, next, name, error)
    response.headers.update(error.headers)
    return response


def _flow(request: web.Request, secret: str) -> single_sign_on.Flow:
    call = request[CALL]
    origin = request.app[SERVICES].config.server.public_url or f"{'https' if call.secure else 'http'}://{call.host}"
    return single_sign_on.Flow(secret, f"{origin.rstrip('/')}/sign-in/callback")


def _kept_flow(request: web.Request) -> tuple[str, str]:
    """The secret in the browser's cookie, empty without it, and the page that the browser asked for."""
    found = _FLOW.findall(request.headers.get(hdrs.COOKIE, ""))
    if not found:
        return "", "/"
    secret, kept = found[-1]
    try:
        return secret, _own(urlsafe_b64decode(kept + "==").decode())
    except ValueError:
        return secret, "/"


def _set_flow(request: web.Request, response: web.StreamResponse, value: str, seconds: int) -> None:
    secure = request[CALL].secure
    # Lax: the browser sends it along when the provider's page leads back here.
    response.set_cookie(
        FLOW_COOKIE, value, max_age=seconds, path=_FLOW_PATH, httponly=True, samesite="Lax", secure=secure
    )


def _own(address: str) -> str:
    """`address`, if it is a path of this server; else the first page."""
    return address if _OWN_PATH.fullmatch(address) else "/"
