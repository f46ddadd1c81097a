"""Replies that are sent before the whole body has arrived: a client that sends first and reads afterwards gets them."""

import asyncio
import http.client
import shutil
import subprocess
from contextlib import AsyncExitStack

import pytest

from server.http import protocol
from server.http.protocol import largest_request
from server.services import SERVICES
from tests.api.test_artifacts_raw import connect, head
from tests.forms import CONTENT_TYPE, batch
from tests.http.test_admission import until
from tests.makers import png

MIB = 1 << 20
RUNS = "/api/v1/reports/suite-runs"


def send_first(client, path: str, size: int, **headers: str) -> int:
    """The status that a client gets which sends `size` bytes and reads afterwards, as http.client does."""
    connection = http.client.HTTPConnection(client.host, client.port, timeout=60)
    sent = {"Authorization": client.session.headers["Authorization"], "Content-Type": CONTENT_TYPE}
    sent |= {"Content-Length": str(size)} | {name.replace("_", "-"): value for name, value in headers.items()}
    chunk = b"x" * (64 << 10)
    body = (chunk[: min(len(chunk), size - at)] for at in range(0, size, len(chunk)))
    try:
        connection.request("POST", path, body, sent)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("size", [2 * MIB, 5 * MIB, 30 * MIB, 200 * MIB])
async def test_a_client_that_sends_first_gets_each_early_reply(client, case_url, size):
    uploads = f"{await case_url()}/artifacts"
    missing = f"{uploads[:-22]}000000000000/artifacts"
    steps = uploads.replace("artifacts", "steps")
    requests = [
        (401, uploads, {"Authorization": "Bearer wrong"}),
        (404, "/api/v1/reports/nothing", {}),
        (404, missing if size < 11 * MIB else "/nothing", {}),
        (405, f"{uploads[:-10]}/report", {}),
        (415, uploads, {"Content_Type": "text/plain"}),
        (413 if size > 16 * MIB else 400, steps, {}),
        (413 if size > 11 * MIB else 400, uploads, {}),
    ]
    for status, path, headers in requests:
        assert await asyncio.to_thread(send_first, client, path, size, **headers) == status, (path, headers)


async def test_a_chunked_body_that_is_refused_while_it_arrives_gets_the_reply(client, case_url):
    steps = f"{await case_url()}/steps"
    async with connect(client) as connection:
        await connection.send(head(client, steps, None, content_type="application/json"))
        for _ in range(480):  # 30 MiB; the limit is 16 MiB
            await connection.send(b"%x\r\n%s\r\n" % (64 << 10, b" " * (64 << 10)))
        reply = await connection.reply()
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        assert await connection.closes()


async def test_a_batch_with_too_many_files_gets_the_reply(client, case_url):
    body = batch([(png(8, 8, seed=n), f"{n}.png") for n in range(52)] + [(b"\n" * (9 * MIB), "a.txt")])
    path = f"{await case_url()}/artifacts/batch"
    async with connect(client) as connection:
        await connection.send(head(client, path, len(body)) + body)
        assert (await connection.reply()).status == 413


@pytest.mark.parametrize("broken", [b"NOT HTTP\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"x" * 20_000 + b"\r\n\r\n"])
async def test_input_that_is_not_http_gets_the_reply_although_more_follows(client, broken):
    async with connect(client) as connection:
        await connection.send(broken)
        for _ in range(80):
            await connection.send(b"x" * (64 << 10))
        assert (await connection.reply()).status == 400
        assert await connection.closes()


async def test_the_sending_side_is_closed_at_once_and_the_rest_when_the_client_closes(client):
    async with connect(client) as connection:
        await connection.send(head(client, "/nothing", 10 * MIB))
        assert (await connection.reply()).status == 404
        assert await connection.closes()  # the reply's end: the client need not wait 10 seconds for it
        await connection.send(b"x" * MIB)  # is still read
        assert client.app[SERVICES].admission.requests == 0  # does not delay a shutdown
        assert len(client.server.runner.server.connections) == 1
    await until(lambda: not client.server.runner.server.connections)


async def test_lingering_ends_after_some_seconds(client, monkeypatch):
    monkeypatch.setattr(protocol, "_LINGER_SECONDS", 0.3)
    async with connect(client) as connection:
        await connection.send(head(client, "/nothing", 10 * MIB))
        assert (await connection.reply()).status == 404
        with pytest.raises(ConnectionError):
            while True:
                await connection.send(b"x")
                await asyncio.sleep(0.02)


async def test_lingering_ends_after_as_many_bytes_as_the_largest_request_may_have(start):
    client = await start(artifacts={"max_file_size": MIB, "batch_max_files": 1}, api={"max_json_size": MIB})
    assert largest_request(client.app[SERVICES]) == 18 * MIB  # a bundle: a file, 16 MiB of JSON, and 1 MiB
    async with connect(client) as connection:
        await connection.send(head(client, "/nothing", 100 * MIB))
        with pytest.raises(ConnectionError):
            for _ in range(100):
                await connection.send(b"x" * MIB)


async def test_the_number_of_lingering_connections_is_bounded(client, monkeypatch):
    """One more ends the oldest, whose client has had the most time to read."""
    monkeypatch.setattr(protocol, "_MAX_LINGERING", 3)
    server = client.server.runner.server
    async with AsyncExitStack() as opened:
        for number in range(5):
            connection = await opened.enter_async_context(connect(client))
            await connection.send(head(client, "/nothing", 10 * MIB))
            assert (await connection.reply()).status == 404
            await until(lambda: len(server.connections) == min(number + 1, 3))  # noqa: B023
        assert len(server.lingering) == 3
    await until(lambda: not server.connections)
    assert len(server.lingering) == 0


async def test_the_largest_request_is_a_bundle(client):
    assert largest_request(client.app[SERVICES]) == 517 * MIB == client.server.runner.server.lingering.max_bytes


async def test_a_keep_alive_connection_goes_on_after_a_reply_to_a_whole_body(client):
    """Only a body that was not read ends the connection."""
    async with connect(client) as connection:
        for _ in range(2):
            await connection.send(head(client, "/nothing", 5) + b"hello")
            reply = await connection.reply()
            assert reply.status == 404 and "connection" not in reply.headers


@pytest.mark.parametrize(
    ("program", "script"),
    [
        ("ruby", "require 'net/http'; h = Net::HTTP.new('HOST', PORT); h.max_retries = 0; "
                 "r = Net::HTTP::Post.new('/nothing'); r.body = 'x' * SIZE; puts h.request(r).code"),
        ("node", "fetch('http://HOST:PORT/nothing', {method: 'POST', body: Buffer.alloc(SIZE, 120)})"
                 ".then(r => console.log(r.status), e => console.log(e.cause.code))"),
    ],
    ids=["ruby", "node"],
)  # fmt: skip
async def test_other_languages_get_the_reply(client, program, script):
    """A client of another language, where it is installed."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    for size in (5 * MIB, 30 * MIB):
        text = script.replace("HOST", client.host).replace("PORT", str(client.port)).replace("SIZE", str(size))
        command = [program, "-e", text]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120)
        assert done.stdout.strip() == "404", done
