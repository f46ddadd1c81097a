"""Sessions of browsers: a token's, which only reads, so that `<img src="…/download">` shows, and a person's."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, cast

from aiohttp import web
from msgspec import Meta, Struct
from prometheus_client import Counter

from server.audit import Action, Subject, note, requester
from server.auth.callers import COOKIE, credentials, forget, session_cookie
from server.auth.logins import Attempt, admit_session
from server.auth.passwords import LONGEST, Passwords, prepared
from server.auth.roles import Word
from server.auth.tokens import csrf_token, hash_of, new_cookie
from server.context import CALLER, CONFIG, HOST, POOL, REMOTE, SECURE, SQL
from server.db import transaction
from server.errors import CrossSite, TooManyLogins, WrongCredentials
from server.http import reply
from server.http.fields import Moment
from server.http.origin import is_cross_site
from server.http.reply import Response

LOGINS = Counter("reportd_logins", "Logins of people", ["outcome"])
PASSWORDS = web.AppKey("passwords", Passwords)
# Bytes: room for the longest name and password, all of it escaped. Anybody may send this; with bodies of
# `[api] max_json_size` a few who never come to their end would hold all of `[server] body_memory`.
MOST_OF_A_LOGIN = 16 << 10


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
    """Sets a session cookie for the token that the request carries: it reads what the token reads."""
    sql, caller = request.app[SQL], request[CALLER]
    cookie, secret = new_cookie(), credentials(request)[1]
    async with transaction(request.app[POOL]) as connection:
        await admit_session(connection, sql, caller.id)
        columns = hash_of(cookie), caller.id, _end(request), hash_of(secret)
        ends = await connection.fetchval(sql.sessions.create_for_token, *columns)
        subject = Subject("token", caller.id, caller.name, caller.project_id)
        await note(connection, sql, Action.SESSION_STARTED, requester(request), subject, expires_at=ends)
    return _with_cookie(request, reply.created(Session(ends)), cookie, ends)


async def show(request: web.Request) -> Response:
    """Who the caller is, and for a person's session the CSRF token that changes need."""
    caller = request[CALLER]
    grants = caller.grants or (caller,)
    roles = [OwnRole(grant.project, grant.role.word) for grant in grants]
    token = csrf_token(session_cookie(request)) if caller.kind == "person" else None
    return reply.ok(Identity(cast(Kind, caller.kind), caller.name, roles, token))


async def login(request: web.Request, body: Login) -> Response:
    """Starts a person's session: sets its cookie and gives the CSRF token to send as `X-CSRF-Token` with changes."""
    if is_cross_site(request, request[HOST]):
        raise CrossSite()
    pool, sql, passwords = request.app[POOL], request.app[SQL], request.app[PASSWORDS]
    with passwords.place():  # before it is counted: a password that is not looked at is no try
        user = await pool.fetchrow(sql.users.for_login, prepared(body.name))
        attempt = Attempt(user["account"], request[REMOTE])
        try:
            await attempt.admit(pool, sql)
        except TooManyLogins:
            LOGINS.labels("throttled").inc()
            raise
        right = await passwords.match(user["password_hash"], body.password)
    cookie, ends = new_cookie(), _end(request)
    # Not by the name that was tried: people type passwords into its field.
    subject = Subject("person", user["id"], user["name"])
    if not right or user["disabled"] or not await _start(request, user, body.password, attempt, cookie, ends):
        LOGINS.labels("failed").inc()
        await note(pool, sql, Action.LOGIN_FAILED, requester(request), subject)
        raise WrongCredentials()
    LOGINS.labels("succeeded").inc()
    session = PersonsSession(user["name"], ends, csrf_token(cookie))
    return _with_cookie(request, reply.created(session), cookie, ends)


async def logout(request: web.Request) -> Response:
    """Ends the person's session that the request carries."""
    sql, caller, cookie = request.app[SQL], request[CALLER], session_cookie(request)
    async with transaction(request.app[POOL]) as connection:
        await connection.execute(sql.sessions.delete, hash_of(cookie))
        await note(connection, sql, Action.LOGOUT, requester(request), Subject("person", caller.id, caller.name))
    forget(request, cookie)
    response = reply.no_content()
    response.del_cookie(COOKIE, path="/", httponly=True, samesite="Lax", secure=request[SECURE])
    return response


async def _start(request: web.Request, user: Any, password: str, attempt: Attempt, cookie: str, ends: datetime) -> bool:
    """Saves a person's session. False for who is disabled or has another password since it was looked at."""
    sql, former = request.app[SQL], session_cookie(request)
    renewed = await request.app[PASSWORDS].renewed(user["password_hash"], password)
    async with transaction(request.app[POOL]) as connection:
        columns = hash_of(cookie), user["id"], ends, user["password_hash"]
        if not await connection.fetchval(sql.sessions.create_for_user, *columns):
            return False
        if renewed is not None:
            await connection.execute(sql.users.set_password, user["id"], renewed)
        # The browser's former session ends with its cookie: whoever had planted or read that one has nothing.
        await connection.execute(sql.sessions.delete, hash_of(former))
        actor = requester(request, "person", user["id"], user["name"])
        await note(connection, sql, Action.LOGIN_SUCCEEDED, actor, Subject("person", user["id"], user["name"]))
        await attempt.forgive(connection, sql)
    forget(request, former)
    return True


def _end(request: web.Request) -> datetime:
    return datetime.now(UTC) + timedelta(hours=request.app[CONFIG].auth.session_hours)


def _with_cookie(request: web.Request, response: web.Response, cookie: str, ends: datetime) -> Response:
    seconds = int((ends - datetime.now(UTC)).total_seconds())
    response.set_cookie(
        COOKIE, cookie, max_age=seconds, path="/", httponly=True, samesite="Lax", secure=request[SECURE]
    )
    return response
