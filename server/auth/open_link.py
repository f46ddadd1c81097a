"""Opens an evidence link: its bearer may read the target of the link, and each use is counted."""

import time

from server.auth import evidence_links
from server.auth.callers import Caller
from server.auth.evidence_links import Shared
from server.auth.roles import Role
from server.auth.signing_keys import SigningKeys
from server.database.pool import Pool
from server.database.queries import SQL
from server.errors import LinkNotFound

PURPOSE = "evidence_links"  # names the signing key
_ENDED = "This link is not valid, has expired or was revoked."


async def open_link(
    pool: Pool, keys: SigningKeys, text: str, openings: int = 0, downloads: int = 0
) -> tuple[Caller, Shared]:
    """A viewer of the link's project, and the link's target. Adds `openings` and `downloads` to the link's counts.

    A forged, truncated or expired link is refused without reading its row. Raises LinkNotFound.
    """
    key = await keys.find(pool, PURPOSE) if evidence_links.well_formed(text) else None
    link_id = evidence_links.read(key, text, time.time()) if key else None
    if link_id is None:
        raise LinkNotFound(_ENDED)
    if openings or downloads:
        async with pool.acquire_for_links() as connection:
            row = await connection.fetchrow(SQL.links.open, link_id, openings, downloads)
    else:
        row = await pool.fetchrow(SQL.links.find, link_id)
    if row is None:
        raise LinkNotFound(_ENDED)
    project_id, thing_id, kind = row
    caller = Caller(link_id, f"link {link_id}", project_id, None, None, Role.VIEWER, "link")
    return caller, Shared(kind, thing_id, f"/shared/{text}")
