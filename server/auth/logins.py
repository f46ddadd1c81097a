"""How many failed logins there may be, by account and by address. Kept in the database: it holds for all workers."""

import hashlib
import ipaddress
from types import SimpleNamespace

from server.db import Pool, transaction
from server.errors import TooManyLogins

WINDOW_SECONDS = 900.0
_OF_AN_ACCOUNT = 10  # tries that fail at once; after that one every window / 10
_OF_AN_ADDRESS = 60  # behind which there may be many people


class Attempt:
    """A try to log in to `account` (the same for each spelling of a name) from `address` (empty where it has none)."""

    def __init__(self, account: str, address: str) -> None:
        self._shares = {_key("account", account): 1 / _OF_AN_ACCOUNT}
        if address:
            self._shares[_key("address", _network(address))] = 1 / _OF_AN_ADDRESS

    async def admit(self, pool: Pool, sql: SimpleNamespace) -> None:
        """Counts it. Raises TooManyLogins, with Retry-After, where there were too many; that one is not counted."""
        keys, shares = list(self._shares), list(self._shares.values())
        async with transaction(pool) as connection:
            admitted = await connection.fetch(sql.logins.admit, keys, shares, WINDOW_SECONDS)
            if len(admitted) < len(keys):
                seconds = await connection.fetchval(sql.logins.wait, keys, shares, WINDOW_SECONDS)
                raise TooManyLogins(seconds)

    async def forgive(self, pool: Pool, sql: SimpleNamespace) -> None:
        """It was right: the account's failures are forgotten, the address's stay, or whoever has an account could
        wash off those of all that he tries."""
        (account, _), *address = self._shares.items()
        taken_back = {account: 1.0, **dict(address)}
        await pool.execute(sql.logins.forgive, list(taken_back), list(taken_back.values()))

    async def take_back(self, pool: Pool, sql: SimpleNamespace) -> None:
        """It was none: neither right nor wrong."""
        await pool.execute(sql.logins.forgive, list(self._shares), list(self._shares.values()))


def _key(kind: str, text: str) -> bytes:
    return hashlib.sha256(f"{kind} {text}".encode("utf-8", "surrogateescape")).digest()


def _network(address: str) -> str:
    """Of IPv6 the network that one customer has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{found}/64", strict=False)) if found.version == 6 else address
