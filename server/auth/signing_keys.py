"""Signing keys, stored in the database: servers with the same database accept each other's signatures."""

import secrets

from server.database.pool import Pool
from server.database.queries import SQL

_BYTES = 32


class SigningKeys:
    """The signing keys by purpose. The first server that signs creates a key, and each server reads it once."""

    def __init__(self) -> None:
        self._known: dict[str, bytes] = {}

    async def find(self, pool: Pool, purpose: str) -> bytes | None:
        """The key for `purpose`; None when it has not been created yet."""
        if purpose not in self._known:
            key = await pool.fetchval(SQL.signing_keys.by_purpose, purpose)
            if key is None:
                return None
            self._known[purpose] = key
        return self._known[purpose]

    async def ensure(self, pool: Pool, purpose: str) -> bytes:
        """The key for `purpose`, created if necessary."""
        key = await self.find(pool, purpose)
        if key is None:
            await pool.execute(SQL.signing_keys.make, purpose, secrets.token_bytes(_BYTES))
            key = await self.find(pool, purpose)
        if key is None:
            raise LookupError(f"the signing key for {purpose} was deleted while it was created")
        return key
