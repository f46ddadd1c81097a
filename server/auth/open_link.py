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
    pool: Pool, keys: SigningKeys, text: str, by_anyone: bool, openings: int = 0, downloads: int = 0
) -> tuple[Caller, Shared]:
    """A viewer of the link's project, and the link's target. Adds `openings` and `downloads` to the link's counts.
    `by_anyone`: whether links that were made without a token work.

    A forged, truncated or expired link is refused without reading its row. Raises LinkNotFound.
    """
    key = await keys.find(pool, PURPOSE) if evidence_links.well_formed(text) else None
    link_id = evidence_links.read(key, text, time.time()) if key else None
    if link_id is None:
        raise LinkNotFound(_ENDED)
    async with pool.acquire_for_links() if openings or downloads else pool.acquire() as connection:
        row = await connection.fetchrow(SQL.links.open, link_id, openings, downloads, by_anyone)
    if row is None:
        raise LinkNotFound(_ENDED)
    project_id, thing_id, kind = row
    caller = Caller(link_id, f"link {link_id}", project_id, None, None, Role.VIEWER, "link")
    return caller, Shared(kind, thing_id, f"/shared/{text}", evidence_links.ends(text))
