"""The client address, scheme and host of a request: X-Forwarded-* headers count only from trusted proxies."""

import asyncio
import re
from types import SimpleNamespace

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from server.app import create_app
from server.config import ServerConfig
from server.http.origin import Origin, Origins
from server.http.protocol import Runner
from tests.observe.test_log import requests as requests  # a fixture

RUNS = "/api/v1/reports/suite-runs"
TRUSTED = ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8", "unix"]


def origin(peer="10.0.0.1", trusted=TRUSTED, secure=False, host="x", **headers):
    """The Origin of a request from this peer. `headers` are named without their prefix X-Forwarded-."""
    lines = CIMultiDict({"Host": host})
    for name, values in headers.items():
        for value in [values] if isinstance(values, str) else values:
            lines.add(f"X-Forwarded-{name}", value)
    request = SimpleNamespace(headers=lines, remote=peer, secure=secure, raw_path="/", host=host)
    return Origins(ServerConfig(trusted_proxies=trusted)).of(request)


@pytest.mark.parametrize(
    ("hops", "remote"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("198.51.100.9, 192.0.2.1", "192.0.2.1"),  # the client may have sent the entries before it
        ("10.9.9.9, 192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("192.0.2.1,10.0.0.2 ,  10.0.0.3", "192.0.2.1"),
        (["198.51.100.9", "192.0.2.1", "10.0.0.2"], "192.0.2.1"),
        ("10.0.0.5, 10.0.0.2", "10.0.0.5"),
        ("192.0.2.1:5678", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:5678, fd00::2", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, ::ffff:10.0.0.2", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%\x1b[2J", "fe80::1"),
        ("192.0.2.1, nonsense", "10.0.0.1"),
        ("192.0.2.1, nonsense, 10.0.0.2", "10.0.0.2"),
        ("192.0.2.1, unknown", "10.0.0.1"),
        ("192.0.2.1,", "10.0.0.1"),
        ("192.0.2.1\x1b[2J", "10.0.0.1"),
        ("", "10.0.0.1"),
        ("192.0.2.1, " + "10.0.0.2, " * 5000 + "10.0.0.3", "10.0.0.2"),
    ],
)
def test_the_client_is_the_nearest_hop_that_is_no_trusted_proxy(hops, remote):
    assert origin(For=hops).remote == remote


@pytest.mark.parametrize("peer", ["192.0.2.7", "11.0.0.1", "::1", "2001:db8::7"])
def test_forwarded_headers_of_untrusted_peers_are_ignored(peer):
    assert origin(peer, For="192.0.2.1", Proto="https", Host="other") == Origin(peer, False, "x")
    assert origin(peer, trusted=[], For="192.0.2.1", Proto="https", Host="other") == Origin(peer, False, "x")


def test_an_ipv4_address_mapped_to_ipv6_is_converted_to_ipv4():
    """A dual-stack socket reports IPv4 clients as ::ffff:a.b.c.d. Unconverted, all would share one IPv6 network, and
    with it the limit on failed logins."""
    assert origin("::ffff:192.0.2.7").remote == origin("::ffff:192.0.2.7", For="192.0.2.1").remote == "192.0.2.7"
    assert origin("fe80::1%eth0").remote == "fe80::1"


@pytest.mark.parametrize("peer", ["10.0.0.1", "127.0.0.9", "::ffff:10.0.0.1", "fd00::1", ""])
def test_forwarded_headers_of_trusted_proxies_are_used(peer):
    assert origin(peer, For="192.0.2.1", Proto="https", Host="other") == Origin("192.0.2.1", True, "other")
    peer = peer.removeprefix("::ffff:")
    assert origin(peer, Proto="HTTPS") == Origin(peer, True, "x")
    assert origin(peer, secure=True, Proto="http") == Origin(peer, False, "x")
    assert origin(peer, secure=True, Host="other") == Origin(peer, True, "other")
    assert origin(peer, Proto=["https", "http, https"], Host=["a", "b, c"]) == Origin(peer, True, "c")


def test_by_default_only_proxies_on_the_same_machine_are_trusted():
    default = ServerConfig().trusted_proxies
    for peer in ("127.0.0.1", "::1", ""):
        assert origin(peer, default, For="192.0.2.1").remote == "192.0.2.1"
    for peer in ("10.0.0.1", "192.168.0.1", "fe80::1"):
        assert origin(peer, default, For="192.0.2.1").remote == peer
    assert origin("", ["127.0.0.1"], For="192.0.2.1").remote == ""


@given(st.lists(st.text() | st.ip_addresses().map(str)), st.text(), st.text())
def test_any_forwarded_header_gives_a_valid_address(hops, proto, host):
    found = origin(For=hops, Proto=proto, Host=host)
    assert re.fullmatch(r"[0-9a-f.:]+", found.remote)


async def test_the_log_has_the_client_address_from_a_trusted_proxy(client, requests):
    await client.get("/healthz", headers={"X-Forwarded-For": "198.51.100.9, 192.0.2.1"})
    await client.get("/healthz")
    assert [fields["remote"] for fields in requests()] == ["192.0.2.1", "127.0.0.1"]


def test_a_forwarded_address_of_an_untrusted_peer_is_logged_once(caplog):
    origins = Origins(ServerConfig(trusted_proxies=["10.0.0.0/8"]))

    def ask(peer, **headers):
        lines = CIMultiDict({"Host": "x"} | {f"X-Forwarded-{name}": value for name, value in headers.items()})
        return origins.of(SimpleNamespace(headers=lines, remote=peer, secure=False, raw_path="/", host="x"))

    ask("10.0.0.1", For="192.0.2.1")
    ask("192.0.2.7")
    ask("192.0.2.7", Proto="https", Host="reports.example")
    assert caplog.text == ""
    for _ in range(3):
        assert ask("192.0.2.7", For="198.51.100.9\x1b[2J").remote == "192.0.2.7"
    ask("", For="198.51.100.9")
    ask("::ffff:192.0.2.7", For="198.51.100.9")  # the same peer
    first, second = caplog.messages
    assert first.startswith("192.0.2.7 sent X-Forwarded-For, which is ignored: [server] trusted_proxies does not list")
    assert second.startswith("A client on a unix socket sent") and "list 'unix'." in second
    assert "198.51" not in caplog.text and "\x1b" not in caplog.text
    for number in range(1000):
        ask(f"192.0.2.{number % 250}", For="198.51.100.9")
        ask(f"2001:db8::{number:x}", For="198.51.100.9")
    assert len(caplog.messages) == 10


async def test_the_log_has_the_peer_address_of_an_untrusted_proxy(start, requests):
    client = await start(server={"trusted_proxies": ["10.0.0.0/8"]})
    await client.get("/healthz", headers={"X-Forwarded-For": "192.0.2.1"})
    assert [fields["remote"] for fields in requests()] == ["127.0.0.1"]


async def test_behind_tls_the_cookie_is_secure(client, start):
    untrusting = await start(server={"trusted_proxies": []})
    for caller, proto, secure in [
        (client, "https", True),
        (client, "http", False),
        (client, None, False),
        (untrusting, "https", False),
    ]:
        headers = {"X-Forwarded-Proto": proto} if proto else {}
        reply = await caller.post("/api/v1/auth/session", headers=headers)
        assert reply.status == 201
        assert ("; Secure" in reply.headers["Set-Cookie"]) == secure
        assert ("Strict-Transport-Security" in reply.headers) == secure


async def test_any_host_is_served_unless_allowed_hosts_is_set(start, client):
    assert (await client.get("/healthz", headers={"Host": "whatever"})).status == 200
    ours = await start(server={"allowed_hosts": ["Reports.example", "[::1]"]})
    for host, status in [
        ("reports.example", 200),
        ("REPORTS.EXAMPLE:8443", 200),
        ("[::1]:8000", 200),
        ("other.example", 421),
        ("reports.example.other.example", 421),
        ("xreports.example", 421),
        ("127.0.0.1", 421),
        ("", 421),
    ]:
        for path in ("/healthz", RUNS, "/nothing"):
            reply = await ours.get(path, headers={"Host": host})
            assert reply.status == (status if status == 421 or path != "/nothing" else 404), (host, path)
            assert status != 421 or (await reply.json())["code"] == "host_not_served"
    for named, status in [("reports.example", 200), ("other.example", 421)]:
        headers = {"Host": "127.0.0.1:8000", "X-Forwarded-Host": named}
        assert (await ours.get("/healthz", headers=headers)).status == status
    untrusting = await start(server={"allowed_hosts": ["reports.example"], "trusted_proxies": []})
    headers = {"Host": "other.example", "X-Forwarded-Host": "reports.example"}
    assert (await untrusting.get("/healthz", headers=headers)).status == 421


async def test_a_request_without_a_host_causes_no_dns_lookup(start, monkeypatch):
    """aiohttp's request.host falls back to the machine's name, and its DNS lookup may block."""
    client = await start(server={"allowed_hosts": ["reports.example"]})
    lookups = []
    monkeypatch.setattr("socket.getfqdn", lambda *names: lookups.append(names) or "reports.example")
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
    async with asyncio.timeout(60):
        assert b" 421 " in (await reader.read()).splitlines()[0]
    writer.close()
    assert lookups == []


async def test_on_a_unix_socket_the_log_has_only_forwarded_addresses(config, tmp_path, requests):
    runner = Runner(create_app(config))
    await runner.setup()
    try:
        await web.UnixSite(runner, str(tmp_path / "s")).start()
        for header in ("X: y", "X-Forwarded-For: 192.0.2.1"):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
            writer.write(f"GET /healthz HTTP/1.1\r\nHost: x\r\n{header}\r\nConnection: close\r\n\r\n".encode())
            async with asyncio.timeout(60):
                assert b" 200 " in (await reader.read()).splitlines()[0]
            writer.close()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b"nonsense\r\n\r\n")
        async with asyncio.timeout(60):
            assert b" 400 " in (await reader.read()).splitlines()[0]
        writer.close()
    finally:
        await runner.cleanup()
    assert [fields["remote"] for fields in requests()] == [None, "192.0.2.1", None]
