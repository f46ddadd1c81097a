"""Archives: a run as one file."""

import re
from uuid import UUID

from aiohttp import web

from server.archive.export import Export
from server.http.files import disposition
from server.http.reply import InPortions, Response
from server.reports import archives
from server.services import CALL, SERVICES


async def show(request: web.Request, suite_id: UUID) -> Response:
    """Downloads a run as a zip: its data, files and pages, which open without a server.

    `index.html` is the run, `data/` has it as JSON, `files/` each file once by its SHA-256, and `MANIFEST.sha256` the
    SHA-256 of everything (`sha256sum --check`). A file that the server has lost is named there. The zip is made while
    it is sent, so its length is not known before; if it cannot be completed, the connection is reset. `reportd import`
    reads it into another server.
    """
    reads = request[CALL].reads
    async with reads.acquire() as connection:
        run = await archives.run(connection, suite_id, request[CALL].scope)
    export = Export(reads, request.app[SERVICES].storage, run)
    parts = export.parts()
    headers = {
        "Content-Type": "application/zip",
        "Content-Disposition": disposition(f"{_stem(run.name)}-{suite_id}.zip", attachment=True),
        "Cache-Control": "private, no-store",
    }
    return InPortions(headers, await anext(parts), parts, export.held)


def _stem(name: str) -> str:
    """The name of a run as the beginning of a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "run"
