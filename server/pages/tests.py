"""The page of one test: its marks, its newest results as charts, its errors, and all of its results."""

from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from server.errors import TestNotFound
from server.http import html
from server.http.cursor import CursorPage, cursor_of
from server.http.fields import IndexedText, Name100, RequiredText
from server.http.reply import Response
from server.reports import marks, tests
from server.reports.scope import name_and_main_branch, only_project
from server.services import CALL
from server.viewer import render
from server.viewer.filters import FilteredAddress

_ROWS = 50  # a page


class HistoryQuery(Struct, kw_only=True):
    id: RequiredText
    project: Name100 | None = None
    branch: IndexedText | None = None
    browser: IndexedText | None = None
    environment: IndexedText | None = None
    cursor: Annotated[str, Meta(max_length=100)] | None = None


async def show(request: web.Request, query: HistoryQuery) -> Response:
    """The history of a test. Without `project`: of the caller's only project, else of `default`."""
    here = FilteredAddress.of(request.path, request.query, HistoryQuery.__struct_fields__)
    if "" in request.query.values():  # of a form that was sent with empty fields: the address is to be short
        return html.see_other(here(cursor=query.cursor))
    filters, before = (query.branch, query.browser, query.environment), CursorPage(cursor=query.cursor).before
    async with (
        request[CALL].reads.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        project_id = await only_project(connection, query.project, request[CALL].known_caller.projects())
        if project_id is None:
            raise TestNotFound()
        of_test = project_id, query.id
        name = await tests.name_of(connection, *of_test)
        recent, more = await tests.history(connection, *of_test, filters, None, tests.RECENT)
        rows, further = recent[:_ROWS], more or len(recent) > _ROWS
        if before is not None:
            rows, further = await tests.history(connection, *of_test, filters, before, _ROWS)
        project, main_branch = await name_and_main_branch(connection, project_id)
        on_main = [each for each in recent if each.branch == main_branch]
        values = {
            "known": await tests.known(connection, *of_test),
            "summary": await tests.summary(connection, *of_test, filters),
            "errors": await tests.errors(connection, *of_test, filters),
            "marked": await marks.of_newest(connection, on_main or recent),
        }
    values |= {
        "here": here,
        "project": project,
        "name": name,
        "test_id": query.id,
        "recent": recent[::-1],
        "rows": rows,
    }
    values["now"] = datetime.now(UTC)
    values["older"] = here(cursor=cursor_of(rows[-1].id)) if further else None
    return await html.page(request, partial(render.page, "test.html", **values), rows=len(recent) + len(rows))
