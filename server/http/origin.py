"""Where a request comes from and whom it is for, also behind proxies; and heads that HTTP/1.1 does not allow."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from server.config import UNIX, ServerConfig
from server.errors import HostNotServed, MalformedRequest

_FOR, _PROTO, _HOST = "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"
_HOPS = 20  # of X-Forwarded-For, from its end; no chain of trusted proxies is longer
_LONGEST = 64  # no address has more characters
_ADDRESSES = 4096
# RFC 9110, 7.2: a name or an address, and perhaps a port.
_VALID_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.~%!$&'()*+,;=-]*)(?::[0-9]{0,5})?", re.ASCII)
# A target with its scheme and its host; one with a user is not for HTTP (RFC 9110, 4.2.4).
_WHOLE_TARGET = re.compile(r"https?://[^/?#@]+(?:[/?#]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Origin:
    """The client's address (empty behind a unix socket), whether it speaks TLS, and the host that it asked for."""

    remote: str
    secure: bool
    host: str


class Origins:
    """Believes the headers of trusted proxies, and of nobody else."""

    def __init__(self, config: ServerConfig) -> None:
        self._unix = UNIX in config.trusted_proxies
        self._networks = [ip_network(text) for text in config.trusted_proxies if text != UNIX]
        self._hosts = {host.lower() for host in config.allowed_hosts}
        # Reading an address takes 10 µs.
        self._known: Callable[[str], tuple[str, bool]] = lru_cache(_ADDRESSES)(self._look_up)

    def of(self, request: web.Request) -> Origin:
        """The origin of a request, with what its proxy says of it."""
        headers, peer = request.headers, request.remote or ""
        address, trusted = self._known(peer) if peer else ("", self._unix)
        # Not request.host for the usual target: without a Host header, that would ask the DNS, and wait for it.
        whole_target = not request.raw_path.startswith(("/", "*"))
        asked = request.host if whole_target else headers.get(hdrs.HOST, "")
        origin = Origin(address, request.secure, asked)
        if _FOR not in headers and _PROTO not in headers and _HOST not in headers:
            return origin
        if not trusted:
            return origin
        proto, host = _last(headers.getall(_PROTO, [])), _last(headers.getall(_HOST, []))
        secure = proto.lower() == "https" if proto else origin.secure
        return Origin(self._client(address, headers.getall(_FOR, [])), secure, host or origin.host)

    def check_host(self, origin: Origin) -> None:
        """Raises HostNotServed for a host that is not among the allowed ones."""
        if self._hosts and _name_of(origin.host) not in self._hosts:
            raise HostNotServed()

    def _client(self, peer: str, lines: list[str]) -> str:
        """The nearest hop that is no trusted proxy; what stands before it, anybody may have written."""
        found = peer
        for hop in reversed(",".join(lines).rsplit(",", _HOPS)):
            address, trusted = self._known(hop.strip()[:_LONGEST])
            if address:
                found = address
            if not trusted:
                break
        return found

    def _look_up(self, text: str) -> tuple[str, bool]:
        """An address as it is usually written, empty if it is none, and whether it is a trusted proxy's."""
        address = _address(text)
        if address is None:
            return "", False
        return str(address), any(address in network for network in self._networks)


def check_head(request: web.Request) -> None:
    """Raises MalformedRequest for a head that the parser lets pass, and that a proxy may read in another way."""
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
    if not target.startswith("/") and "://" in target and not _WHOLE_TARGET.match(target):
        raise MalformedRequest()


def is_cross_site(request: web.Request, host: str) -> bool:
    """Whether a page of another site made a browser send this, to a server that was asked for by `host`.

    Browsers say so (Fetch Metadata, https://www.w3.org/TR/fetch-metadata/), but not without TLS, and those from before
    2023 not at all: they name the page's origin in a request that may change something. Programs say neither.
    """
    if (site := request.headers.get("Sec-Fetch-Site")) is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get(hdrs.ORIGIN)
    # Without ports: a proxy may leave its own out of the Host that it passes on.
    return origin is not None and _name_of(origin.partition("://")[2]) != _name_of(host)


def _last(lines: list[str]) -> str:
    """What the nearest proxy says."""
    return lines[-1].rpartition(",")[2].strip() if lines else ""


def _name_of(host: str) -> str:
    """A host without its port, in lower case."""
    match = _VALID_HOST.fullmatch(host)
    return match[1].lower() if match else ""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An IP address, also one with a port or a zone, but without them; IPv4 within IPv6 as IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
