"""Opens an evidence link: whoever has one may read what it is for, and that it was used is counted."""

import time

from aiohttp import web

from server.auth import links
from server.auth.links import Shared
from server.auth.roles import Role
from server.context import KEYS, POOL, SHARED, SQL, Caller
from server.errors import LinkNotFound

PURPOSE = "evidence_links"  # of the signing key
_ENDED = "This link is not valid, has expired or was revoked."


async def open_page(request: web.Request) -> Caller:
    """A reader of the link's project, whom `request[SHARED]` tells what the link shows. Raises LinkNotFound."""
    return await _open(request, 1, 0)


async def open_image(request: web.Request) -> Caller:
    """The same, counted as a download."""
    return await _open(request, 0, 1)


async def _open(request: web.Request, openings: int, downloads: int) -> Caller:
    """What was forged, cut or has expired is refused without the database."""
    text, pool = request.match_info["link"], request.app[POOL]
    if not links.well_formed(text):
        raise LinkNotFound(_ENDED)
    key = await request.app[KEYS].find(pool, PURPOSE)
    link_id = links.read(key, text, time.time()) if key else None
    if link_id is None:
        raise LinkNotFound(_ENDED)
    if request.method == "HEAD":  # a look that shows nothing
        openings = downloads = 0
    async with pool.acquire_for_links() as connection:
        row = await connection.fetchrow(request.app[SQL].links.open, link_id, openings, downloads)
    if row is None:
        raise LinkNotFound(_ENDED)
    project_id, thing_id, kind = row
    request[SHARED] = Shared(kind, thing_id, f"/shared/{text}")
    return Caller(link_id, f"link {link_id}", project_id, None, None, Role.VIEWER, "link")
