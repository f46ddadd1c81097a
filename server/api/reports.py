"""The report of a test case: everything that was stored of it, in one reply."""

from uuid import UUID

from aiohttp import web

from server.http import reply
from server.http.reply import Response
from server.reports import reports
from server.services import CALL, SERVICES


async def show(request: web.Request, case_id: UUID) -> Response:
    """A test case result with its steps, artifacts and checkpoints: the first 2,000 of each."""
    return reply.ok(await reports.gather(request.app[SERVICES].pool, case_id, request[CALL].scope))
