"""Tokens and browser sessions: making them, and telling from a request who calls."""

import hashlib
import re
import secrets
import string
import time
import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from aiohttp import web

from server.auth.roles import Role
from server.context import ANYONE, CONFIG, POOL, SQL, Caller
from server.errors import Unauthorized

# A token is rpt_, 43 random letters and digits, and 6 for their CRC32: scanners find it without asking anybody, and
# most typos are refused here. Those that were made before it had a checksum are 6 characters shorter, which tells them
# apart: they are random in all that they have.
PREFIX = "rpt_"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM = 43  # of 62 digits: 256 bits
_CHECKED = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{_RANDOM}}})([0-9A-Za-z]{{6}})")
_UNCHECKED = re.compile(rf"{PREFIX}[0-9A-Za-z_-]{{43}}")
COOKIE = "reportd_session"
_CACHE_SECONDS = 5.0
_CACHE_SIZE = 10_000

# Hash → (caller, when to ask again). A revocation takes effect within _CACHE_SECONDS.
CACHE = web.AppKey("callers", dict[bytes, tuple[Caller, float]])


def new_token() -> str:
    """256 random bits behind a prefix that tells people and scanners what it is."""
    random = "".join(secrets.choice(_DIGITS) for _ in range(_RANDOM))
    return PREFIX + random + _checksum(random)


def well_formed(token: str) -> bool:
    """Whether it can be a token at all, as far as its text says."""
    checked = _CHECKED.fullmatch(token)
    if checked is not None:
        return _checksum(checked[1]) == checked[2]
    return _UNCHECKED.fullmatch(token) is not None


def hash_of(secret: str) -> bytes:
    """What is stored and looked up: SHA-256 is enough for 256 random bits, there is nothing to guess.

    Secrets are never compared, so no comparison need take constant time: what an index tells by its timing is about
    hashes, and nobody finds a secret whose hash begins like one that is there, other than by trying.
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


async def authenticate(request: web.Request) -> Caller:
    """Who sent the request: by Bearer token, or for GET and HEAD by session cookie. Raises Unauthorized."""
    scheme, token = _credentials(request)
    sql = request.app[SQL].tokens
    found: Caller | None = None
    if scheme == "bearer" and token:
        found = await _known(request, token, sql.by_hash)
    elif not scheme and request.method in {"GET", "HEAD"} and COOKIE in request.cookies:
        found = await _known(request, request.cookies[COOKIE], sql.by_session)
    if found is not None:
        return found
    if not request.app[CONFIG].auth.required and not scheme:
        return ANYONE
    raise Unauthorized()


async def start_session(request: web.Request, connection: Any, token_id: UUID) -> tuple[str, datetime]:
    """A new session of a token: the cookie's value and when it ends, with the secret that started it at the latest."""
    secret, started_by = secrets.token_urlsafe(32), _credentials(request)[1]
    ends = datetime.now(UTC) + timedelta(hours=request.app[CONFIG].auth.session_hours)
    query = request.app[SQL].tokens.create_session
    ends = await connection.fetchval(query, hash_of(secret), token_id, ends, hash_of(started_by))
    return secret, ends


def _credentials(request: web.Request) -> tuple[str, str]:
    """The scheme and the rest of the Authorization header, empty without one."""
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower(), rest.strip()


def _checksum(random: str) -> str:
    number, digits = zlib.crc32(random.encode("ascii")), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits


async def _known(request: web.Request, secret: str, query: str) -> Caller | None:
    # Which of the two it is belongs into the key: a token must never pass as a cookie, nor the reverse.
    key = hash_of(secret)
    cache = request.app[CACHE]
    is_token = query is request.app[SQL].tokens.by_hash
    slot = key + (b"t" if is_token else b"s")
    kept = cache.get(slot)
    if kept is not None and kept[1] > time.monotonic():
        return kept[0]
    if is_token and not well_formed(secret):
        return None
    row: Any = await request.app[POOL].fetchrow(query, key)
    if row is None:
        cache.pop(slot, None)
        return None
    shape, role = row["collection_shape"], Role.of(row["role"])
    caller = Caller(row["id"], row["name"], row["project_id"], row["project"], shape, role)
    seconds = _CACHE_SECONDS
    if row["expires_at"] is not None:
        seconds = min(seconds, (row["expires_at"] - datetime.now(UTC)).total_seconds())
    if len(cache) >= _CACHE_SIZE:
        cache.clear()
    cache[slot] = (caller, time.monotonic() + seconds)
    with suppress(asyncpg.PostgresError):  # a database that can only be read is one that can be read
        await request.app[POOL].execute(request.app[SQL].tokens.touch, caller.id)
    return caller
