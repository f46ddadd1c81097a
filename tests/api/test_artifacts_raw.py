"""Uploads over plain sockets: malformed, endless, truncated and withheld bodies. None may leave a file or a row."""

import asyncio
import json
import logging
import random
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

import pytest
from aiohttp.http_exceptions import HttpProcessingError

from server.uploads.receive import WINDOW
from tests.forms import BOUNDARY, CONTENT_TYPE, a_body, a_field, a_file, a_part, batch, post, single
from tests.makers import png

MIB = 1 << 20


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return json.loads(self.body)["code"]


class Connection:
    """One connection to the server under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self) -> Reply:
        """The next reply. It may be an interim one (1xx), which has no body."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Reply(int(head[0].split()[1]), headers, body)

    async def closes(self) -> bool:
        """Whether the server closes the connection without sending anything more."""
        async with asyncio.timeout(10):
            with suppress(ConnectionError):
                return await self.reader.read() == b""
        return True


@asynccontextmanager
async def connect(client):
    reader, writer = await asyncio.open_connection(client.host, client.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def head(client, url: str, length: int | None, *lines: str, content_type: str | None = CONTENT_TYPE) -> bytes:
    """The request line and headers of an upload; chunked when `length` is None. `lines` are further headers."""
    headers = [
        f"POST {url} HTTP/1.1",
        f"Host: {client.host}",
        f"Authorization: {client.session.headers['Authorization']}",
    ]
    headers.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    if content_type is not None:
        headers.append(f"Content-Type: {content_type}")
    return "\r\n".join([*headers, *lines, "", ""]).encode("utf-8", "surrogateescape")


def chunked(body: bytes, size: int = 1000) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


async def upload(client, url: str, body: bytes, **options) -> Reply:
    """Send one complete upload on a new connection."""
    async with connect(client) as connection:
        await connection.send(head(client, url, len(body), **options) + body)
        return await connection.reply()


async def eventually(check) -> None:
    """Wait until check() is true: the server cleans up after the client has disconnected."""
    for _ in range(1000):
        if check():
            return
        await asyncio.sleep(0.01)
    pytest.fail("the condition did not become true within 10 seconds")


@pytest.fixture(autouse=True)
def no_server_errors(caplog):
    """Fail a test that leaves a 5xx or an error in the log: no client may cause either."""
    caplog.set_level(logging.INFO)
    yield
    for record in caplog.get_records("call"):
        # aiohttp's parser logs invalid HTTP as an error and replies by itself, before our code runs.
        not_http = record.exc_info is not None and isinstance(record.exc_info[1], HttpProcessingError)
        assert record.levelno < logging.ERROR or not_http, record.getMessage()
        if record.name == "reportd.requests" and record.msg == "%s %s %d":
            assert record.args[2] < 500, record.getMessage()


@pytest.fixture
def nothing_stored(client, stored_files, rows):
    """await nothing_stored(case): there is no file and no row, and the server accepts a valid upload."""

    async def check(case: str) -> None:
        await eventually(lambda: stored_files() == [])
        assert rows("SELECT FROM test_artifacts") == []
        assert (await client.get("/healthz")).status == 200
        status, got = await post(client, f"{case}/artifacts", single(png(8, 8)))
        assert status == 201
        assert len(stored_files()) == len(rows("SELECT FROM test_artifacts")) == 1
        assert (await client.delete(f"/api/v1/reports/artifacts/{got['id']}")).status == 204

    return check


# --- refused before the body is read ------------------------------------------------------------------------


async def test_a_body_that_is_not_multipart_is_refused_unread(client, case_url, nothing_stored):
    case = await case_url()
    for url in (f"{case}/artifacts", f"{case}/artifacts/batch"):
        for kind, *lines in [
            (None,),
            ("application/json",),
            (f"multipart/mixed; boundary={BOUNDARY}",),
            ("application/x-www-form-urlencoded",),
            (CONTENT_TYPE, "Content-Encoding: gzip"),
            (CONTENT_TYPE, "Content-Encoding: deflate"),
            (CONTENT_TYPE, "Content-Encoding: gzip, identity"),
        ]:
            async with connect(client) as connection:
                await connection.send(head(client, url, 100, *lines, content_type=kind))
                reply = await connection.reply()
                assert (reply.status, reply.code) == (415, "not_multipart"), (kind, lines)
                assert reply.headers["connection"] == "close"
                assert reply.headers["cache-control"] == "no-store" and reply.headers["x-request-id"]
    await nothing_stored(case)


async def test_an_unsupported_content_encoding_is_refused(client, case_url, nothing_stored):
    case, body = await case_url(), single(png(8, 8))
    async with connect(client) as connection:
        await connection.send(head(client, f"{case}/artifacts", len(body), "Content-Encoding: br") + body)
        reply = await connection.reply()
        assert reply.status == 415 and reply.code == "not_multipart"
    await nothing_stored(case)


async def test_bad_boundaries_are_refused(client, case_url, nothing_stored):
    case = await case_url()
    for parameter in ("", "; boundary", "; boundary=", '; boundary=""', f"; boundary={'x' * 71}", '; boundary="ü"'):
        reply = await upload(
            client, f"{case}/artifacts", single(png(8, 8)), content_type=f"multipart/form-data{parameter}"
        )
        assert (reply.status, reply.code) == (400, "malformed_body"), parameter
    await nothing_stored(case)


async def test_a_boundary_that_is_not_utf8_is_refused(client, case_url, nothing_stored):
    case = await case_url()
    reply = await upload(
        client, f"{case}/artifacts", single(png(8, 8)), content_type="multipart/form-data; boundary=\udcff\udcfe"
    )
    assert (reply.status, reply.code) == (400, "malformed_body")
    await nothing_stored(case)


async def test_a_body_above_the_maximum_size_is_refused_unread(client, case_url, nothing_stored):
    case = await case_url()
    for path, maximum in [("artifacts", 11 * MIB), ("artifacts/batch", 502 * MIB)]:
        async with connect(client) as connection:
            await connection.send(head(client, f"{case}/{path}", maximum + 1))
            reply = await connection.reply()
            assert (reply.status, reply.code) == (413, "too_large")
            assert reply.headers["connection"] == "close"
            connection.writer.write_eof()
            assert await connection.closes()
    await nothing_stored(case)


@pytest.mark.parametrize("status", [401, 404, 413, 415])
async def test_a_client_that_goes_on_sending_can_read_its_refusal(client, case_url, nothing_stored, status):
    case = await case_url()
    url = f"/api/v1/reports/test-case-results/{uuid4()}/artifacts" if status == 404 else f"{case}/artifacts"
    start = head(
        client, url, (20 if status == 413 else 5) * MIB, content_type="text/plain" if status == 415 else CONTENT_TYPE
    )
    if status == 401:
        start = start.replace(b"Bearer rpt_", b"Bearer xxx_")
    async with connect(client) as connection:
        reply = asyncio.create_task(connection.reply())
        with suppress(ConnectionError):
            await connection.send(start + a_file(b"")[:-2])
            for _ in range(5 * 64):
                await connection.send(b"x" * (16 << 10))
        assert (await reply).status == status
        assert reply.result().headers["connection"] == "close"
    await nothing_stored(case)


async def test_a_client_that_sends_the_whole_body_before_reading_is_not_reset(client, case_url, nothing_stored):
    case = await case_url()
    url = f"/api/v1/reports/test-case-results/{uuid4()}/artifacts"
    async with connect(client) as connection:
        await connection.send(head(client, url, 800_000))
        for _ in range(8):  # less than the 1 MiB that the server discards after a refusal
            await asyncio.sleep(0.02)
            await connection.send(b"x" * 100_000)
        reply = await connection.reply()
        assert (reply.status, reply.headers["connection"]) == (404, "close")
    await nothing_stored(case)


async def test_an_unknown_test_case_is_refused_before_the_body_is_read(client, case_url, nothing_stored):
    for unknown in (uuid4(), "nonsense"):
        async with connect(client) as connection:
            url = f"/api/v1/reports/test-case-results/{unknown}/artifacts/batch"
            await connection.send(head(client, url, 100 * MIB))
            reply = await connection.reply()
            assert (reply.status, reply.code) == (404, "test_case_result_not_found")
            assert reply.headers["connection"] == "close"
    await nothing_stored(await case_url())


async def test_a_missing_or_wrong_token_is_refused_before_the_body_is_read(client, case_url, nothing_stored):
    case = await case_url()
    for token in (
        "",
        "Authorization: Bearer rpt_wrong\r\n",
        "Authorization: Basic abc\r\n",
        "Authorization: Bearer\r\n",
    ):
        async with connect(client) as connection:
            await connection.send(
                f"POST {case}/artifacts HTTP/1.1\r\nHost: x\r\n{token}"
                f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: 1000000\r\n\r\n".encode()
            )
            reply = await connection.reply()
            assert (reply.status, reply.code) == (401, "unauthorized")
            assert reply.headers["www-authenticate"] == "Bearer" and reply.headers["connection"] == "close"
    await nothing_stored(case)


# --- Expect: 100-continue -----------------------------------------------------------------------------------

EXPECT = "Expect: 100-continue"


async def test_a_refused_upload_gets_no_100_continue(client, case_url, nothing_stored):
    case = await case_url()
    unknown = f"/api/v1/reports/test-case-results/{uuid4()}"
    for path in ("artifacts", "artifacts/batch"):
        good = head(client, f"{case}/{path}", 1000, EXPECT)
        refused = {
            401: good.replace(b"Bearer rpt_", b"Bearer xxx_"),
            404: head(client, f"{unknown}/{path}", 1000, EXPECT),
            413: head(client, f"{case}/{path}", 600 * MIB, EXPECT),
            415: head(client, f"{case}/{path}", 1000, EXPECT, content_type="image/png"),
        }
        for status, start in refused.items():
            async with connect(client) as connection:
                await connection.send(start)
                assert (await connection.reply()).status == status
    await nothing_stored(case)


async def test_a_request_without_a_route_gets_no_100_continue(client, case_url):
    case = await case_url()
    for status, method, url in [(404, "POST", f"{case}/nothing"), (405, "PUT", f"{case}/artifacts")]:
        async with connect(client) as connection:
            await connection.send(head(client, url, 1000, EXPECT).replace(b"POST", method.encode()))
            assert (await connection.reply()).status == status


async def test_an_accepted_upload_gets_100_continue(client, case_url, stored_files):
    case, body = await case_url(), single(png(8, 8))
    for number, word in enumerate([EXPECT, "expect: 100-Continue"]):
        async with connect(client) as connection:
            await connection.send(head(client, f"{case}/artifacts", len(body), word))
            assert (await connection.reply()) == Reply(100, {}, b"")
            await connection.send(body)
            reply = await connection.reply()
            assert (reply.status, json.loads(reply.body)["duplicate"]) == (201, number > 0)
    assert len(stored_files()) == 1


async def test_a_client_may_send_the_body_without_waiting_for_100_continue(client, case_url):
    body = single(png(8, 8))
    async with connect(client) as connection:
        await connection.send(head(client, f"{await case_url()}/artifacts", len(body), EXPECT) + body)
        assert [(await connection.reply()).status for _ in range(2)] == [100, 201]


async def test_a_client_that_disconnects_after_100_continue_leaves_nothing(client, case_url, nothing_stored):
    case = await case_url()
    async with connect(client) as connection:
        await connection.send(head(client, f"{case}/artifacts", 1000, EXPECT))
        assert (await connection.reply()).status == 100
    await nothing_stored(case)


# --- truncated bodies ---------------------------------------------------------------------------------------


async def test_a_body_without_its_final_boundary_is_refused(client, case_url, nothing_stored):
    case = await case_url()
    for body in (single(png(8, 8)), batch([(png(8, 8), "a.png"), (png(9, 9), "b.png")])):
        path = "artifacts/batch" if b"metadata" in body else "artifacts"
        hyphens = body.rindex(b"--")  # without these two, the final boundary is an ordinary one
        for cut in (body[:hyphens], body[: hyphens - 5], body[: len(body) // 2], body[:40], b""):
            reply = await upload(client, f"{case}/{path}", cut)
            assert (reply.status, reply.code) == (400, "malformed_body"), (path, len(cut))
    await nothing_stored(case)


@pytest.mark.parametrize("way", ["close", "reset", "half-close"])
async def test_a_client_that_disconnects_during_an_upload_leaves_nothing(
    client, case_url, nothing_stored, stored_files, way
):
    case = await case_url()
    body = batch([(png(300, 300, seed), f"{seed}.png") for seed in range(24)])
    sent = body[: len(body) * 4 // 5]
    assert len(sent) > WINDOW
    async with connect(client) as connection:
        await connection.send(head(client, f"{case}/artifacts/batch", len(body)) + sent)
        await eventually(lambda: len(stored_files()) >= 3)  # staged files
        if way == "reset":
            connection.writer.transport.abort()
        elif way == "half-close":
            connection.writer.write_eof()
            reply = await connection.reader.read()
            assert reply == b"" or reply.startswith(b"HTTP/1.1 400")
    await nothing_stored(case)


async def test_200_clients_that_disconnect_at_random_bytes_leave_nothing(client, case_url, nothing_stored):
    case, chance = await case_url(), random.Random(1)
    small = batch([(png(20, 20, seed), f"{seed}.png") for seed in range(3)])
    large = batch([(png(250, 250, seed), f"{seed}.png") for seed in range(3)])
    server = client.server.runner.server

    async def vanish(number: int) -> None:
        body = large if number % 4 == 0 else small
        url, length = f"{case}/artifacts/batch", len(body) if number % 3 else None
        whole = head(client, url, length) + (body if number % 3 else chunked(body))
        async with connect(client) as connection:
            with suppress(ConnectionError):
                # Never send the last 10 bytes, so that no body is complete.
                await connection.send(whole[: chance.randrange(len(whole) - 10)])
                await asyncio.sleep(chance.random() / 50)
                if number % 2:
                    connection.writer.transport.abort()

    for start in range(0, 200, 40):
        await asyncio.gather(*(vanish(number) for number in range(start, start + 40)))
    await eventually(lambda: len(server.connections) <= 2 and not busy_handlers(2))
    await nothing_stored(case)


def busy_handlers(idle: int) -> int:
    """The number of connections that are served, minus `idle`. The server runs in the event loop of this test."""
    tasks = [task for task in asyncio.all_tasks() if task.get_coro().__qualname__ == "RequestHandler.start"]
    return max(0, len(tasks) - idle)


# --- malformed bodies ---------------------------------------------------------------------------------------


async def test_malformed_parts_are_refused(client, case_url, nothing_stored):
    case = await case_url()
    kind, good = a_field("artifact_type", "log"), a_file(png(8, 8))
    bad = {
        "no name": a_part(b"x", "Content-Disposition: form-data"),
        "empty name": a_part(b"x", 'Content-Disposition: form-data; name=""'),
        "no disposition": a_part(b"x", "Content-Type: image/png"),
        "other disposition": a_part(b"x", 'Content-Disposition: attachment; name="file"'),
        "no headers": a_part(b"x"),
        "no colon": a_part(b"x", "nonsense"),
        "base64": a_part(b"eA==", 'Content-Disposition: form-data; name="x"', "Content-Transfer-Encoding: base64"),
        "boundary with more": b"--" + BOUNDARY.encode() + b"more\r\n\r\n\r\n",
    }
    for what, part in bad.items():
        for order in ((kind, good, part), (part, kind, good)):
            reply = await upload(client, f"{case}/artifacts", a_body(*order))
            assert (reply.status, reply.code) == (400, "malformed_body"), what
    await nothing_stored(case)


async def test_too_many_parts_and_oversized_headers_are_refused(client, case_url, nothing_stored):
    case = await case_url()
    bodies = {
        "10,000 fields": a_body(a_file(png(8, 8)), *(a_field(f"f{n}", "x") for n in range(10_000))),
        "one giant header": a_body(a_file(png(8, 8)), a_part(b"x", "X-Long: " + "x" * 100_000)),
        "many headers": a_body(a_part(b"x", *(f"X-{n}: x" for n in range(10_000)))),
        "a file name of 9,000 characters": a_body(a_file(png(8, 8), "x" * 9000)),
        "headers that never end": b"--" + BOUNDARY.encode() + b"\r\nX: " + b"x" * 100_000,
    }
    for what, body in bodies.items():
        reply = await upload(client, f"{case}/artifacts", body)
        assert (reply.status, reply.code) == (413, "too_large"), what
    await nothing_stored(case)


async def test_random_bytes_are_refused(client, case_url, nothing_stored):
    case, chance = await case_url(), random.Random(2)
    for size in (1, 1000, 300_000):
        reply = await upload(client, f"{case}/artifacts", chance.randbytes(size))
        assert (reply.status, reply.code) == (400, "malformed_body")
    await nothing_stored(case)


async def test_preamble_and_epilogue_count_towards_the_maximum_size(start, case_url, client, nothing_stored):
    small, case = await start(artifacts={"max_file_size": 1000}), await case_url()
    endless = chunked(b"x" * 100_000, 100_000)[:-5]
    for path in ("artifacts", "artifacts/batch"):
        for first in (b"", chunked(single(b"x", "a.txt"))[:-5]):
            async with connect(small) as connection:
                reply = asyncio.create_task(connection.reply())
                with suppress(ConnectionError):
                    await connection.send(head(small, f"{case}/{path}", None) + first)
                    for _ in range(40):
                        await connection.send(endless)
                assert ((await reply).status, reply.result().code) == (413, "too_large")
    await nothing_stored(case)


async def test_preamble_and_epilogue_are_ignored(client, case_url, stored_files):
    body = b"This is a message with multiple parts.\r\n" + single(png(8, 8)) + b"\0" * 100_000
    reply = await upload(client, f"{await case_url()}/artifacts", body)
    assert reply.status == 201 and len(stored_files()) == 1


# --- chunked encoding and slow clients ----------------------------------------------------------------------


async def test_chunked_bodies_are_stored(client, case_url, stored_files, storage):
    case, content = await case_url(), png(100, 100)
    body = single(content)
    async with connect(client) as connection:
        for size in (1, 100, 7000, len(body)):  # all on one connection
            await connection.send(head(client, f"{case}/artifacts", None) + chunked(body, size))
            assert (await connection.reply()).status == 201
    assert [(storage / name).read_bytes() for name in stored_files()] == [content]


async def test_a_body_sent_byte_by_byte_is_stored(client, case_url, stored_files, storage):
    content = png(8, 8)
    body = single(content)
    async with connect(client) as connection:
        await connection.send(head(client, f"{await case_url()}/artifacts", len(body)))
        for at in range(len(body)):
            await connection.send(body[at : at + 1])
            await asyncio.sleep(0)
        assert (await connection.reply()).status == 201
    assert [(storage / name).read_bytes() for name in stored_files()] == [content]


async def test_malformed_chunks_are_refused(client, case_url, nothing_stored):
    case, body = await case_url(), single(png(50, 50))
    good = chunked(body)
    broken = {
        "no size": b"hello\r\n" + good,
        "negative size": b"-5\r\nhello\r\n" + good,
        "no line end after a chunk": good.replace(b"\r\n", b"xx", 2),
        "in the middle": good[:1500] + b"zz\r\n" + good[1500:],
        "giant size": b"ffffffffffffffffff\r\n" + good,
    }
    for what, data in broken.items():
        async with connect(client) as connection:
            await connection.send(head(client, f"{case}/artifacts", None) + data)
            reply = await connection.reply()
            assert reply.status == 400, what
    async with connect(client) as connection:  # the body ends before the last chunk
        await connection.send(head(client, f"{case}/artifacts", None) + good[:-5])
        connection.writer.write_eof()
        reply = await connection.reader.read()
        assert reply == b"" or reply.startswith(b"HTTP/1.1 400")
    await nothing_stored(case)


@pytest.mark.parametrize("more", [b"zz\r\n" * 10, b""], ids=["broken chunks", "silence"])
async def test_a_body_that_stalls_is_refused_after_body_timeout(start, case_url, nothing_stored, more):
    """Malformed chunks end the same way: aiohttp does not report them to a handler that waits for data."""
    case, body = await case_url(), single(png(50, 50))
    impatient = await start(server={"body_timeout": 0.3})
    async with connect(impatient) as connection:
        await connection.send(head(impatient, f"{case}/artifacts", None) + chunked(body)[:1500])
        await asyncio.sleep(0.1)  # long enough for the handler to wait for more
        await connection.send(more)
        reply = await connection.reply()
        assert (reply.status, reply.code) == (408, "body_timeout")
        assert await connection.reader.read() == b""
    await nothing_stored(case)


async def test_a_client_that_sends_malformed_chunks_and_disconnects_leaves_nothing(client, case_url, nothing_stored):
    case, body = await case_url(), single(png(50, 50))
    for broken in (b"zz\r\n", b"3\r\nabcdef", b"-1\r\n"):
        async with connect(client) as connection:
            await connection.send(head(client, f"{case}/artifacts", None) + chunked(body)[:1500])
            await asyncio.sleep(0.05)
            await connection.send(broken)
    await nothing_stored(case)


async def test_two_pipelined_uploads_on_one_connection_are_stored(client, case_url, stored_files):
    case, bodies = await case_url(), [single(png(8, 8, seed)) for seed in range(2)]
    async with connect(client) as connection:
        await connection.send(b"".join(head(client, f"{case}/artifacts", len(body)) + body for body in bodies))
        replies = [await connection.reply() for _ in bodies]
    assert [reply.status for reply in replies] == [201, 201]
    assert len({json.loads(reply.body)["id"] for reply in replies}) == len(stored_files()) == 2


async def test_a_refused_file_leaves_the_connection_usable(client, case_url):
    case = await case_url()
    bad, good = single(b"", "a.png"), single(png(8, 8))
    async with connect(client) as connection:
        for body, status in [(bad, 422), (good, 201)]:
            await connection.send(head(client, f"{case}/artifacts", len(body)) + body)
            assert (await connection.reply()).status == status
