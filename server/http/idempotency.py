"""Runs the database part of a POST once per Idempotency-Key, in the same transaction as the key."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from aiohttp import web

from server.database.queries import SQL
from server.errors import InProgress, Invalid, KeyReused, Problem
from server.http import reply
from server.services import CALL, SERVICES

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
_PARTIAL = web.ResponseKey("partial", bool)
_KEY = re.compile(r"[\x20-\x7e]{1,200}")


async def once(
    request: web.Request,
    work: Callable[[Any], Awaitable[web.Response]],
    content: Callable[[], bytes] | None = None,
    settle: Callable[[bool], None] | None = None,
    one_statement: Callable[[Any], Awaitable[web.Response | None]] | None = None,
) -> web.Response:
    """Run `work(connection)` in a transaction; or replay the stored reply to an earlier request with the same key.

    `content()` returns a hash that identifies the request's content, by default that of the JSON body. `settle`, for
    work with files, is called with the transaction's outcome, see Pool.transaction. `one_statement(connection)` is
    tried before `work`: it does the same in one statement, without a transaction when there is no key, and returns None
    when `work` must do it. Only 2xx replies are stored, except partial failures. Raises KeyReused, and
    InProgress while another request with the key runs.
    """
    pool, call = request.app[SERVICES].pool, request[CALL]

    async def both(connection: Any) -> web.Response:
        done = await one_statement(connection) if one_statement is not None else None
        return await work(connection) if done is None else done

    key = call.idempotency_key
    if key is None and one_statement is not None and not call.is_long:
        async with pool.autocommit() as connection:
            if (done := await one_statement(connection)) is not None:
                return done
    async with pool.transaction(settle, for_files=settle is not None) as connection:
        if key is None:
            response = await work(connection)
        else:
            response = await _with_key(request, connection, key, both, content)
        await call.still_allowed(connection)  # last, so that nothing long comes between it and the commit
        return response


async def _with_key(
    request: web.Request,
    connection: Any,
    key: str,
    work: Callable[[Any], Awaitable[web.Response]],
    content: Callable[[], bytes] | None,
) -> web.Response:
    sql, call = SQL.idempotency, request[CALL]
    caller = call.known_caller.id
    fingerprint = _fingerprint(request, content() if content else call.body_hash)
    try:
        await connection.execute(sql.lock, caller, key)
    except asyncpg.LockNotAvailableError:
        raise InProgress() from None
    if (kept := await connection.fetchrow(sql.kept, caller, key)) is not None:
        response = _replay(kept, fingerprint)
        await connection.execute(sql.confirm)
        return response
    response = await work(connection)
    if _final(response):
        await connection.execute(sql.keep, caller, key, fingerprint, response.status, response.body)
    return response


def key_of(request: web.Request) -> str | None:
    """The request's key. Raises Invalid when it is not 1 to 200 printable ASCII characters."""
    key = request.headers.get(HEADER)
    if key is not None and not _KEY.fullmatch(key):
        raise Invalid(Problem(HEADER, "must be 1 to 200 printable ASCII characters"), code="invalid_idempotency_key")
    return key


def partial_failure(response: web.Response) -> web.Response:
    """Marks a 207 with failures of the server. Its reply is not stored, so that a retry can succeed."""
    response[_PARTIAL] = True
    return response


def _final(response: web.Response) -> bool:
    return 200 <= response.status < 300 and _PARTIAL not in response


def _fingerprint(request: web.Request, content: bytes) -> bytes:
    return hashlib.sha256(f"{request.method} {request.raw_path}\n".encode() + content).digest()


def _replay(kept: Any, fingerprint: bytes) -> web.Response:
    if kept["fingerprint"] != fingerprint:
        raise KeyReused()
    return reply.raw(kept["status"], kept["body"], {REPLAYED: "true"})
