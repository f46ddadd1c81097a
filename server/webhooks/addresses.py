"""Which addresses a webhook may connect to: public ones, and those that its `allow` names.

Without this, whoever can change what a host name resolves to could make the server send requests to services that
trust its network: to itself, to machines behind the firewall, to the metadata service of a cloud.
"""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

# Public addresses by their number, but services of the network they are reached from.
_INTERNAL = [
    ip_network("168.63.129.16/32"),  # Azure: DNS, DHCP and keys of the machine
    ip_network("192.0.0.0/24"),  # IETF; Oracle Cloud has its metadata there
]
# IPv6 addresses that routers translate to IPv4 ones: NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380).
_NAT64 = ip_network("64:ff9b::/96")
_TUNNELS = [ip_network(text) for text in ("64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")]


def may_connect(address: str, allow: Iterable[str]) -> bool:
    """Whether it is a public address, or in one of the networks of `allow`."""
    found = _plain(address)
    return is_public(address) or any(_is_in(found, each) for each in allow)


def is_public(address: str) -> bool:
    """Whether it is an address of the internet: not of this machine, a private network, a link, or a group.

    IPv4 addresses within IPv6 ones (::ffff:127.0.0.1) count as what they are.
    """
    found = _plain(address)
    if isinstance(found, IPv6Address):
        if found in _NAT64:
            return is_public(str(IPv4Address(found.packed[-4:])))
        if found.is_site_local or any(found in network for network in _TUNNELS):
            return False
    special = found.is_private or found.is_multicast or found.is_reserved or found.is_loopback or found.is_link_local
    return found.is_global and not special and not any(found in network for network in _INTERNAL)


def _plain(address: str) -> IPv4Address | IPv6Address:
    found = ip_address(address.partition("%")[0])
    return (isinstance(found, IPv6Address) and found.ipv4_mapped) or found


def _is_in(address: IPv4Address | IPv6Address, text: str) -> bool:
    try:
        return address in ip_network(text)
    except ValueError:  # a host name
        return False
