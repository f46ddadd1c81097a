"""Help: keys, marks and how they are computed, times, and the theme."""

from functools import partial
from typing import Literal

from aiohttp import web
from msgspec import Struct

from server.compare import marks
from server.errors import CrossSite
from server.http import html
from server.http.origin import is_cross_site
from server.http.reply import Response
from server.services import CALL
from server.viewer import render

_A_YEAR = 31_536_000  # seconds


class Theme(Struct):
    """The field of the form: `auto` follows the operating system."""

    theme: Literal["auto", "light", "dark"]


async def show(request: web.Request) -> Response:
    """What the pages show, and how marks are computed."""
    return await html.page(request, partial(render.page, "help.html", rules=marks))


async def set_theme(request: web.Request, form: Theme) -> Response:
    """Sets the theme of this browser, also without scripts."""
    if is_cross_site(request, request[CALL].host):
        raise CrossSite()
    response = html.see_other("/help#theme")
    if form.theme == "auto":
        response.del_cookie(html.THEME_COOKIE, path="/", samesite="Lax")
    else:
        secure = request[CALL].secure
        response.set_cookie(
            html.THEME_COOKIE, form.theme, max_age=_A_YEAR, path="/", samesite="Lax", secure=secure, httponly=True
        )
    return response
