"""The API's own documentation: OpenAPI, and a page that people read, without internet."""

from functools import cache
from importlib.resources import files
from typing import Any

from aiohttp import web
from jinja2 import Environment

from server import __version__
from server.http import openapi as openapi_document
from server.http import reply
from server.http.openapi import ROUTE_TABLE
from server.http.reply import Response

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


async def openapi(request: web.Request) -> Response:
    """This API as OpenAPI 3.1."""
    return reply.raw(200, _document(request.app))


async def page(request: web.Request) -> Response:
    """This API as a page."""
    return web.Response(
        body=_page(request.app),
        headers={
            "Content-Type": "text/html; charset=utf-8",
            "Cache-Control": "no-cache",
            "Content-Security-Policy": _POLICY,
        },
    )


@cache
def _document(app: web.Application) -> bytes:
    return reply.encode(openapi_document.document(app[ROUTE_TABLE], __version__))


@cache
def _page(app: web.Application) -> bytes:
    source = files("server.http").joinpath("docs.html").read_text("utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    document: dict[str, Any] = openapi_document.document(app[ROUTE_TABLE], __version__)
    return str(template.render(document=document)).encode()
