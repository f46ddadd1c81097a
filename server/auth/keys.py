"""Keys that the server signs with, kept in the database: all servers of one take each other's signatures."""

import secrets
from types import SimpleNamespace

from server.db import Pool

_BYTES = 32


class Keys:
    """The keys by what they are for; each is asked for once, and made by whichever server signs first."""

    def __init__(self, sql: SimpleNamespace) -> None:
        self._sql = sql
        self._known: dict[str, bytes] = {}

    async def find(self, pool: Pool, purpose: str) -> bytes | None:
        """The key; None when nothing was ever signed with one."""
        if purpose not in self._known:
            key = await pool.fetchval(self._sql.signing_keys.by_purpose, purpose)
            if key is None:
                return None
            self._known[purpose] = key
        return self._known[purpose]

    async def ensure(self, pool: Pool, purpose: str) -> bytes:
        """The key, made if need be."""
        key = await self.find(pool, purpose)
        if key is None:
            await pool.execute(self._sql.signing_keys.make, purpose, secrets.token_bytes(_BYTES))
            key = await self.find(pool, purpose)
        if key is None:
            raise LookupError(f"the key for {purpose} was removed while it was made")
        return key
