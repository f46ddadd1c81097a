"""Runs the database part of a POST once per Idempotency-Key, in the same transaction as the key."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

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
    at_once: Callable[[Any], Awaitable[web.Response | None]] | None = None,
) -> web.Response:
    """`work(connection)` in a transaction; for a request that was answered before, the first reply again.

    `content` gives what tells two requests with the same address apart: the hash of the JSON body, or of what an
    upload brought; `settle`, of work with files, is called with how the transaction ends, see Pool.transaction.
    `at_once` is tried before `work`: the same in one statement, which needs no transaction without a key; None when
    that was not possible. Kept are 2xx replies that a repetition could not better. Raises InProgress, KeyReused.
    """
    pool, call = request.app[SERVICES].pool, request[CALL]
    key = call.idempotency_key
    if key is None and at_once is not None:
        async with pool.autocommit() as connection:
            if (done := await at_once(connection)) is not None:
                return done
    async with pool.transaction(settle, for_files=settle is not None) as connection:
        if key is None:
            return await work(connection)
        sql, caller = SQL.idempotency, call.known_caller.id
        fingerprint = _fingerprint(request, content() if content else call.body_hash)
        # Only the wait for a twin is bounded so tightly, not the waits of the work itself.
        await connection.execute(sql.bound_wait)
        claimed = await connection.fetchval(sql.claim, caller, key, fingerprint)
        await connection.execute(sql.unbound_wait)
        if claimed is None:
            return _again(await connection.fetchrow(sql.kept, caller, key), fingerprint)
        response = await at_once(connection) if at_once is not None else None
        if response is None:
            response = await work(connection)
        if _final(response):
            await connection.execute(sql.keep, caller, key, response.status, response.body)
        else:
            await connection.execute(sql.release, caller, key)
        return response


def key_of(request: web.Request) -> str | None:
    """The request's key. Raises Invalid when it is not 1 to 200 printable characters."""
    key = request.headers.get(HEADER)
    if key is not None and not _KEY.fullmatch(key):
        raise Invalid(Problem(HEADER, "must be 1 to 200 printable ASCII characters"), code="invalid_idempotency_key")
    return key


def partial_failure(response: web.Response) -> web.Response:
    """Marks a 207 whose failures were the server's: the same request may well succeed later, so it is not kept."""
    response[_PARTIAL] = True
    return response


def _final(response: web.Response) -> bool:
    return 200 <= response.status < 300 and _PARTIAL not in response


def _fingerprint(request: web.Request, content: bytes) -> bytes:
    return hashlib.sha256(f"{request.method} {request.raw_path}\n".encode() + content).digest()


def _again(kept: Any, fingerprint: bytes) -> web.Response:
    if kept is None:  # released between the two statements
        raise InProgress()
    if kept["fingerprint"] != fingerprint:
        raise KeyReused()
    return reply.raw(kept["status"], kept["body"], {REPLAYED: "true"})
