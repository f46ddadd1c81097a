"""Asks issuers of ID tokens over HTTP, with bounds on the time and on the size of a reply."""

from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from server.errors import IssuerAway

_SECONDS = 5.0  # for a whole reply; a sign-in waits for four at most
_MAX_BYTES = 1 << 20  # decompressed; the keys of a large issuer have 20 KB
_CHUNK = 64 << 10


class Fetcher:
    """An HTTP client that follows no redirects: the addresses that are asked are those that the configuration and the
    issuer name, and no others."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def fetch(
        self, address: str, fields: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        """Status and body of a reply: to a GET, or to a POST of a form with these fields. Raises IssuerAway."""
        method = "GET" if fields is None else "POST"
        asked = {"Accept": "application/json", **headers}
        try:
            async with self._started().request(
                method, address, data=fields, headers=asked, allow_redirects=False, proxy=_proxy(address)
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK):
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        raise IssuerAway(f"{address} cannot be used: its reply is larger than {_MAX_BYTES} bytes.")
                return response.status, bytes(body)
        except TimeoutError as error:
            raise IssuerAway(f"{address} has not replied within {_SECONDS:g} s. Try again in a moment.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise IssuerAway(f"{address} cannot be reached right now. Try again in a moment.") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _started(self) -> aiohttp.ClientSession:
        # Made at the first request: few servers have issuers, and it needs the event loop of the server.
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_SECONDS)
            jar = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=jar)
        return self._session


def _proxy(address: str) -> str | None:
    """The proxy of the environment for an address. aiohttp's trust_env would also send credentials of ~/.netrc, and
    raise an error for a request that has its own."""
    parts = urlsplit(address)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
