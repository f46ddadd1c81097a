"""Errors: failures of tests whose text is the same except for ids, numbers, times and folders."""

import re
from uuid import UUID

from aiohttp import web
from msgspec import Struct

from server.errors import ErrorNotFound
from server.http import reply
from server.http.cursor import CursorPage, cursor_of
from server.http.fields import Instant, Name100
from server.http.reply import Response
from server.reports import errors
from server.reports.errors import ErrorPage
from server.reports.scope import only_project, projects_named
from server.services import CALL

_FINGERPRINT = re.compile("[0-9a-f]{32}")


class ErrorFilter(CursorPage):
    project: Name100 | None = None
    since: Instant | None = None


class InProject(Struct):
    project: Name100 | None = None


async def index(request: web.Request, query: ErrorFilter) -> Response:
    """Lists errors, the one that was seen last first.

    `since` leaves out errors that were not seen again since then. `limit` is 100 by default and at most 500;
    `next_cursor` of the reply is the `cursor` of the next page.
    """
    async with request[CALL].reads.acquire() as connection:
        projects = await projects_named(connection, query.project, request[CALL].known_caller.projects())
        items, last = await errors.page(connection, projects, query.before, query.size, query.since)
    return reply.ok(ErrorPage(items, cursor_of(last) if last else None))


async def show(request: web.Request, query: InProject) -> Response:
    """Shows an error: a sample, when it was seen, its tests, and its newest results.

    Without `project`, it is looked up in the caller's only project, else in `default`. `days` and `tests` count the
    last 90 days, and at most 10,000 results of them.
    """
    fingerprint = request.match_info["fingerprint"]
    async with request[CALL].reads.acquire() as connection:
        project_id = await only_project(connection, query.project, request[CALL].known_caller.projects())
        if project_id is None or not _FINGERPRINT.fullmatch(fingerprint):
            raise ErrorNotFound()
        return reply.ok(await errors.by_fingerprint(connection, project_id, bytes.fromhex(fingerprint)))


async def index_of_run(request: web.Request, suite_id: UUID) -> Response:
    """Lists the failed tests of a suite run by error, the error of most tests first.

    A test counts by its last attempt. `truncated` says whether there are more errors than the reply has.
    """
    async with request[CALL].reads.acquire() as connection:
        return reply.ok(await errors.of_run(connection, suite_id, request[CALL].scope))
