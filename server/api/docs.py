"""The API's own documentation: OpenAPI, and a page that people read, without internet."""

from functools import cache
from typing import Any

from aiohttp import web

from server import __version__
from server.http import openapi as openapi_document
from server.http import pages, reply
from server.http.openapi import ROUTE_TABLE
from server.http.reply import Response


async def openapi(request: web.Request) -> Response:
    """This API as OpenAPI 3.1."""
    return reply.raw(200, _document(request.app))


async def page(request: web.Request) -> Response:
    """This API as a page."""
    return pages.html(_page(request.app), cache_control="no-cache")


@cache
def _document(app: web.Application) -> bytes:
    return reply.encode(openapi_document.document(app[ROUTE_TABLE], __version__))


@cache
def _page(app: web.Application) -> str:
    document: dict[str, Any] = openapi_document.document(app[ROUTE_TABLE], __version__)
    return pages.templates("server.http", strict=False).get_template("docs.html").render(document=document)
