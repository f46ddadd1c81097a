"""The API documentation as an HTML page, which loads nothing and works offline."""

from collections.abc import Sequence
from functools import cache

from aiohttp import web

from server import __version__
from server.http import html, openapi
from server.http.reply import Response
from server.http.route import Route
from server.services import SERVICES
from server.viewer import render


async def show(request: web.Request) -> Response:
    """Shows this API as an HTML page."""
    return html.html(_page(tuple(request.app[SERVICES].routes)), cache_control="no-cache")


@cache
def _page(routes: Sequence[Route]) -> str:
    return render.docs(openapi.document(routes, __version__))
