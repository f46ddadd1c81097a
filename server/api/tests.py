"""Tests: the results that one test had in all runs."""

from aiohttp import web

from server.errors import TestNotFound
from server.http import reply
from server.http.cursor import CursorPage, cursor_of
from server.http.fields import IndexedText, Name100, RequiredText
from server.http.reply import Response
from server.reports import tests
from server.reports.scope import only_project
from server.reports.tests import TestHistory
from server.services import CALL


class HistoryFilter(CursorPage, kw_only=True):
    test_id: RequiredText
    project: Name100 | None = None
    branch: IndexedText | None = None
    browser: IndexedText | None = None
    environment: IndexedText | None = None


async def show(request: web.Request, query: HistoryFilter) -> Response:
    """Shows the history of a test: its results, newest first, each with facts of its suite run.

    Without `project`, the test is looked up in the caller's only project, else in `default`. `branch`, `browser` and
    `environment` must match exactly. `summary` is of the newest 100 results that match. `limit` is 100 by default and
    at most 500; `next_cursor` of the reply is the `cursor` of the next page.
    """
    filters = query.branch, query.browser, query.environment
    async with request[CALL].reads.acquire() as connection:
        project_id = await only_project(connection, query.project, request[CALL].known_caller.projects())
        if project_id is None:
            raise TestNotFound()
        name = await tests.name_of(connection, project_id, query.test_id)
        summary = await tests.summary(connection, project_id, query.test_id, filters)
        items, more = await tests.history(connection, project_id, query.test_id, filters, query.before, query.size)
    cursor = cursor_of(items[-1].id) if more else None
    return reply.ok(TestHistory(query.test_id, name, summary, items, cursor))
