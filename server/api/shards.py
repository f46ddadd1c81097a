"""Shards: the parts of a run that run side by side, and whether the run is complete."""

from typing import Annotated
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.errors import Invalid, Problem
from server.http import reply
from server.http.fields import Instant, Natural, Text2000
from server.http.repair import ANY_CASE
from server.http.reply import Response
from server.reports import shards, webhooks
from server.reports.shards import MAX_SHARDS
from server.reports.words import ShardStatus
from server.services import CALL, SERVICES


class Shard(Struct, omit_defaults=True):
    total: Annotated[int, Meta(ge=1, le=MAX_SHARDS)]
    status: Annotated[ShardStatus, Meta(extra=ANY_CASE)]
    tests_expected: Natural | None = None
    started_at: Instant | None = None
    finished_at: Instant | None = None
    errors: Annotated[list[Text2000], Meta(max_length=100)] | None = None


async def replace(request: web.Request, suite_id: UUID, body: Shard) -> Response:
    """Says how one of the `total` shards of a suite run is doing; the last word counts. Replies with the run.

    Send it when a shard begins and when it has finished. When all have finished, the run gets their status, `Failed` if
    one of them failed, and its end, unless PATCH has set the status. `tests_expected` is how many tests the shard has:
    `GET …/completeness` compares their sum with the tests that came. `errors` are what went wrong outside of tests. A
    run that is not split is shard 1 of 1. Without `finished_at`, a shard has finished when it says so. One that has
    finished stays so when it is `Running` with the same `started_at`: that word is late. Another `total` than that of
    another shard is 409.
    """
    services, scope = request.app[SERVICES], request[CALL].scope
    index = _index(request.match_info["index"], body.total)
    if body.status == "Running" and body.finished_at is not None:
        raise Invalid(Problem("finished_at", "must be absent while status is Running"))
    async with services.pool.transaction() as connection:
        run, before = await shards.put(connection, suite_id, scope, index, body)
        await webhooks.after_update(connection, services.config, before, run)
        return reply.ok(run)


async def show(request: web.Request, suite_id: UUID) -> Response:
    """Says whether a suite run is complete, and what is missing: shards, tests, files.

    A shard is `silent` when nothing was heard of it, and `running` when it has begun and not finished. `tests_expected`
    is null when no shard said it. `artifacts_missing` are files that a bundle named and did not bring, until they
    arrive for that test: `reason` is `later`, `content missing` for bytes that the project should have had, or
    `refused:` with the sentence. `truncated` says whether there are more than these 500.
    """
    async with request.app[SERVICES].pool.acquire() as connection:
        return reply.ok(await shards.of_run(connection, suite_id, request[CALL].scope))


def _index(text: str, total: int) -> int:
    """The index in the path. Raises Invalid."""
    if text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_SHARDS)) and 1 <= int(text) <= total:
        return int(text)
    raise Invalid(Problem("index", f"must be a whole number from 1 to total, which is {total}"))
