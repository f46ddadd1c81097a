"""How many failed logins there may be, by account and address, and sessions of a token. Counted for all workers."""

import hashlib
import ipaddress
from typing import Any
from uuid import UUID

from server.database.pool import Pool
from server.database.queries import SQL
from server.errors import TooManyLogins

WINDOW_SECONDS = 900.0
# Tries that may fail at once; after that one every window / n. An account has so many more from all addresses together
# than from one that nobody at a single address can keep its owner out, and too few for a password to be guessed.
_OF_AN_ACCOUNT_FROM_AN_ADDRESS = 10
_OF_AN_ACCOUNT = 100
_OF_AN_ADDRESS = 60  # behind which there may be many people
_SESSIONS_OF_A_TOKEN = 600  # each for a browser; they need not fail to count


class Attempt:
    """A try to log in to `account`, which is written in one way only, from `address`.

    Whoever has no address, behind a unix socket whose proxy names none, is of one that all of those share.
    """

    def __init__(self, account: str, address: str) -> None:
        network = _network(address)
        self._pair = _key("pair", f"{network} {account}")
        self._shares = {
            self._pair: 1 / _OF_AN_ACCOUNT_FROM_AN_ADDRESS,
            _key("account", account): 1 / _OF_AN_ACCOUNT,
            _key("address", network): 1 / _OF_AN_ADDRESS,
        }

    async def admit(self, pool: Pool) -> None:
        """Counts it. Raises TooManyLogins, with Retry-After, where there were too many; that one is not counted."""
        async with pool.transaction() as connection:
            await _admit(connection, self._shares)

    async def forgive(self, where: Any) -> None:
        """It was right: the account's failures from there are forgotten. Others stay, or whoever has an account could
        wash off those of all that he tries."""
        shares = {**self._shares, self._pair: 1.0}
        await where.execute(SQL.logins.forgive, list(shares), list(shares.values()))


async def admit_session(connection: Any, token_id: UUID) -> None:
    """Counts one more session of a token, within a transaction. Raises TooManyLogins: each leaves rows behind."""
    await _admit(connection, {_key("token", str(token_id)): 1 / _SESSIONS_OF_A_TOKEN})


async def _admit(connection: Any, shares: dict[bytes, float]) -> None:
    admitted = await connection.fetch(SQL.logins.admit, list(shares), list(shares.values()), WINDOW_SECONDS)
    full = {key: share for key, share in shares.items() if key not in {row["key"] for row in admitted}}
    if full:
        raise TooManyLogins(await connection.fetchval(SQL.logins.wait, list(full), list(full.values()), WINDOW_SECONDS))


def _key(kind: str, text: str) -> bytes:
    return hashlib.sha256(f"{kind} {text}".encode("utf-8", "surrogateescape")).digest()


def _network(address: str) -> str:
    """Of IPv6 the network that one customer has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{found}/64", strict=False)) if found.version == 6 else address
