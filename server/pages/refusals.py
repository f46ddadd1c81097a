"""What a browser gets instead of a page: the way to sign in, or the API's sentence in the layout of the pages."""

from urllib.parse import urlencode

from aiohttp import hdrs, web

from server.errors import ReportError, Unauthorized, WrongCredentials
from server.http import html, reply
from server.http.reply import Response
from server.viewer import render

SIGN_IN = "/sign-in"


def page(request: web.Request, error: ReportError) -> Response:
    """The reply for an error of a page. Without a session, the browser goes to the sign-in page, and then back."""
    if isinstance(error, Unauthorized) and not isinstance(error, WrongCredentials):
        # A form is sent to the address of its page.
        asked = request.path_qs if request.method in (hdrs.METH_GET, hdrs.METH_HEAD) else request.path
        return html.see_other(f"{SIGN_IN}?{urlencode({'next': asked})}")
    text = render.page("refused.html", frame=html.frame_of(request), status=error.status, error=error)
    return html.as_page(text, error.status, error.headers)


def unknown(request: web.Request, error: ReportError) -> Response:
    """The reply for an address without a route: a page for browsers, JSON for programs."""
    return page(request, error) if html.preferred(request) else reply.failure(request, error)
