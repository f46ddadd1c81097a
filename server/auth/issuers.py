"""Issuers of ID tokens: their discovery documents and keys, fetched when they are needed and kept for an hour."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from joserfc.jwk import KeySet
from msgspec import Struct, field

from server.auth import id_tokens
from server.errors import IssuerAway
from server.trust import is_secure

LOG = logging.getLogger("reportd")
T = TypeVar("T")

_FRESH_SECONDS = 3600.0
_ASK_AGAIN_SECONDS = 30.0  # for an unknown key: otherwise whoever invents key ids would make this server ask each time
_PAUSE_SECONDS = 5.0  # after a failure, in which nobody waits for an issuer that is away
_MAX_KEYS = 100

# fetch(address, fields, headers): status and body. `fields` None: GET, else a POSTed form. Raises IssuerAway.
Fetch = Callable[[str, Mapping[str, str] | None, Mapping[str, str]], Awaitable[tuple[int, bytes]]]


class Discovery(Struct):
    """What reportd reads of a discovery document (OpenID Connect Discovery 1.0, 3)."""

    issuer: str
    jwks_uri: str
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    userinfo_endpoint: str = ""
    token_endpoint_auth_methods_supported: list[str] = field(default_factory=lambda: ["client_secret_basic"])


class _JwkSet(Struct):
    keys: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Provider:
    """An issuer as it described itself at `fetched`, a time of the monotonic clock."""

    about: Discovery
    keys: KeySet
    fetched: float

    def has(self, key_id: str | None) -> bool:
        """Whether a token may be signed with this key. A token may name none if there is only one."""
        return len(self.keys.keys) == 1 if key_id is None else any(key.kid == key_id for key in self.keys)


class Issuer:
    """One issuer. Requests that need it at the same time share one look-up."""

    def __init__(self, address: str, fetch: Fetch) -> None:
        self.address = address
        self._fetch = fetch
        self._known: Provider | None = None
        self._look_up: asyncio.Task[Provider] | None = None
        self._failure: tuple[float, str] = (float("-inf"), "")

    async def provider(self, key_id: str | None = None, for_key: bool = False) -> Provider:
        """The issuer's description and keys. `for_key`: asked again if the key is not among them, since issuers rotate
        their keys. Raises IssuerAway."""
        known, now = self._known, time.monotonic()
        age = now - known.fetched if known is not None else _FRESH_SECONDS
        if (
            known is not None
            and age < _FRESH_SECONDS
            and (not for_key or known.has(key_id) or age < _ASK_AGAIN_SECONDS)
        ):
            return known
        failed, detail = self._failure
        if now - failed < _PAUSE_SECONDS:
            raise IssuerAway(detail)
        if self._look_up is None:
            self._look_up = asyncio.create_task(self._ask(), name=f"keys of {self.address}")
            self._look_up.add_done_callback(self._done)
        return await asyncio.shield(self._look_up)  # a client that leaves must not end the look-up of the others

    def _done(self, task: asyncio.Task[Provider]) -> None:
        self._look_up = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = (time.monotonic(), str(error))
            self.log(str(error))

    async def _ask(self) -> Provider:
        about = await self._read(f"{self.address.rstrip('/')}/.well-known/openid-configuration", Discovery)
        if about.issuer != self.address:
            raise self.away(f"its discovery document is that of {id_tokens.shown(about.issuer)}")
        for address in (about.jwks_uri, about.authorization_endpoint, about.token_endpoint, about.userinfo_endpoint):
            if address and not is_secure(address, self.address):
                raise self.away(
                    f"its discovery document names an address that is not https: {id_tokens.shown(address)}"
                )
        keys = id_tokens.key_set((await self._read(about.jwks_uri, _JwkSet)).keys[:_MAX_KEYS])
        self._known = Provider(about, keys, time.monotonic())
        return self._known

    async def _read(self, address: str, kind: type[T]) -> T:
        status, body = await self._fetch(address, None, {})
        if status != 200:
            raise self.away(f"{address} replied {status}")
        return self.decode(body, kind)

    def decode(self, body: bytes, kind: type[T]) -> T:
        """A reply of the issuer. Raises IssuerAway when it is not the JSON that the standard asks for."""
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise self.away(f"a reply is not as OpenID Connect asks for: {str(error)[:200]}") from None

    def log(self, text: str) -> None:
        """Tell the operator what is wrong with the issuer, or with the settings for it."""
        LOG.warning("the issuer %s: %s", self.address, text)

    def away(self, why: str) -> IssuerAway:
        """The error for an issuer that does not do what it should."""
        return IssuerAway(f"{self.address} cannot be asked right now: {why}. Try again in a moment.")


class Issuers:
    """The issuers that the configuration names. `fetch` asks them."""

    def __init__(self, addresses: set[str], fetch: Fetch) -> None:
        self.fetch = fetch
        self._by_address = {address: Issuer(address, fetch) for address in addresses}

    def get(self, address: str) -> Issuer | None:
        """The issuer with this address; None for one that the configuration does not name."""
        return self._by_address.get(address)
