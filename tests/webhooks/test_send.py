"""One attempt: what the target gets, and what becomes of targets that hang, redirect, or are somewhere else."""

import asyncio
import socket
import ssl
import subprocess
import uuid

import pytest
from aiohttp import web

from server.webhooks import send
from server.webhooks.send import Target

ID = uuid.UUID("019aa0c2-7a1b-7c3d-9e4f-5a6b7c8d9e0f")


@pytest.fixture
def attempt(hook):
    """await attempt(target or url, **keys): the Answer of one attempt."""

    async def made(where, body="{}", **keys):
        sender = Target(hook(where, **keys))
        try:
            return await sender.send(ID, body)
        finally:
            sender.close()

    return made


@pytest.fixture
def resolves(monkeypatch):
    """resolves(*lists): each lookup of a name gives the next list of addresses, then the last one."""

    def set_up(*lists):
        left, asked = list(lists), []

        def getaddrinfo(host, port, *_):
            asked.append(host)
            addresses = left.pop(0) if len(left) > 1 else left[0]
            kinds = {True: socket.AF_INET6, False: socket.AF_INET}
            return [(kinds[":" in each], socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return asked

    return set_up


async def test_a_delivery_is_a_post_of_the_body_with_signed_headers(target, attempt):
    answer = await attempt(target, '{"type":"x"}')
    assert (answer.status, answer.delivered, answer.text) == (204, True, "")
    ((headers, body),) = target.requests
    assert body == b'{"type":"x"}' and headers["content-type"] == "application/json"
    assert headers["webhook-id"] == "msg_019aa0c27a1b7c3d9e4f5a6b7c8d9e0f"
    assert headers["webhook-signature"].startswith("v1,") and headers["user-agent"].startswith("reportd/")
    assert abs(int(headers["webhook-timestamp"]) - __import__("time").time()) < 60


@pytest.mark.parametrize("status", [300, 400, 404, 410, 429, 500, 503])
async def test_every_status_but_2xx_is_a_failure(make_target, attempt, status):
    async def refuse(_):
        return web.Response(status=status, text="no\r\n\x1b[31mway", headers={"Retry-After": "120"})

    answer = await attempt(await make_target(refuse))
    assert (answer.status, answer.delivered, answer.text, answer.retry_after) == (status, False, "no [31mway", 120.0)


@pytest.mark.parametrize("wait", ["x", "-5", "nan", "inf", "Wed, 21 Oct 2026 07:28:00 GMT"])
async def test_a_wrong_retry_after_is_ignored(make_target, attempt, wait):
    async def refuse(_):
        return web.Response(status=503, headers={"Retry-After": wait})

    assert (await attempt(await make_target(refuse))).retry_after is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(make_target, attempt, target, status):
    async def elsewhere(_):
        return web.Response(status=status, headers={"Location": target.url})

    answer = await attempt(await make_target(elsewhere))
    assert (answer.status, answer.delivered) == (status, False) and "not followed" in answer.text
    assert target.requests == []


async def test_a_target_that_hangs_is_left_after_a_while(make_target, attempt, monkeypatch):
    monkeypatch.setattr(send, "_SECONDS", 0.2)

    async def hang(_):
        await asyncio.sleep(60)

    async def trickle(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x")
            await asyncio.sleep(0.02)

    for how in (hang, trickle):
        answer = await attempt(await make_target(how))
        assert (answer.status, answer.delivered) == (None, False) and "within 0.2 seconds" in answer.text


async def test_only_the_beginning_of_a_reply_is_read(make_target, attempt):
    sent = 0

    async def endless(request):
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"y" * 65_536)
            sent += 65_536

    answer = await attempt(await make_target(endless))
    assert (answer.status, answer.text) == (200, "y" * 500)
    assert sent < 64 << 20


async def test_a_small_reply_is_not_unpacked_to_a_large_one(make_target, attempt):
    async def bomb(_):
        return web.Response(body=b"\x1f\x8b" + b"\0" * 100, headers={"Content-Encoding": "gzip"})

    answer = await attempt(await make_target(bomb))
    assert answer.delivered


async def test_replies_that_are_no_http_or_none_are_failures(attempt):
    async def answers(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(next(replies))
        writer.close()

    replies = iter([b"HELO\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000])
    server = await asyncio.start_server(answers, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server:
        for words in ("not valid HTTP", "without a reply", "not valid HTTP"):
            answer = await attempt(url)
            assert answer.status is None and words in answer.text, answer


async def test_a_target_that_is_not_there_is_a_failure(attempt):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answer = await attempt(f"http://127.0.0.1:{port}/secret")
    assert answer.status is None and "Cannot connect" in answer.text and "secret" not in answer.text


async def test_a_name_that_cannot_be_resolved_is_a_failure(attempt, monkeypatch):
    def fail(*_):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    answer = await attempt("https://gone.example/secret")
    assert answer.status is None and "cannot be resolved" in answer.text


async def test_a_wrong_certificate_is_a_failure(make_target, attempt, tmp_path):
    file = tmp_path / "own.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", file, "-out", file]
    subprocess.run(made, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    target = await make_target()
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    async with server:
        answer = await attempt(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/secret")
    assert answer.status is None and "certificate" in answer.text and "secret" not in answer.text
    answer = await attempt(target.url.replace("http:", "https:"))
    assert answer.status is None and "TLS failed" in answer.text


# --- addresses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "169.254.169.254", "[64:ff9b::7f00:1]"],
)
async def test_an_internal_address_in_the_url_is_refused(target, attempt, host):
    url = target.url.replace("http:", "https:").replace("127.0.0.1", host)
    answer = await attempt(url, allow=[])
    assert answer.status is None and "no public address" in answer.text and "`allow`" in answer.text
    assert target.requests == []


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f.1", "0177.0.0.1"])
async def test_other_ways_to_write_loopback_do_not_reach_it(target, attempt, host):
    answer = await attempt(target.url.replace("http:", "https:").replace("127.0.0.1", host), allow=[])
    assert answer.status is None and target.requests == []


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["::ffff:127.0.0.1"], ["::1"], ["169.254.169.254", "10.0.0.1"]])
async def test_a_name_of_an_internal_address_is_refused(target, attempt, resolves, addresses):
    resolves(addresses)
    answer = await attempt(target.url.replace("http://127.0.0.1", "https://hook.example"), allow=[])
    assert answer.status is None and f"hook.example is at {', '.join(addresses)}, which" in answer.text
    assert target.requests == []


async def test_a_name_that_resolves_to_something_else_the_second_time_is_refused(target, attempt, resolves):
    """DNS rebinding: the address that is checked is the one that is connected to."""
    asked = resolves(["1.1.1.1"], ["127.0.0.1"])
    socket.getaddrinfo("hook.example", 443)  # as a check before the request would do
    answer = await attempt(target.url.replace("http://127.0.0.1", "https://hook.example"), allow=[])
    assert answer.status is None and "no public address" in answer.text
    assert asked == ["hook.example"] * 2 and target.requests == []  # one lookup for the attempt


async def test_a_site_can_allow_a_host_by_name_or_network(target, attempt, resolves):
    resolves(["127.0.0.1"])
    named = target.url.replace("127.0.0.1", "hook.internal")
    assert (await attempt(named, allow=["Hook.Internal"])).delivered
    assert target.requests[0][0]["host"].startswith("hook.internal:")
    url = named.replace("http:", "https:")
    assert "no public address" in (await attempt(url, allow=["other.internal", "10.0.0.0/8"])).text
    assert "TLS failed" in (await attempt(url, allow=["127.0.0.0/8"])).text  # it may connect


async def test_proxies_of_the_environment_are_not_used(target, attempt, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    assert (await attempt(target)).delivered


async def test_a_name_server_that_hangs_ends_the_attempt(attempt, monkeypatch):
    import threading

    monkeypatch.setattr(send, "_SECONDS", 0.2)
    end = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: end.wait(20))
    answer = await attempt("https://slow.example/")
    end.set()
    assert answer.status is None and "within" in answer.text
