"""Keys that the server signs with, kept in the database: all servers of one take each other's signatures."""

import secrets
from types import SimpleNamespace

from server.db import Pool

_BYTES = 32


class Keys:
    """The keys by what they are for; each is asked for once, and made by whichever server needs it first."""

    def __init__(self, sql: SimpleNamespace) -> None:
        self._sql = sql
        self._known: dict[str, bytes] = {}

    async def of(self, pool: Pool, purpose: str) -> bytes:
        if purpose not in self._known:
            key = await pool.fetchval(self._sql.signing_keys.by_purpose, purpose)
            if key is None:
                await pool.execute(self._sql.signing_keys.make, purpose, secrets.token_bytes(_BYTES))
                key = await pool.fetchval(self._sql.signing_keys.by_purpose, purpose)
            self._known[purpose] = key
        return self._known[purpose]
