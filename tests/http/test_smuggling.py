"""Over plain sockets: what two readers of HTTP/1.1 could understand in two ways is refused, and the connection closed.

Behind each message stands a second one. It is a request of its own, or it is never answered; it is never part of the
first, and no part of the first is ever a request (RFC 9112, 11.2).
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
# How it is answered, and that there is one way to read it.
UNDERSTOOD = {
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
async def say(client):
    """await say(pieces…): all that is answered up to the end of the connection."""

    async def said(*pieces: bytes) -> bytes:
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

    return said


def statuses(said):
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", said)]


async def test_what_can_be_read_in_two_ways_is_refused(say, rows, requests):
    for number, (name, message) in enumerate(REFUSED.items(), 1):
        said = await say(message + SECOND)
        head, _, body = said.partition(b"\r\n\r\n")
        assert statuses(said) == [400], (name, said)
        assert json.loads(body)["code"] == "malformed_request", name
        assert b"\r\nConnection: close" in head and b"second" not in said, name
        assert len(requests()) == number, name
    assert rows("SELECT FROM suite_runs") == []


async def test_in_pieces_it_is_refused_too(say, rows, requests):
    """A body that breaks after its request has begun ends that request; it does not wait for the time-out."""
    for number, (name, whole) in enumerate(REFUSED.items(), 1):
        at = whole.find(b"\r\n\r\n") + 4 if TE in whole else len(whole) // 2
        said = await say(whole[:at], whole[at:] + SECOND)
        assert statuses(said) == [400], (name, said)
        assert json.loads(said.partition(b"\r\n\r\n")[2])["code"] in {"malformed_request", "malformed_body"}, name
        assert b"second" not in said and len(requests()) == number, name
    assert rows("SELECT FROM suite_runs") == []


async def test_what_has_one_meaning_is_one_request(say, requests):
    for name, (message, status) in UNDERSTOOD.items():
        for pieces in ([message + SECOND + LAST], [message, SECOND, LAST]):
            before = len(requests())
            assert statuses(await say(*pieces)) == [status, 200, 200], name
            assert [fields["request_id"] for fields in requests()[before + 1 :]] == ["second", "last"], name


async def test_an_upgrade_is_not_done_and_is_the_last_request(say):
    """aiohttp would drop what it has of the next one, and take the rest for a request."""
    for message in UPGRADES:
        for pieces in ([message + SECOND], [message + SECOND[:20], LAST]):
            said = await say(*pieces)
            assert statuses(said) in ([200], [201]) and b"\r\nConnection: close" in said, message
            assert b"second" not in said and b"last" not in said, message


async def test_the_target_wins_over_the_host(start):
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
async def test_broken_chunks_end_the_request_whatever_reads_it(kind, say, case_url, requests):
    path = (await case_url()).encode() + (b"/artifacts" if kind.startswith(b"multipart") else b"/steps")
    head = b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nAuthorization: $TOKEN\r\nContent-Type: " + kind + b"\r\n" + TE
    before = len(requests())
    with lines_as(TextLines()) as lines:
        said = await say(head + b"\r\n5\r\n--x\r\n\r\n", b"zz hunter2\r\n" + SECOND)
    assert statuses(said) == [400] and b'"code":"malformed_body"' in said and b"\r\nConnection: close" in said
    assert b"hunter2" not in said and "hunter2" not in "".join(lines)
    assert len(requests()) == before + 1
    assert [line for line in lines if not TEXT.fullmatch(line) or " ERROR " in line] == []


async def test_broken_chunks_behind_an_answer_are_no_error(client, say, case_url, caplog):
    """A download is on its way when the body of its request breaks."""
    _, artifact = await post(client, f"{await case_url()}/artifacts", single(png(900, 900)))
    head = f"GET {artifact['download_url']} HTTP/1.1\r\nHost: x\r\nAuthorization: $TOKEN\r\n".encode() + TE
    said = await say(head + b"\r\n5\r\nhello\r\n", b"zz\r\n" + SECOND)
    assert statuses(said) == [200] and b"second" not in said
    assert [item for item in caplog.records if item.levelname in ("WARNING", "ERROR")] == []


async def test_nothing_is_said_of_what_was_sent_nor_of_what_we_are_made_of(say):
    for name, message in REFUSED.items():
        said = await say(message.replace(b"X: ", b"hunter2: ") + b"hunter2" + SECOND)
        assert not re.search(rb"(?i)aiohttp|python|hunter2", said), name
        for header in (b"Server: reportd", b"X-Content-Type-Options: nosniff", b"X-Request-Id: "):
            assert b"\r\n" + header in said, name
