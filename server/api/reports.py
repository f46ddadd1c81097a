"""The report of a test case: its stored data in one reply."""

from uuid import UUID

from aiohttp import web

from server.http import reply
from server.http.reply import Response
from server.reports import reports
from server.services import CALL


async def show(request: web.Request, case_id: UUID) -> Response:
    """Shows a test case result with its steps, artifacts and checkpoints, from one snapshot of the database.

    Each list has at most 2,000 entries; `truncated` is true when there are more. Console and network log entries are
    only counted. What is more than 1 MiB of a list is read while it is sent, after the snapshot.
    """
    report = await reports.gather(request[CALL].reads, case_id, request[CALL].scope)
    return await reply.listed(request, report, reports.lists(report))
