"""Signing in and out with a browser: with name and password, or with a token."""

import hmac
import re
from functools import partial
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from server.auth import accounts
from server.auth.passwords import LONGEST
from server.auth.tokens import csrf_token, is_token, new_cookie
from server.errors import CrossSite, CsrfTokenNeeded, ReportError, TooManyLogins, WrongCredentials, WrongToken
from server.http import html
from server.http.authenticate import end_session, session_cookie, session_end, set_session
from server.http.origin import is_cross_site
from server.http.reply import Response
from server.services import CALL, SERVICES
from server.viewer import render

# A path of this server. Browsers read `//host` and `/\host` as another host, and drop tabs and line ends.
_OWN_PATH = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")


class SignIn(Struct):
    """The query of the sign-in page: where the browser goes afterwards."""

    next: Annotated[str, Meta(max_length=4000)] = "/"


class Credentials(SignIn):
    """The fields of the sign-in page. With a `token`, name and password are not looked at."""

    name: Annotated[str, Meta(max_length=100)] = ""
    password: Annotated[str, Meta(max_length=LONGEST)] = ""
    token: Annotated[str, Meta(max_length=200)] = ""


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
        response = await _form(request, form.next, form.name, error)
        response.headers.update(error.headers)
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
    call.caller = await services.callers.by_token(services.pool, secret) if is_token(secret) else None
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
    draw = partial(render.page, "sign_in.html", next=_own(next), name=name, error=error)
    return await html.page(request, draw, status=error.status if error else 200)


def _own(address: str) -> str:
    """`address`, if it is a path of this server; else the first page."""
    return address if _OWN_PATH.fullmatch(address) else "/"
