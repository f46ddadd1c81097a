"""Who calls: told from a request's token or session cookie, and remembered for some seconds."""

import asyncio
import hmac
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
from aiohttp import hdrs, web

from server.auth.roles import Role
from server.auth.tokens import csrf_token, hash_of, is_cookie, is_token
from server.context import ANYONE, CONFIG, HOST, POOL, SQL, Caller, Grant
from server.errors import CrossSite, CsrfTokenNeeded, Overloaded, Unauthorized
from server.http.origin import is_cross_site

COOKIE = "reportd_session"
_IN_HEADER = re.compile(rf"(?:^|;)[ \t]*{COOKIE}=([^;]*)")
CSRF_HEADER = "X-CSRF-Token"
_SAFE = {hdrs.METH_GET, hdrs.METH_HEAD}
_CACHE_SECONDS = 5.0
_CACHE_SIZE = 10_000


class Callers(dict[bytes, tuple[Caller, float]]):
    """By the hash of a secret and what kind it is: who that is, and when to ask again."""

    def __init__(self) -> None:
        super().__init__()
        # What the database is being asked: the answer is for all who want to know meanwhile. A fleet that sends with
        # one token would else ask hundreds of times at once, each time that it is to be asked again.
        self.asking: dict[bytes, asyncio.Future[Caller | None]] = {}


CACHE = web.AppKey("callers", Callers)


async def authenticate(request: web.Request) -> Caller:
    """Who sent the request: by Bearer token or by session cookie.

    A token's cookie is good for GET and HEAD alone. A person's is good for more when the page that sends it can say the
    session's CSRF token. Raises Unauthorized, CsrfTokenNeeded, CrossSite.
    """
    scheme, token = credentials(request)
    cookie = "" if scheme else session_cookie(request)
    found: Caller | None = None
    if scheme == "bearer" and is_token(token):
        found = await _known(request, b"t", token)
    elif is_cookie(cookie):
        found = await _known(request, b"s", cookie)
        if found is not None and request.method not in _SAFE:
            if found.kind == "person":
                _check_csrf(request, cookie)
            else:
                found = None
    if found is not None:
        return found
    if not request.app[CONFIG].auth.required and not scheme:
        return ANYONE
    raise Unauthorized()


def credentials(request: web.Request) -> tuple[str, str]:
    """The scheme and the rest of the Authorization header, empty without one."""
    scheme, _, rest = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return scheme.lower(), rest.strip()


def session_cookie(request: web.Request) -> str:
    """The value of the session cookie, the last one if there are several, empty without any.

    Not from request.cookies: of 8 KB that are no cookies, and that anybody may send, that takes 20 ms.
    """
    found = _IN_HEADER.findall(request.headers.get(hdrs.COOKIE, ""))
    return str(found[-1]).strip() if found else ""


def forget(request: web.Request, cookie: str) -> None:
    """A session that was ended is not remembered here; other workers ask again within some seconds."""
    request.app[CACHE].pop(hash_of(cookie) + b"s", None)


def _check_csrf(request: web.Request, cookie: str) -> None:
    if is_cross_site(request, request[HOST]):
        raise CrossSite()
    sent = request.headers.get(CSRF_HEADER, "").encode("utf-8", "surrogateescape")
    if not hmac.compare_digest(sent, csrf_token(cookie).encode()):
        raise CsrfTokenNeeded()


async def _known(request: web.Request, kind: bytes, secret: str) -> Caller | None:
    # Which of the two it is belongs into the key: a token must never pass as a cookie, nor the reverse.
    key = hash_of(secret)
    slot, cache = key + kind, request.app[CACHE]
    kept = cache.get(slot)
    if kept is not None and kept[1] > time.monotonic():
        return kept[0]
    if (asked := cache.asking.get(slot)) is not None:
        return await asyncio.shield(asked)  # who gives up waiting gives up for himself alone
    answer = cache.asking[slot] = asyncio.get_running_loop().create_future()
    try:
        found = await _look_up(request, key, slot)
    except BaseException as error:
        answer.set_exception(error if isinstance(error, Exception) else Overloaded())
        answer.exception()  # perhaps nobody else has asked: then it is not to be complained of
        raise
    finally:
        del cache.asking[slot]
    answer.set_result(found)
    if found is not None:
        await _touch(request, found)  # the others need not wait for that
    return found


async def _look_up(request: web.Request, key: bytes, slot: bytes) -> Caller | None:
    cache, sql = request.app[CACHE], request.app[SQL]
    query = sql.tokens.by_hash if slot.endswith(b"t") else sql.sessions.by_hash
    row: Any = await request.app[POOL].fetchrow(query, key)
    if row is None:
        cache.pop(slot, None)
        return None
    caller, seconds = caller_of(row), _CACHE_SECONDS
    if row["expires_at"] is not None:
        seconds = min(seconds, (row["expires_at"] - datetime.now(UTC)).total_seconds())
    if len(cache) >= _CACHE_SIZE:
        cache.clear()
    cache[slot] = (caller, time.monotonic() + seconds)
    return caller


async def _touch(request: web.Request, caller: Caller) -> None:
    """Notes that a token or a person was here."""
    sql = request.app[SQL]
    query = sql.users.touch if caller.kind == "person" else sql.tokens.touch
    with suppress(asyncpg.PostgresError):  # a database that can only be read is one that can be read
        await request.app[POOL].execute(query, caller.id)


def caller_of(row: Any) -> Caller:
    """The caller of a row of tokens.by_hash or sessions.by_hash."""
    columns = zip(row["project_ids"], row["projects"], row["roles"], strict=True)
    # Ids come as text: asyncpg asks each new connection what an array of anything else is.
    grants = tuple(
        Grant(UUID(some_id) if some_id else None, project, Role.of(role)) for some_id, project, role in columns
    )
    largest = max(grants, key=lambda grant: grant.role)
    project_id, project = (largest.project_id, largest.project) if len(grants) == 1 else (None, None)
    several = grants if len(grants) > 1 else ()
    return Caller(
        row["id"], row["name"], project_id, project, row["collection_shape"], largest.role, row["kind"], several
    )
