"""The client's address, scheme and host, directly or through trusted proxies; and refusal of ambiguous requests."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from server.config import UNIX, ServerConfig
from server.errors import HostNotServed, MalformedRequest
from server.http import cors

LOG = logging.getLogger("reportd")

_FOR, _PROTO, _HOST = "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"
_MAX_HOPS = 20  # entries of X-Forwarded-For that are read, from its end; no chain of trusted proxies is longer
_MAX_ADDRESS_LENGTH = 64  # characters; no IP address is longer
_CACHED_ADDRESSES = 4096
_MAX_WARNINGS = 10  # of a process
# RFC 9110, 7.2: a name or an address, with an optional port.
_VALID_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.~%!$&'()*+,;=-]*)(?::[0-9]{0,5})?", re.ASCII)
# The absolute form of a request target (RFC 9112, 3.2.2), without user information (RFC 9110, 4.2.4).
_ABSOLUTE_TARGET = re.compile(r"https?://[^/?#@]+(?:[/?#]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Origin:
    """The client's address, whether the client uses TLS, and the host that it requested.

    `remote` is empty on a unix socket, unless a trusted proxy forwards an address.
    """

    remote: str
    secure: bool
    host: str


class Origins:
    """Reads the X-Forwarded-* headers of trusted proxies, and ignores those of all other peers."""

    def __init__(self, config: ServerConfig) -> None:
        self._unix = UNIX in config.trusted_proxies
        self._networks = [ip_network(text) for text in config.trusted_proxies if text != UNIX]
        self._hosts = {host.lower() for host in config.allowed_hosts}
        self._warned: set[str] = set()
        # Cached, since parsing an address takes 10 µs.
        self._classify: Callable[[str], tuple[str, bool]] = lru_cache(_CACHED_ADDRESSES)(self._parse)

    def of(self, request: web.Request) -> Origin:
        """The origin of a request: from its connection and, when the peer is trusted, its X-Forwarded-* headers."""
        headers, peer = request.headers, request.remote or ""
        address, trusted = self._classify(peer) if peer else ("", self._unix)
        # request.host only for absolute targets: without a Host header, aiohttp puts the server's own address there.
        is_absolute = not request.raw_path.startswith(("/", "*"))
        requested_host = request.host if is_absolute else headers.get(hdrs.HOST, "")
        origin = Origin(address, request.secure, requested_host)
        if _FOR not in headers and _PROTO not in headers and _HOST not in headers:
            return origin
        if not trusted:
            if _FOR in headers:
                self._warn(address)
            return origin
        proto, host = _last_value(headers.getall(_PROTO, [])), _last_value(headers.getall(_HOST, []))
        secure = proto.lower() == "https" if proto else origin.secure
        return Origin(self._client(address, headers.getall(_FOR, [])), secure, host or origin.host)

    def _warn(self, peer: str) -> None:
        """Log each peer once, and few of them: every client can send the header."""
        if peer in self._warned or len(self._warned) >= _MAX_WARNINGS:
            return
        self._warned.add(peer)
        LOG.warning(
            "%s sent X-Forwarded-For, which is ignored: [server] trusted_proxies does not list %s. If this is your "
            "proxy, add it there. Otherwise all people behind it count as one address, and 60 failed logins of a few "
            "lock out all of them",
            *((peer, "it") if peer else ("A client on a unix socket", f"{UNIX!r}")),
        )

    def check_host(self, origin: Origin) -> None:
        """Raises HostNotServed unless the host is in `allowed_hosts`. An empty list allows all."""
        if self._hosts and _host_name(origin.host) not in self._hosts:
            raise HostNotServed()

    def _client(self, peer: str, lines: list[str]) -> str:
        """The last address that is not a trusted proxy's. A client can forge every entry before it."""
        found = peer
        for hop in reversed(",".join(lines).rsplit(",", _MAX_HOPS)):
            address, trusted = self._classify(hop.strip()[:_MAX_ADDRESS_LENGTH])
            if address:
                found = address
            if not trusted:
                break
        return found

    def _parse(self, text: str) -> tuple[str, bool]:
        """The address in canonical form, empty when invalid; and whether it is a trusted proxy's."""
        address = _address(text)
        if address is None:
            return "", False
        return str(address), any(address in network for network in self._networks)


def check_head(request: web.Request) -> None:
    """Raises MalformedRequest for a request that aiohttp and a proxy may parse differently (request smuggling)."""
    version, headers = request.version, request.headers
    if version not in (HttpVersion11, HttpVersion10):
        raise MalformedRequest()
    if hdrs.TRANSFER_ENCODING in headers and (
        headers[hdrs.TRANSFER_ENCODING].lower() != "chunked"
        or hdrs.CONTENT_LENGTH in headers
        or version == HttpVersion10
    ):
        raise MalformedRequest()
    if not _VALID_HOST.fullmatch(headers.get(hdrs.HOST, "")):
        raise MalformedRequest()
    target = request.raw_path
    if not target.startswith("/") and "://" in target and not _ABSOLUTE_TARGET.match(target):
        raise MalformedRequest()


def is_cross_site(request: web.Request, host: str) -> bool:
    """Whether a page of another site made a browser send this request. `host` is the requested host. Origins that
    are allowed count as this site.

    Sec-Fetch-Site decides (https://www.w3.org/TR/fetch-metadata/). Browsers omit it without TLS, and browsers from
    before 2023 never send it. Then Origin decides: browsers send it with every request that may change data. Programs
    send neither header.
    """
    if cors.is_allowed(request):
        return False
    if (site := request.headers.get("Sec-Fetch-Site")) is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get(hdrs.ORIGIN)
    # Compared without ports: a proxy may forward a Host header that lacks its port.
    return origin is not None and _host_name(origin.partition("://")[2]) != _host_name(host)


def _last_value(lines: list[str]) -> str:
    """The last value of a list header, which the nearest proxy has set; empty without the header."""
    return lines[-1].rpartition(",")[2].strip() if lines else ""


def _host_name(host: str) -> str:
    """A host without its port, in lower case; empty when invalid."""
    match = _VALID_HOST.fullmatch(host)
    return match[1].lower() if match else ""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The IP address without port and zone, IPv4-mapped IPv6 as IPv4; None when invalid."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
