"""The API documentation: Swagger UI on the OpenAPI document, with all of its files served by this server."""

import asyncio
from collections.abc import Sequence
from functools import cache

from aiohttp import web

from server import __version__
from server.http import html, openapi
from server.http.reply import Response
from server.http.route import Route
from server.services import SERVICES
from server.viewer import render

# Scripts and styles only as files of this server, which no upload can be: downloads are never of a script's type.
# `data:` is for the icons in Swagger UI's style sheet, `connect-src` for openapi.json and for trying calls.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


async def show(request: web.Request) -> Response:
    """Shows this API as an HTML page, on which calls can be tried."""
    # In a thread: making the OpenAPI document takes 100 ms, once.
    page = await asyncio.to_thread(_page, tuple(request.app[SERVICES].routes))
    return html.html(page, 200, "no-cache", {"Content-Security-Policy": _POLICY})


@cache
def _page(routes: Sequence[Route]) -> str:
    return render.docs(openapi.document(routes, __version__))
