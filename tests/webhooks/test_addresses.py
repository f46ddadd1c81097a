"""Which addresses a webhook may connect to."""

import pytest

from server.webhooks.addresses import is_public, may_connect

INTERNAL = [
    *("127.0.0.1", "127.8.9.1", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "169.254.0.1", "100.64.0.1", "100.100.100.200", "192.0.0.192", "192.0.2.1", "198.18.0.1"),
    *("198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::127.0.0.1"),
    *("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
    *("2001:0:7f00:1::", "100::1"),
]


@pytest.mark.parametrize("address", INTERNAL)
def test_an_internal_address_is_not_public(address):
    assert not is_public(address) and not may_connect(address, [])


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "93.184.216.34",
        "168.63.129.17",
        "172.32.0.1",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "2606:4700::1111",
    ],
)
def test_an_address_of_the_internet_is_public(address):
    assert is_public(address) and may_connect(address, [])


@pytest.mark.parametrize(
    ("address", "allow", "allowed"),
    [
        ("10.1.2.3", ["10.1.0.0/16"], True),
        ("10.2.2.3", ["10.1.0.0/16"], False),
        ("10.1.2.3", ["10.1.2.3"], True),
        ("::ffff:10.1.2.3", ["10.1.2.3"], True),
        ("fd00::1", ["fd00::/8", "ci.internal"], True),
        ("fd00::1", ["10.0.0.0/8", "ci.internal"], False),
        ("127.0.0.1", ["ci.internal", "127.0.0.0/8"], True),
    ],
)
def test_networks_and_addresses_can_be_allowed(address, allow, allowed):
    assert may_connect(address, allow) == allowed
