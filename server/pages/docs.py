"""The API documentation: Swagger UI on the OpenAPI document, with all of its files served by this server."""

import asyncio
from collections.abc import Sequence
from functools import cache

from aiohttp import web

from server import __version__
from server.errors import RouteNotFound
from server.http import html, openapi
from server.http.reply import Response
from server.http.route import Route
from server.services import SERVICES
from server.viewer import assets, render

# Scripts and styles only as files of this server, which no upload can be: downloads are never of a script's type.
# `data:` is for the icons in Swagger UI's style sheet, `connect-src` for openapi.json and for trying calls.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FOR_GOOD = "public, max-age=31536000, immutable"


async def show(request: web.Request) -> Response:
    """Shows this API as an HTML page, on which calls can be tried."""
    # In a thread: making the OpenAPI document takes 100 ms, once.
    page = await asyncio.to_thread(_page, tuple(request.app[SERVICES].routes))
    return html.html(page, cache_control="no-cache", headers={"Content-Security-Policy": _POLICY})


async def show_file(request: web.Request) -> Response:
    """Sends a style sheet or script of the documentation page.

    Its address has a hash of its content, so clients may cache it for good.
    """
    asset = assets.by_file().get(request.match_info["file"])
    if asset is None:
        raise RouteNotFound()
    headers = {"Content-Type": f"{asset.media_type}; charset=utf-8", "Cache-Control": _FOR_GOOD}
    return web.Response(body=asset.content, headers=headers)


@cache
def _page(routes: Sequence[Route]) -> str:
    return render.docs(openapi.document(routes, __version__))
