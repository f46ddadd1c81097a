"""Request smuggling: the server refuses ambiguous HTTP/1.1 messages and closes the connection (RFC 9112, 11.2).

Each test sends a second request right after the first. The second must be served as a separate request, or not at all.
No part of the first request may be served as a request.
"""

import asyncio
import json
import re

import pytest

from server.observe.log import TextLines
from tests.forms import post, single
from tests.makers import png
from tests.observe.test_log import TEXT, lines_as
from tests.observe.test_log import requests as requests  # a fixture

RUNS = "/api/v1/reports/suite-runs"
BODY = b'{"name": "x"}'
CHUNKED = b"d\r\n" + BODY + b"\r\n0\r\n\r\n"
SECOND = b"GET /readyz HTTP/1.1\r\nHost: x\r\nX-Request-Id: second\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: last\r\nConnection: close\r\n\r\n"
POST = f"POST {RUNS} HTTP/1.1\r\nHost: x\r\nAuthorization: $TOKEN\r\n".encode()
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
TE = b"Transfer-Encoding: chunked\r\n"
CL = b"Content-Length: 13\r\n"

REFUSED = {
    "CL and TE": POST + CL + TE + b"\r\n" + CHUNKED,
    "TE and CL": POST + TE + b"Content-Length: 4\r\n\r\n" + CHUNKED,
    "two lengths": POST + CL + b"Content-Length: 14\r\n\r\n" + BODY,
    "one length twice": POST + CL + CL + b"\r\n" + BODY,
    "list of lengths": POST + b"Content-Length: 13, 13\r\n\r\n" + BODY,
    "length with sign": POST + b"Content-Length: +13\r\n\r\n" + BODY,
    "length below zero": POST + b"Content-Length: -13\r\n\r\n" + BODY,
    "hexadecimal length": POST + b"Content-Length: 0xd\r\n\r\n" + BODY,
    "length with underscore": POST + b"Content-Length: 1_3\r\n\r\n" + BODY,
    "length of other digits": POST + "Content-Length: ١٣\r\n\r\n".encode() + BODY,
    "empty length": POST + b"Content-Length:\r\n\r\n" + BODY,
    "length with space": POST + b"Content-Length: 1 3\r\n\r\n" + BODY,
    "length beyond 64 bits": POST + b"Content-Length: 18446744073709551629\r\n\r\n" + BODY,
    "TE is unknown": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKED,
    "TE ends otherwise": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKED,
    "TE has more": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKED,
    "TE twice in one": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKED,
    "TE twice": POST + TE + TE + b"\r\n" + CHUNKED,
    "TE and identity": POST + b"Transfer-Encoding: identity\r\n" + TE + b"\r\n" + CHUNKED,
    "TE identity and CL": POST + b"Transfer-Encoding: identity\r\n" + CL + b"\r\n" + BODY,
    "TE empty and CL": POST + b"Transfer-Encoding:\r\n" + CL + b"\r\n" + BODY,
    "TE with vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKED,
    "TE in quotes": POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + CHUNKED,
    "TE with a parameter": POST + b"Transfer-Encoding: chunked;a=b\r\n\r\n" + CHUNKED,
    "TE with space": POST + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKED,
    "TE after space": POST + b" Transfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    "TE on a second line": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + CHUNKED,
    "TE in HTTP/1.0": POST.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n" + TE + b"\r\n" + CHUNKED,
    "bare LF everywhere": (POST + CL + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "bare LF in a header": POST + b"X: a\n" + CL + b"\r\n" + BODY,
    "bare CR in a header": POST + b"X: a\r" + CL + b"\r\n" + BODY,
    "folded header": POST + b"X: a\r\n b\r\n" + CL + b"\r\n" + BODY,
    "folded length": POST + b"Content-Length: 1\r\n 3\r\n\r\n" + BODY,
    "space before the colon": POST + b"X : a\r\n" + CL + b"\r\n" + BODY,
    "NUL in a value": POST + b"X: a\0b\r\n" + CL + b"\r\n" + BODY,
    "NUL in a name": POST + b"X\0: a\r\n" + CL + b"\r\n" + BODY,
    "control character": POST + b"X: a\x01b\r\n" + CL + b"\r\n" + BODY,
    "no colon": POST + b"X\r\n" + CL + b"\r\n" + BODY,
    "no name": POST + b": a\r\n" + CL + b"\r\n" + BODY,
    "no ASCII in a name": POST + b"Content-Length\xa0: 5\r\n" + CL + b"\r\n" + BODY,
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: y\r\n\r\n",
    "host that is none": b"GET /healthz HTTP/1.1\r\nHost: x y/z@\r\n\r\n",
    "host with user": b"GET /healthz HTTP/1.1\r\nHost: u@x\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\nHost: x\r\n\r\n",
    "HTTP/2.0": b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tabs in the first line": b"GET\t/healthz\tHTTP/1.1\r\nHost: x\r\n\r\n",
    "space in the target": b"GET /healthz x HTTP/1.1\r\nHost: x\r\n\r\n",
    "method in lower case": b"get /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "target without a host": b"GET http:///healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "200 headers": GET + b"X: y\r\n" * 200 + b"\r\n",
    "long header": GET + b"X: " + b"y" * 9000 + b"\r\n\r\n",
    "long target": b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "LF in a chunk's extension": POST + TE + b"\r\nd;a\nb\r\n" + BODY + b"\r\n0\r\n\r\n",
    "CR in a chunk's extension": POST + TE + b"\r\nd;a\rb\r\n" + BODY + b"\r\n0\r\n\r\n",
    "LF after a chunk's size": POST + TE + b"\r\nd\n" + BODY + b"\r\n0\r\n\r\n",
    "LF after a chunk": POST + TE + b"\r\nd\r\n" + BODY + b"\n0\r\n\r\n",
    "nothing after a chunk": POST + TE + b"\r\nd\r\n" + BODY + b"0\r\n\r\n",
    "LF at the end": POST + TE + b"\r\nd\r\n" + BODY + b"\r\n0\n\n",
    "size with 0x": POST + TE + b"\r\n0xd\r\n" + BODY + b"\r\n0\r\n\r\n",
    "size with sign": POST + TE + b"\r\n+d\r\n" + BODY + b"\r\n0\r\n\r\n",
    "size below zero": POST + TE + b"\r\n-d\r\n" + BODY + b"\r\n0\r\n\r\n",
    "size with a space behind": POST + TE + b"\r\nd \r\n" + BODY + b"\r\n0\r\n\r\n",
    "size with a space before": POST + TE + b"\r\n d\r\n" + BODY + b"\r\n0\r\n\r\n",
    "size beyond 64 bits": POST + TE + b"\r\n1000000000000000d\r\n" + BODY + b"\r\n0\r\n\r\n",
    "no size": POST + TE + b"\r\n\r\n" + BODY + b"\r\n0\r\n\r\n",
    "length in a trailer": POST + TE + b"\r\nd\r\n" + BODY + b"\r\n0\r\nContent-Length: 5\r\n\r\n",
    "LF in a trailer": POST + TE + b"\r\nd\r\n" + BODY + b"\r\n0\r\nX: y\n\r\n",
    "5000 trailers": POST + TE + b"\r\nd\r\n" + BODY + b"\r\n0\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
}
# Unusual but unambiguous requests, with the status of their reply.
UNAMBIGUOUS = {
    "length": (POST + CL + b"\r\n" + BODY, 201),
    "chunks": (POST + TE + b"\r\n" + CHUNKED, 201),
    "chunks in capitals": (POST + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n" + CHUNKED, 201),
    "tab before the value": (POST + b"Transfer-Encoding:\tchunked\r\n\r\n" + CHUNKED, 201),
    "size with zeros": (POST + TE + b"\r\n" + b"0" * 30 + CHUNKED, 201),
    "chunk's extension": (POST + TE + b"\r\nd;a=b\r\n" + BODY + b"\r\n0\r\n\r\n", 201),
    "huge extension": (POST + TE + b"\r\nd;" + b"a" * 200_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n", 201),
    "trailer": (POST + TE + b"\r\nd\r\n" + BODY + b"\r\n0\r\nX: y\r\n\r\n", 201),
    "other name": (POST + b"Content_Length: 5\r\n" + CL + b"\r\n" + BODY, 201),
    "length of HTTP/1.0": (POST.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n" + CL + b"\r\n" + BODY, 201),
    "GET with a body": (GET + CL + b"\r\n" + BODY, 200),
    "HEAD with chunks": (GET.replace(b"GET", b"HEAD") + TE + b"\r\n" + CHUNKED, 200),
    "absolute target": (b"GET http://other/healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    "absolute target without path": (b"GET http://other HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "target with fragment": (b"GET /healthz#x HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    "two spaces": (b"GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    "empty line before": (b"\r\n" + GET + b"\r\n", 200),
    "no tunnel": (b"CONNECT other:80 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
}
UPGRADES = [
    GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + CL + b"\r\n" + BODY,
    POST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + TE + b"\r\n" + CHUNKED,
]


@pytest.fixture
async def send(client):
    """await send(pieces…): sends the bytes on a new connection and returns everything received until it closes."""

    async def exchange(*pieces: bytes) -> bytes:
        token = client.session.headers["Authorization"].encode()
        reader, writer = await asyncio.open_connection(client.host, client.port)
        try:
            for piece in pieces:
                writer.write(piece.replace(b"$TOKEN", token))
                await writer.drain()
                await asyncio.sleep(0.01 if len(pieces) > 1 else 0)
            async with asyncio.timeout(60):
                return await reader.read()
        finally:
            writer.close()

    return exchange


def statuses(received):
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received)]


async def test_an_ambiguous_request_is_refused(send, rows, requests):
    for number, (name, message) in enumerate(REFUSED.items(), 1):
        received = await send(message + SECOND)
        head, _, body = received.partition(b"\r\n\r\n")
        assert statuses(received) == [400], (name, received)
        assert json.loads(body)["code"] == "malformed_request", name
        assert b"\r\nConnection: close" in head and b"second" not in received, name
        assert len(requests()) == number, name
    assert rows("SELECT FROM suite_runs") == []


async def test_an_ambiguous_request_sent_in_pieces_is_refused(send, rows, requests):
    """A malformed body ends a request that has already begun at once, and not only after the timeout."""
    for number, (name, whole) in enumerate(REFUSED.items(), 1):
        at = whole.find(b"\r\n\r\n") + 4 if TE in whole else len(whole) // 2
        received = await send(whole[:at], whole[at:] + SECOND)
        assert statuses(received) == [400], (name, received)
        assert json.loads(received.partition(b"\r\n\r\n")[2])["code"] in {"malformed_request", "malformed_body"}, name
        assert b"second" not in received and len(requests()) == number, name
    assert rows("SELECT FROM suite_runs") == []


async def test_an_unambiguous_request_is_one_request(send, requests):
    for name, (message, status) in UNAMBIGUOUS.items():
        for pieces in ([message + SECOND + LAST], [message, SECOND, LAST]):
            before = len(requests())
            assert statuses(await send(*pieces)) == [status, 200, 200], name
            assert [fields["request_id"] for fields in requests()[before + 1 :]] == ["second", "last"], name


async def test_an_upgrade_is_ignored_and_closes_the_connection(send):
    """aiohttp alone would drop the received part of the next request, and parse the rest of it as a new request."""
    for message in UPGRADES:
        for pieces in ([message + SECOND], [message + SECOND[:20], LAST]):
            received = await send(*pieces)
            assert statuses(received) in ([200], [201]) and b"\r\nConnection: close" in received, message
            assert b"second" not in received and b"last" not in received, message


async def test_the_host_of_an_absolute_target_overrides_the_host_header(start):
    """RFC 9112, 3.2.2."""
    client = await start(server={"allowed_hosts": ["ours.example"]})
    for target, host, status in [
        ("http://ours.example/healthz", "other.example", 200),
        ("http://other.example/healthz", "ours.example", 421),
        ("/healthz", "ours.example", 200),
        ("/healthz", "other.example", 421),
    ]:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        async with asyncio.timeout(60):
            assert statuses(await reader.read()) == [status]
        writer.close()


@pytest.mark.parametrize("kind", [b"application/json", b"multipart/form-data; boundary=x"])
async def test_malformed_chunks_end_json_requests_and_uploads(kind, send, case_url, requests):
    path = (await case_url()).encode() + (b"/artifacts" if kind.startswith(b"multipart") else b"/steps")
    head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nAuthorization: $TOKEN\r\nContent-Type: " + kind + b"\r\n" + TE
    before = len(requests())
    with lines_as(TextLines()) as lines:
        received = await send(head + b"\r\n5\r\n--x\r\n\r\n", b"zz hunter2\r\n" + SECOND)
    assert statuses(received) == [400] and b"\r\nConnection: close" in received
    assert b'"code":"malformed_body"' in received
    assert b"hunter2" not in received and "hunter2" not in "".join(lines)
    assert len(requests()) == before + 1
    assert [line for line in lines if not TEXT.fullmatch(line) or " ERROR " in line] == []


async def test_malformed_chunks_after_the_reply_has_begun_are_no_error(client, send, case_url, caplog):
    """The download is being sent when the malformed chunk of its request arrives."""
    _, artifact = await post(client, f"{await case_url()}/artifacts", single(png(900, 900)))
    head = f"GET {artifact['download_url']} HTTP/1.1\r\nHost: x\r\nAuthorization: $TOKEN\r\n".encode() + TE
    received = await send(head + b"\r\n5\r\nhello\r\n", b"zz\r\n" + SECOND)
    assert statuses(received) == [200] and b"second" not in received
    assert [item for item in caplog.records if item.levelname in ("WARNING", "ERROR")] == []


async def test_a_refusal_reveals_neither_the_request_nor_the_software(send):
    for name, message in REFUSED.items():
        received = await send(message.replace(b"X: ", b"hunter2: ") + b"hunter2" + SECOND)
        assert not re.search(rb"(?i)aiohttp|python|hunter2", received), name
        for header in (b"Server: reportd", b"X-Content-Type-Options: nosniff", b"X-Request-Id: "):
            assert b"\r\n" + header in received, name
