"""Tokens and browser sessions: making them, and telling from a request who calls."""

import hashlib
import secrets
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from aiohttp import web

from server.context import ANYONE, CONFIG, POOL, SQL, Caller
from server.errors import Unauthorized

PREFIX = "rpt_"
COOKIE = "reportd_session"
_CACHE_SECONDS = 5.0
_CACHE_SIZE = 10_000

# Hash → (caller, when to ask again). A revocation takes effect within _CACHE_SECONDS.
CACHE = web.AppKey("callers", dict[bytes, tuple[Caller, float]])


def new_token() -> str:
    """256 random bits behind a prefix that tells people and scanners what it is."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(secret: str) -> bytes:
    """What is stored: SHA-256 is enough for 256 random bits, there is nothing to guess."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


async def authenticate(request: web.Request) -> Caller:
    """Who sent the request: by Bearer token, or for GET and HEAD by session cookie. Raises Unauthorized."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    sql = request.app[SQL].tokens
    found: Caller | None = None
    if scheme.lower() == "bearer" and token.strip():
        found = await _known(request, token.strip(), sql.by_hash)
    elif not scheme and request.method in {"GET", "HEAD"} and COOKIE in request.cookies:
        found = await _known(request, request.cookies[COOKIE], sql.by_session)
    if found is not None:
        return found
    if not request.app[CONFIG].auth.required and not scheme:
        return ANYONE
    raise Unauthorized()


async def start_session(request: web.Request, token_id: UUID) -> tuple[str, datetime]:
    """A new session of a token: the cookie's value and when it ends."""
    secret = secrets.token_urlsafe(32)
    ends = datetime.now(UTC) + timedelta(hours=request.app[CONFIG].auth.session_hours)
    sql = request.app[SQL].tokens
    await request.app[POOL].execute(sql.create_session, hash_of(secret), token_id, ends)
    return secret, ends


async def _known(request: web.Request, secret: str, query: str) -> Caller | None:
    # Which of the two it is belongs into the key: a token must never pass as a cookie, nor the reverse.
    key = hash_of(secret)
    cache = request.app[CACHE]
    slot = key + (b"t" if query is request.app[SQL].tokens.by_hash else b"s")
    kept = cache.get(slot)
    if kept is not None and kept[1] > time.monotonic():
        return kept[0]
    row: Any = await request.app[POOL].fetchrow(query, key)
    if row is None:
        cache.pop(slot, None)
        return None
    caller = Caller(row["id"], row["name"], row["project_id"], row["project"], row["collection_shape"])
    seconds = _CACHE_SECONDS
    if row["expires_at"] is not None:
        seconds = min(seconds, (row["expires_at"] - datetime.now(UTC)).total_seconds())
    if len(cache) >= _CACHE_SIZE:
        cache.clear()
    cache[slot] = (caller, time.monotonic() + seconds)
    with suppress(asyncpg.PostgresError):  # a database that can only be read is one that can be read
        await request.app[POOL].execute(request.app[SQL].tokens.touch, caller.id)
    return caller
