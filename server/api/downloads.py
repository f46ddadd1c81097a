"""Downloads of artifacts."""

from uuid import UUID

from aiohttp import web
from msgspec import Struct

from server.http import files
from server.http.reply import Response
from server.reports import downloads
from server.services import CALL, SERVICES


class DownloadQuery(Struct):
    download: bool = False


async def show(request: web.Request, artifact_id: UUID, query: DownloadQuery) -> Response:
    """Downloads the bytes of an artifact, all or a range.

    Supports `Range`, `If-Range` and `If-None-Match`; the `ETag` is the SHA-256 of the file. `download=true` makes a
    browser save the file instead of showing it. 410 when the file is missing on the server.
    """
    services = request.app[SERVICES]
    stored = await downloads.of_artifact(services.pool, artifact_id, request[CALL].scope)
    return await files.reply(request, artifact_id, stored, services.config.artifacts.cache_control, query.download)
