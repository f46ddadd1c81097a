"""Keys that the server signs with, kept in the database: all servers of one take each other's signatures."""

import secrets

from server.database.pool import Pool
from server.database.queries import SQL

_BYTES = 32


class SigningKeys:
    """The keys by what they are for; each is fetched once, and made by whichever server signs first."""

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    async def find(self, pool: Pool, purpose: str) -> bytes | None:
        """The key; None when nothing was ever signed with one."""
        if purpose not in self._known:
            key = await pool.fetchval(SQL.signing_keys.by_purpose, purpose)
            if key is None:
                return None
            self._known[purpose] = key
        return self._known[purpose]

    async def ensure(self, pool: Pool, purpose: str) -> bytes:
        """The key, made if need be."""
        key = await self.find(pool, purpose)
        if key is None:
            await pool.execute(SQL.signing_keys.make, purpose, secrets.token_bytes(_BYTES))
            key = await self.find(pool, purpose)
        if key is None:
            raise LookupError(f"the key for {purpose} was removed while it was made")
        return key
