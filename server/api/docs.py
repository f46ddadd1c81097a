"""The API's own documentation: OpenAPI, and a page that people read, without internet."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from aiohttp import web
from jinja2 import Environment

from server import __version__
from server.http import openapi as openapi_document
from server.http import reply
from server.http.openapi import ROUTE_TABLE
from server.http.reply import Response

_POLICY = "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


async def openapi(request: web.Request) -> Response:
    """This API as OpenAPI 3.1."""
    return reply.raw(200, _document(request.app))


async def page(request: web.Request) -> Response:
    """This API as a page."""
    text, policy = _page(request.app)
    return web.Response(
        body=text,
        headers={
            "Content-Type": "text/html; charset=utf-8",
            "Cache-Control": "no-cache",
            "Content-Security-Policy": policy,
        },
    )


@cache
def _document(app: web.Application) -> bytes:
    return reply.encode(openapi_document.document(app[ROUTE_TABLE], __version__))


@cache
def _page(app: web.Application) -> tuple[bytes, str]:
    """The page, and the policy that lets a browser use its one style sheet and nothing else."""
    source = files("server.http").joinpath("docs.html").read_text("utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    document: dict[str, Any] = openapi_document.document(app[ROUTE_TABLE], __version__)
    page = str(template.render(document=document))
    style = page.partition("<style>")[2].partition("</style>")[0]
    return page.encode(), _POLICY.format(b64encode(sha256(style.encode()).digest()).decode())
