"""Downloads: the bytes of an artifact."""

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
    """The bytes of an artifact, whole or a range."""
    services = request.app[SERVICES]
    stored = await downloads.of_artifact(services.pool, artifact_id, request[CALL].scope)
    return await files.reply(request, artifact_id, stored, services.config.artifacts.cache_control, query.download)
