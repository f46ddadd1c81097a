"""Downloads: the bytes of an artifact."""

from functools import partial
from typing import Any
from uuid import UUID

from aiohttp import web
from msgspec import Struct
from prometheus_client import Counter

from server.context import CALLER, CONFIG, LOG, POOL, SQL, STORAGE
from server.errors import ArtifactNotFound, ContentMissing
from server.http import files
from server.http.files import Span
from server.http.reply import Response
from server.uploads.paths import leads_out

MISSING = Counter("reportd_content_missing", "Downloads of artifacts whose file is missing or short")


class DownloadQuery(Struct):
    download: bool = False


async def show(request: web.Request, artifact_id: UUID, query: DownloadQuery) -> Response:
    """The bytes of an artifact, whole or a range."""
    row = await request.app[POOL].fetchrow(
        request.app[SQL].artifacts.for_download, artifact_id, request[CALLER].project_id
    )
    return await send(request, artifact_id, row, request.app[CONFIG].artifacts.cache_control, query.download)


async def send(request: web.Request, artifact_id: UUID, row: Any, cache_control: str, attachment: bool) -> Response:
    """The bytes of the artifact whose columns `row` has; without one, ArtifactNotFound is raised."""
    if row is None:
        raise ArtifactNotFound()
    storage_path, file_name, size, mime_type, checksum = row
    headers = files.headers_of(file_name, mime_type, checksum, cache_control, attachment)
    if files.not_modified(request.headers.get("If-None-Match"), checksum):
        return web.Response(status=304, headers=headers)
    span = files.span_of(request.headers.get("Range"), request.headers.get("If-Range"), checksum, size)
    prefix = request.app[CONFIG].artifacts.accel_redirect
    if prefix and not leads_out(storage_path) and not files.ours_to_send(request):
        return files.handed_over(headers, prefix + storage_path)
    part = span or Span(0, size)
    read = partial(request.app[STORAGE].read, storage_path, size)
    first = await read(part.start, 0 if request.method == "HEAD" else min(part.count, files.CHUNK))
    if first is None:
        MISSING.inc()
        LOG.error("artifact %s: the file is missing or not %d bytes long", artifact_id, size)
        raise ContentMissing()
    if span is not None:
        headers["Content-Range"] = f"bytes {span.start}-{span.start + span.count - 1}/{size}"
    status = 200 if span is None else 206
    if len(first) == part.count:
        return web.Response(status=status, headers=headers, body=first)
    response = web.StreamResponse(status=status, headers=headers)
    await files.send(request, response, part, first, read)
    return response
