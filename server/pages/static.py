"""The style sheets, scripts and icons of the pages."""

from aiohttp import web

from server.errors import RouteNotFound
from server.http.reply import Response
from server.viewer import assets

# A worker has the policy of its own script: this one imports another script.
_SCRIPT = "default-src 'none'; script-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_FOR_GOOD = "public, max-age=31536000, immutable"


async def show(request: web.Request) -> Response:
    """Sends a style sheet, script or icon of the pages.

    Its address has a hash of its content, so clients may cache it for good.
    """
    asset = assets.by_file().get(request.match_info["file"])
    if asset is None:
        raise RouteNotFound()
    headers = {"Content-Type": f"{asset.media_type}; charset=utf-8", "Cache-Control": _FOR_GOOD}
    if asset.media_type == "text/javascript":
        headers["Content-Security-Policy"] = _SCRIPT
    return web.Response(body=asset.content, headers=headers)
