"""Thumbnails of artifacts, for the pages: WebP, or a drawn placeholder. Never the image itself, which may be large."""

from uuid import UUID

from aiohttp import web

from server.errors import RouteNotFound
from server.http import files
from server.http.reply import Response
from server.reports import downloads
from server.reports.downloads import Stored
from server.services import CALL, SERVICES
from server.thumbs.thumbnails import HEIGHTS, Absent, Source
from server.viewer import placeholder

_A_YEAR = "private, max-age=31536000, immutable"
# A later version may be able to decode the image.
_A_WHILE = "private, max-age=600"
# Without this, caches could still show the content of a link that has been revoked.
_NO_STORE = "private, no-store"
_RETRY_SECONDS = 2


async def show(request: web.Request, artifact_id: UUID) -> Response:
    """Sends a thumbnail of an image, 320 or 960 pixels wide.

    It is made when it is first requested. A smaller image is not enlarged, and of a very high one the top is shown. As
    long as it is not ready, the reply is 202 with a drawing in its place and `Retry-After`. Files that are no images,
    and images that cannot be decoded or have more than 50 megapixels, have a drawing with the name of their format.
    """
    stored = await downloads.of_artifact(request.app[SERVICES].pool, artifact_id, request[CALL].scope)
    return await _reply(request, stored, _A_YEAR, _A_WHILE)


async def show_shared(request: web.Request, artifact_id: UUID) -> Response:
    """Sends a thumbnail of an image that an evidence link covers, or of the artifact that the link is for."""
    pool, link_id = request.app[SERVICES].pool, request[CALL].known_caller.id
    return await _reply(request, await downloads.of_link(pool, link_id, artifact_id), _NO_STORE, _NO_STORE)


async def _reply(request: web.Request, stored: Stored, cache_control: str, drawing_cache_control: str) -> Response:
    width = _width(request)
    if not placeholder.is_image(stored.mime_type):
        return _drawing(stored, width, "no image", drawing_cache_control)
    tag = f"{stored.checksum}-{width}"
    headers = {"Cache-Control": cache_control, "ETag": f'"{tag}"', "Vary": "Authorization, Cookie"}
    if files.not_modified(request.headers.get("If-None-Match"), tag):
        return web.Response(status=304, headers=headers)
    source = Source(stored.project_id, stored.storage_path, stored.file_size, stored.checksum)
    found = await request.app[SERVICES].thumbnails.of(source, width)
    if found is Absent.LATE:
        response = _drawing(stored, width, "preview in a moment", _NO_STORE)
        response.set_status(202)
        response.headers["Retry-After"] = str(_RETRY_SECONDS)
        return response
    if found is Absent.FAILED:
        return _drawing(stored, width, "no preview", drawing_cache_control)
    return web.Response(body=found, headers={**headers, "Content-Type": "image/webp"})


def _width(request: web.Request) -> int:
    """The width in the path. Raises RouteNotFound."""
    for width in HEIGHTS:
        if request.match_info["width"] == str(width):
            return width
    raise RouteNotFound()


def _drawing(stored: Stored, width: int, reason: str, cache_control: str) -> web.Response:
    headers = {"Content-Type": "image/svg+xml", "Cache-Control": cache_control, "Vary": "Authorization, Cookie"}
    return web.Response(body=placeholder.drawing(stored.mime_type, width, reason), headers=headers)
