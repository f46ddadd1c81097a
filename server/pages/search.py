"""The page of the search for errors, tests and selectors."""

from functools import partial

import msgspec
from aiohttp import web
from msgspec import Struct

from server.http import html
from server.http.fields import Name100, Text255
from server.http.reply import Response
from server.reports import overview, search
from server.reports.scope import projects_named
from server.services import CALL
from server.viewer import render
from server.viewer.filters import FilteredAddress

LEAST = 2  # characters: one is in nearly every text


class SearchQuery(Struct):
    q: Text255 = ""
    project: Name100 | None = None
    kinds: search.Kinds | None = msgspec.field(name="in", default=None)


async def show(request: web.Request, query: SearchQuery) -> Response:
    """The errors, tests and selectors that fit best. Without a text, only the form."""
    text, visible, found = query.q.strip(), request[CALL].known_caller.projects(), None
    async with request[CALL].reads.acquire() as connection:
        projects = await overview.projects(connection, visible)
        if len(text) >= LEAST:
            chosen = await projects_named(connection, query.project or None, visible)
            found = await search.find(connection, chosen, text, query.kinds)
    draw = partial(
        render.page,
        "search.html",
        here=FilteredAddress.of(request.path, request.query, SearchQuery.__struct_encode_fields__),
        text=text,
        least=LEAST,
        found=found,
        projects=list(projects),
    )
    return await html.page(request, draw, rows=40)
