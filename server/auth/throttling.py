"""Limits on failed logins and exchanges, by account and address, and on what a token or a CI job may start. Shared by
all workers."""

import hashlib
import ipaddress
from typing import Any
from uuid import UUID

from server.database.pool import Pool
from server.database.queries import SQL
from server.errors import TooManyLogins

WINDOW_SECONDS = 900.0
# Leaky buckets: n failed attempts in a burst, then one more every WINDOW_SECONDS / n. An account allows more attempts
# from all addresses together than from one address: nobody at a single address can lock its owner out. 100 attempts
# are still too few to guess a password.
_OF_AN_ACCOUNT_FROM_AN_ADDRESS = 10
_OF_AN_ACCOUNT = 100
_OF_AN_ADDRESS = 60  # many people may share one
_SESSIONS_OF_A_TOKEN = 600  # each adds rows, so successful ones count, too
_EXCHANGES_OF_A_SUBJECT = 600  # likewise; the jobs of one branch are one subject


class Attempt:
    """One login attempt for `account`, in its normalized form, from `address`. `account` None: an ID token is sent.
    Then only the address counts: for an account, everybody could use up the attempts of those who have one.

    Clients without an address share one bucket: those behind a unix socket whose proxy does not send their address.
    """

    def __init__(self, account: str | None, address: str) -> None:
        network = _network(address)
        self._shares = {_key("address", network): 1 / _OF_AN_ADDRESS}
        self._forgiven = dict(self._shares)
        if account is not None:
            pair, whole = _key("pair", f"{network} {account}"), _key("account", account)
            self._shares |= {pair: 1 / _OF_AN_ACCOUNT_FROM_AN_ADDRESS, whole: 1 / _OF_AN_ACCOUNT}
            self._forgiven |= {pair: 1.0, whole: 1 / _OF_AN_ACCOUNT}

    async def admit(self, pool: Pool) -> None:
        """Count the attempt. Above a limit, raise TooManyLogins with Retry-After; such an attempt is not counted."""
        async with pool.transaction() as connection:
            await _admit(connection, self._shares)

    async def forgive(self, where: Any) -> None:
        """Undo the count after a successful login, and reset the account's failures from this address.

        The address's other failures stay. Otherwise an attacker with an account of their own could reset them.
        """
        await where.execute(SQL.logins.forgive, list(self._forgiven), list(self._forgiven.values()))


async def admit_session(connection: Any, token_id: UUID) -> None:
    """Count one more session of a token, in the caller's transaction. Raises TooManyLogins."""
    await _admit(connection, {_key("token", str(token_id)): 1 / _SESSIONS_OF_A_TOKEN})


async def admit_exchange(connection: Any, subject: bytes) -> None:
    """Count one more exchange of a CI subject, in the caller's transaction. Raises TooManyLogins."""
    await _admit(connection, {_key("subject", subject.hex()): 1 / _EXCHANGES_OF_A_SUBJECT})


async def _admit(connection: Any, shares: dict[bytes, float]) -> None:
    admitted = await connection.fetch(SQL.logins.admit, list(shares), list(shares.values()), WINDOW_SECONDS)
    full = {key: share for key, share in shares.items() if key not in {row["key"] for row in admitted}}
    if full:
        raise TooManyLogins(await connection.fetchval(SQL.logins.wait, list(full), list(full.values()), WINDOW_SECONDS))


def _key(kind: str, text: str) -> bytes:
    return hashlib.sha256(f"{kind} {text}".encode("utf-8", "surrogateescape")).digest()


def _network(address: str) -> str:
    """The address; for IPv6 its /64 network, which usually belongs to one customer."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{found}/64", strict=False)) if found.version == 6 else address
