"""Browser sessions: read-only ones for tokens, so that `<img src="…/download">` works, and those of people."""

from dataclasses import dataclass
from typing import Annotated, Literal, cast

from aiohttp import web
from msgspec import Meta, Struct

from server.auth import accounts
from server.auth.passwords import LONGEST
from server.auth.roles import Word
from server.auth.tokens import csrf_token, new_cookie
from server.errors import CrossSite
from server.http import reply
from server.http.authenticate import credentials, end_session, session_cookie, session_end, set_session
from server.http.origin import is_cross_site
from server.http.reply import Response
from server.reports.words import Moment
from server.services import CALL, SERVICES

# Bytes: enough for the longest name and password with every character escaped. A login needs no token: with the limit
# `[api] max_json_size`, a few unfinished bodies could use up `[server] body_memory`.
MAX_LOGIN_SIZE = 16 << 10


class Login(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    password: Annotated[str, Meta(min_length=1, max_length=LONGEST)]


@dataclass(slots=True)
class Session:
    expires_at: Moment


@dataclass(slots=True)
class PersonsSession:
    name: str
    expires_at: Moment
    csrf_token: str


@dataclass(slots=True)
class OwnRole:
    project: str | None  # None: every project
    role: Word


Kind = Literal["token", "person", "anyone"]


@dataclass(slots=True)
class Identity:
    kind: Kind
    name: str | None
    roles: list[OwnRole]
    csrf_token: str | None


async def create(request: web.Request) -> Response:
    """Starts a read-only browser session for the token in the Authorization header, and sets its cookie.

    The cookie authenticates GET requests, with the rights of the token, so that `<img src="…/download">` works. The
    session ends at `expires_at`, or earlier with the token. 429 when a token starts too many sessions.
    """
    services, call = request.app[SERVICES], request[CALL]
    cookie, secret, ends = new_cookie(), credentials(request)[1], session_end(request)
    async with services.pool.transaction() as connection:
        ends = await accounts.start_for_token(connection, call.known_caller, secret, cookie, ends, call.actor())
    response = reply.created(Session(ends))
    set_session(request, response, cookie, ends)
    return response


async def show(request: web.Request) -> Response:
    """Shows who the caller is, and its roles.

    For a person's session the reply also has the `csrf_token`, which every request other than GET must send as
    `X-CSRF-Token`.
    """
    caller = request[CALL].known_caller
    grants = caller.grants or (caller,)
    roles = [OwnRole(grant.project, grant.role.word) for grant in grants]
    token = csrf_token(session_cookie(request)) if caller.kind == "person" else None
    return reply.ok(Identity(cast(Kind, caller.kind), caller.name, roles, token))


async def login(request: web.Request, body: Login) -> Response:
    """Logs a person in: starts a session and sets its cookie.

    Every request of the session other than GET must send the reply's `csrf_token` as `X-CSRF-Token`. The browser's
    previous session ends. 401 for a wrong name or password, 403 for a page of another site, 429 after too many failed
    logins.
    """
    services, call = request.app[SERVICES], request[CALL]
    if is_cross_site(request, call.host):
        raise CrossSite()
    cookie, former, ends = new_cookie(), session_cookie(request), session_end(request)
    session = accounts.NewSession(cookie, former, ends)
    name = await accounts.log_in(services.pool, services.passwords, body.name, body.password, session, call)
    services.callers.evict(former)
    response = reply.created(PersonsSession(name, ends, csrf_token(cookie)))
    set_session(request, response, cookie, ends)
    return response


async def logout(request: web.Request) -> Response:
    """Logs a person out: ends the session of the cookie, and removes the cookie."""
    services, call, cookie = request.app[SERVICES], request[CALL], session_cookie(request)
    async with services.pool.transaction() as connection:
        await accounts.log_out(connection, call.known_caller, cookie, call.actor())
    services.callers.evict(cookie)
    response = reply.no_content()
    end_session(request, response)
    return response
