"""The pages of errors: those seen last, and one with its days, tests and results."""

import re
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from server.errors import ErrorNotFound
from server.http import html
from server.http.cursor import CursorPage, cursor_of
from server.http.fields import Name100
from server.http.reply import Response
from server.reports import errors, overview
from server.reports.errors import ErrorDay
from server.reports.scope import projects_named
from server.services import CALL
from server.viewer import render
from server.viewer.filters import FilteredAddress

_LISTED = 50  # a page
_FINGERPRINT = re.compile("[0-9a-f]{32}")


class ErrorsQuery(Struct):
    project: Name100 | None = None
    cursor: Annotated[str, Meta(max_length=100)] | None = None


async def index(request: web.Request, query: ErrorsQuery) -> Response:
    """The errors of all projects or of one, the one that was seen last first."""
    here = FilteredAddress.of(request.path, request.query, ErrorsQuery.__struct_fields__)
    if "" in request.query.values():  # of a form that was sent with empty fields: the address is to be short
        return html.see_other(here(cursor=query.cursor))
    visible, before = request[CALL].known_caller.projects(), CursorPage(cursor=query.cursor).before
    async with request[CALL].reads.acquire() as connection:
        projects = await overview.projects(connection, visible)
        chosen = await projects_named(connection, query.project, visible)
        found, last = await errors.page(connection, chosen, before, _LISTED)
    values = {"here": here, "projects": list(projects), "errors": found, "now": datetime.now(UTC)}
    values["older"] = here(cursor=cursor_of(last)) if last else None
    return await html.page(request, partial(render.page, "errors.html", **values), rows=len(found))


async def show(request: web.Request) -> Response:
    """One error."""
    project, fingerprint = request.match_info["project"], request.match_info["fingerprint"]
    async with (
        request[CALL].reads.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        found = await projects_named(connection, project, request[CALL].known_caller.projects())
        if not found or not _FINGERPRINT.fullmatch(fingerprint):
            raise ErrorNotFound()
        error = await errors.by_fingerprint(connection, found[0], bytes.fromhex(fingerprint))
    now = datetime.now(UTC)
    values = {"project": project, "error": error, "days": _every_day(error.days, now.date()), "now": now}
    return await html.page(request, partial(render.page, "error.html", **values), rows=len(error.newest))


def _every_day(days: list[ErrorDay], last: date) -> list[ErrorDay]:
    """The days of the last 90, also those without results."""
    known = {each.day: each for each in days}
    names = [(last - timedelta(days=ago)).isoformat() for ago in reversed(range(errors.DAYS))]
    return [known.get(name) or ErrorDay(name, 0) for name in names]
