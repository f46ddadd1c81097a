"""Uploads over plain sockets: bodies that are broken, endless, cut, announced or withheld. Nothing of them stays."""

import asyncio
import json
import logging
import random
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

import pytest
from aiohttp.http_exceptions import HttpProcessingError

from tests.forms import BOUNDARY, CONTENT_TYPE, a_body, a_field, a_file, a_part, batch, post, single
from tests.makers import png

MIB = 1 << 20


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return json.loads(self.body)["code"]


class Wire:
    """One connection to the server under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer:
        """The next response, be it an interim one (1xx, which has no body)."""
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(int(head[0].split()[1]), headers, body)

    async def ends(self) -> bool:
        """Whether the server closes the connection and says nothing more."""
        async with asyncio.timeout(10):
            with suppress(ConnectionError):
                return await self.reader.read() == b""
        return True


@asynccontextmanager
async def wire(client):
    reader, writer = await asyncio.open_connection(client.host, client.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def head(client, url: str, length: int | None, *lines: str, content_type: str | None = CONTENT_TYPE) -> bytes:
    """The head of an upload; `length` None for a chunked one. `lines` are further headers."""
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


async def ask(client, url: str, body: bytes, **options) -> Answer:
    """Sends one whole upload on a connection of its own."""
    async with wire(client) as connection:
        await connection.send(head(client, url, len(body), **options) + body)
        return await connection.answer()


async def eventually(check) -> None:
    """Waits until check() is true, for what the server does after the client has gone."""
    for _ in range(1000):
        if check():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never came true")


@pytest.fixture(autouse=True)
def no_server_errors(caplog):
    """Whatever a client does, no 5xx and no traceback: both would be found in the log."""
    caplog.set_level(logging.INFO)
    yield
    for record in caplog.get_records("call"):
        # aiohttp's parser calls what is no HTTP an error; it has its own answer and we never see it.
        not_http = record.exc_info is not None and isinstance(record.exc_info[1], HttpProcessingError)
        assert record.levelno < logging.ERROR or not_http, record.getMessage()
        if record.name == "reportd.requests" and record.msg == "%s %s %d":
            assert record.args[2] < 500, record.getMessage()


@pytest.fixture
def nothing_stayed(client, stored_files, rows):
    """await nothing_stayed(case): no file and no row, the server lives, and a good upload works."""

    async def check(case: str) -> None:
        await eventually(lambda: stored_files() == [])
        assert rows("SELECT FROM test_artifacts") == []
        assert (await client.get("/healthz")).status == 200
        status, got = await post(client, f"{case}/artifacts", single(png(8, 8)))
        assert status == 201
        assert len(stored_files()) == len(rows("SELECT FROM test_artifacts")) == 1
        assert (await client.delete(f"/api/v1/reports/artifacts/{got['id']}")).status == 204

    return check


# --- refused by the head ------------------------------------------------------------------------------------


async def test_what_is_not_multipart_is_refused_unread(client, case_url, nothing_stayed):
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
            async with wire(client) as connection:
                await connection.send(head(client, url, 100, *lines, content_type=kind))
                answer = await connection.answer()
                assert (answer.status, answer.code) == (415, "not_multipart"), (kind, lines)
                assert answer.headers["connection"] == "close"
                assert answer.headers["cache-control"] == "no-store" and answer.headers["x-request-id"]
    await nothing_stayed(case)


async def test_a_compression_that_we_do_not_know_is_refused_alike(client, case_url, nothing_stayed):
    case, body = await case_url(), single(png(8, 8))
    async with wire(client) as connection:
        await connection.send(head(client, f"{case}/artifacts", len(body), "Content-Encoding: br") + body)
        answer = await connection.answer()
        assert answer.status == 415 and answer.code == "not_multipart"
    await nothing_stayed(case)


async def test_bad_boundaries(client, case_url, nothing_stayed):
    case = await case_url()
    for parameter in ("", "; boundary", "; boundary=", '; boundary=""', f"; boundary={'x' * 71}", '; boundary="ü"'):
        answer = await ask(
            client, f"{case}/artifacts", single(png(8, 8)), content_type=f"multipart/form-data{parameter}"
        )
        assert (answer.status, answer.code) == (400, "malformed_body"), parameter
    await nothing_stayed(case)


async def test_a_boundary_of_bytes_that_are_no_utf8(client, case_url, nothing_stayed):
    case = await case_url()
    answer = await ask(
        client, f"{case}/artifacts", single(png(8, 8)), content_type="multipart/form-data; boundary=\udcff\udcfe"
    )
    assert (answer.status, answer.code) == (400, "malformed_body")
    await nothing_stayed(case)


async def test_a_body_above_the_budget_is_refused_unread(client, case_url, nothing_stayed):
    case = await case_url()
    for path, budget in [("artifacts", 11 * MIB), ("artifacts/batch", 502 * MIB)]:
        async with wire(client) as connection:
            await connection.send(head(client, f"{case}/{path}", budget + 1))
            answer = await connection.answer()
            assert (answer.status, answer.code) == (413, "too_large")
            assert answer.headers["connection"] == "close"
            connection.writer.write_eof()
            assert await connection.ends()
    await nothing_stayed(case)


@pytest.mark.parametrize("status", [401, 404, 413, 415])
async def test_a_client_that_keeps_sending_can_read_its_refusal(client, case_url, nothing_stayed, status):
    case = await case_url()
    url = f"/api/v1/reports/test-case-results/{uuid4()}/artifacts" if status == 404 else f"{case}/artifacts"
    asked = head(
        client, url, (20 if status == 413 else 5) * MIB, content_type="text/plain" if status == 415 else CONTENT_TYPE
    )
    if status == 401:
        asked = asked.replace(b"Bearer rpt_", b"Bearer xxx_")
    async with wire(client) as connection:
        answer = asyncio.create_task(connection.answer())
        with suppress(ConnectionError):
            await connection.send(asked + a_file(b"")[:-2])
            for _ in range(5 * 64):
                await connection.send(b"x" * (16 << 10))
        assert (await answer).status == status
        assert answer.result().headers["connection"] == "close"
    await nothing_stayed(case)


async def test_a_client_that_sends_everything_before_it_reads_is_not_reset(client, case_url, nothing_stayed):
    case = await case_url()
    url = f"/api/v1/reports/test-case-results/{uuid4()}/artifacts"
    async with wire(client) as connection:
        await connection.send(head(client, url, 800_000))
        for _ in range(8):  # below the 1 MiB that is discarded
            await asyncio.sleep(0.02)
            await connection.send(b"x" * 100_000)
        answer = await connection.answer()
        assert (answer.status, answer.headers["connection"]) == (404, "close")
    await nothing_stayed(case)


async def test_an_unknown_test_case_is_known_before_the_body(client, case_url, nothing_stayed):
    for unknown in (uuid4(), "nonsense"):
        async with wire(client) as connection:
            url = f"/api/v1/reports/test-case-results/{unknown}/artifacts/batch"
            await connection.send(head(client, url, 100 * MIB))
            answer = await connection.answer()
            assert (answer.status, answer.code) == (404, "test_case_result_not_found")
            assert answer.headers["connection"] == "close"
    await nothing_stayed(await case_url())


async def test_no_token_is_known_before_the_body(client, case_url, nothing_stayed):
    case = await case_url()
    for token in (
        "",
        "Authorization: Bearer rpt_wrong\r\n",
        "Authorization: Basic abc\r\n",
        "Authorization: Bearer\r\n",
    ):
        async with wire(client) as connection:
            await connection.send(
                f"POST {case}/artifacts HTTP/1.1\r\nHost: x\r\n{token}"
                f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: 1000000\r\n\r\n".encode()
            )
            answer = await connection.answer()
            assert (answer.status, answer.code) == (401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer" and answer.headers["connection"] == "close"
    await nothing_stayed(case)


# --- Expect: 100-continue -----------------------------------------------------------------------------------

EXPECT = "Expect: 100-continue"


async def test_nobody_is_told_to_go_on_in_vain(client, case_url, nothing_stayed):
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
        for status, asked in refused.items():
            async with wire(client) as connection:
                await connection.send(asked)
                assert (await connection.answer()).status == status
    await nothing_stayed(case)


async def test_nobody_is_told_to_go_on_where_nothing_is(client, case_url):
    case = await case_url()
    for status, method, url in [(404, "POST", f"{case}/nothing"), (405, "PUT", f"{case}/artifacts")]:
        async with wire(client) as connection:
            await connection.send(head(client, url, 1000, EXPECT).replace(b"POST", method.encode()))
            assert (await connection.answer()).status == status


async def test_a_good_client_is_told_to_go_on(client, case_url, stored_files):
    case, body = await case_url(), single(png(8, 8))
    for number, word in enumerate([EXPECT, "expect: 100-Continue"]):
        async with wire(client) as connection:
            await connection.send(head(client, f"{case}/artifacts", len(body), word))
            assert (await connection.answer()) == Answer(100, {}, b"")
            await connection.send(body)
            answer = await connection.answer()
            assert (answer.status, json.loads(answer.body)["duplicate"]) == (201, number > 0)
    assert len(stored_files()) == 1


async def test_a_client_that_does_not_wait_is_served_too(client, case_url):
    body = single(png(8, 8))
    async with wire(client) as connection:
        await connection.send(head(client, f"{await case_url()}/artifacts", len(body), EXPECT) + body)
        assert [(await connection.answer()).status for _ in range(2)] == [100, 201]


async def test_a_client_that_leaves_after_100(client, case_url, nothing_stayed):
    case = await case_url()
    async with wire(client) as connection:
        await connection.send(head(client, f"{case}/artifacts", 1000, EXPECT))
        assert (await connection.answer()).status == 100
    await nothing_stayed(case)


# --- bodies that end too early ------------------------------------------------------------------------------


async def test_a_missing_final_boundary(client, case_url, nothing_stayed):
    case = await case_url()
    for body in (single(png(8, 8)), batch([(png(8, 8), "a.png"), (png(9, 9), "b.png")])):
        path = "artifacts/batch" if b"metadata" in body else "artifacts"
        whole = body.rindex(b"--")  # without the two hyphens it is an ordinary boundary
        for cut in (body[:whole], body[: whole - 5], body[: len(body) // 2], body[:40], b""):
            answer = await ask(client, f"{case}/{path}", cut)
            assert (answer.status, answer.code) == (400, "malformed_body"), (path, len(cut))
    await nothing_stayed(case)


@pytest.mark.parametrize("way", ["close", "reset", "half-close"])
async def test_a_client_that_leaves_in_the_middle(client, case_url, nothing_stayed, stored_files, way):
    case = await case_url()
    body = batch([(png(300, 300, seed), f"{seed}.png") for seed in range(5)])
    async with wire(client) as connection:
        await connection.send(head(client, f"{case}/artifacts/batch", len(body)) + body[: len(body) * 4 // 5])
        await eventually(lambda: len(stored_files()) >= 3)  # some of it is staged already
        if way == "reset":
            connection.writer.transport.abort()
        elif way == "half-close":
            connection.writer.write_eof()
            answer = await connection.reader.read()
            assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    await nothing_stayed(case)


async def test_200_clients_that_vanish_at_any_byte(client, case_url, nothing_stayed):
    case, chance = await case_url(), random.Random(1)
    small = batch([(png(20, 20, seed), f"{seed}.png") for seed in range(3)])
    large = batch([(png(250, 250, seed), f"{seed}.png") for seed in range(3)])
    server = client.server.runner.server

    async def vanish(number: int) -> None:
        body = large if number % 4 == 0 else small
        url, length = f"{case}/artifacts/batch", len(body) if number % 3 else None
        whole = head(client, url, length) + (body if number % 3 else chunked(body))
        async with wire(client) as connection:
            with suppress(ConnectionError):
                # Never the last bytes: without them the body is not whole.
                await connection.send(whole[: chance.randrange(len(whole) - 10)])
                await asyncio.sleep(chance.random() / 50)
                if number % 2:
                    connection.writer.transport.abort()

    for start in range(0, 200, 40):
        await asyncio.gather(*(vanish(number) for number in range(start, start + 40)))
    await eventually(lambda: len(server.connections) <= 2 and not busy_handlers(2))
    await nothing_stayed(case)


def busy_handlers(idle: int) -> int:
    """How many connections are served, but `idle` ones: the server runs in the loop of this test."""
    tasks = [task for task in asyncio.all_tasks() if task.get_coro().__qualname__ == "RequestHandler.start"]
    return max(0, len(tasks) - idle)


# --- bodies that are not what they should be ----------------------------------------------------------------


async def test_malformed_parts(client, case_url, nothing_stayed):
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
            answer = await ask(client, f"{case}/artifacts", a_body(*order))
            assert (answer.status, answer.code) == (400, "malformed_body"), what
    await nothing_stayed(case)


async def test_too_many_parts_and_giant_headers(client, case_url, nothing_stayed):
    case = await case_url()
    bodies = {
        "10,000 fields": a_body(a_file(png(8, 8)), *(a_field(f"f{n}", "x") for n in range(10_000))),
        "one giant header": a_body(a_file(png(8, 8)), a_part(b"x", "X-Long: " + "x" * 100_000)),
        "many headers": a_body(a_part(b"x", *(f"X-{n}: x" for n in range(10_000)))),
        "a file name of 9,000 characters": a_body(a_file(png(8, 8), "x" * 9000)),
        "headers that never end": b"--" + BOUNDARY.encode() + b"\r\nX: " + b"x" * 100_000,
    }
    for what, body in bodies.items():
        answer = await ask(client, f"{case}/artifacts", body)
        assert (answer.status, answer.code) == (413, "too_large"), what
    await nothing_stayed(case)


async def test_bytes_without_any_sense(client, case_url, nothing_stayed):
    case, chance = await case_url(), random.Random(2)
    for size in (1, 1000, 300_000):
        answer = await ask(client, f"{case}/artifacts", chance.randbytes(size))
        assert (answer.status, answer.code) == (400, "malformed_body")
    await nothing_stayed(case)


async def test_preambles_and_epilogues_count_as_bytes(start, case_url, client, nothing_stayed):
    small, case = await start(artifacts={"max_file_size": 1000}), await case_url()
    endless = chunked(b"x" * 100_000, 100_000)[:-5]
    for path in ("artifacts", "artifacts/batch"):
        for first in (b"", chunked(single(b"x", "a.txt"))[:-5]):
            async with wire(small) as connection:
                answer = asyncio.create_task(connection.answer())
                with suppress(ConnectionError):
                    await connection.send(head(small, f"{case}/{path}", None) + first)
                    for _ in range(40):
                        await connection.send(endless)
                assert ((await answer).status, answer.result().code) == (413, "too_large")
    await nothing_stayed(case)


async def test_an_epilogue_does_no_harm(client, case_url, stored_files):
    body = b"This is a message with multiple parts.\r\n" + single(png(8, 8)) + b"\0" * 100_000
    answer = await ask(client, f"{await case_url()}/artifacts", body)
    assert answer.status == 201 and len(stored_files()) == 1


# --- framing ------------------------------------------------------------------------------------------------


async def test_a_body_in_chunks(client, case_url, stored_files, storage):
    case, content = await case_url(), png(100, 100)
    body = single(content)
    async with wire(client) as connection:
        for size in (1, 100, 7000, len(body)):  # one connection for all
            await connection.send(head(client, f"{case}/artifacts", None) + chunked(body, size))
            assert (await connection.answer()).status == 201
    assert [(storage / name).read_bytes() for name in stored_files()] == [content]


async def test_a_body_that_comes_byte_by_byte(client, case_url, stored_files, storage):
    content = png(8, 8)
    body = single(content)
    async with wire(client) as connection:
        await connection.send(head(client, f"{await case_url()}/artifacts", len(body)))
        for at in range(len(body)):
            await connection.send(body[at : at + 1])
            await asyncio.sleep(0)
        assert (await connection.answer()).status == 201
    assert [(storage / name).read_bytes() for name in stored_files()] == [content]


async def test_broken_chunks(client, case_url, nothing_stayed):
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
        async with wire(client) as connection:
            await connection.send(head(client, f"{case}/artifacts", None) + data)
            answer = await connection.answer()
            assert answer.status == 400, what
    async with wire(client) as connection:  # no last chunk, and then nothing
        await connection.send(head(client, f"{case}/artifacts", None) + good[:-5])
        connection.writer.write_eof()
        answer = await connection.reader.read()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    await nothing_stayed(case)


@pytest.mark.parametrize("more", [b"zz\r\n" * 10, b""], ids=["broken chunks", "silence"])
async def test_a_body_that_stops_coming_is_dropped(start, case_url, nothing_stayed, more):
    """aiohttp does not tell a handler that waits of chunks that are broken: both look like silence."""
    case, body = await case_url(), single(png(50, 50))
    impatient = await start(server={"body_timeout": 0.3})
    async with wire(impatient) as connection:
        await connection.send(head(impatient, f"{case}/artifacts", None) + chunked(body)[:1500])
        await asyncio.sleep(0.1)  # long enough for the handler to wait for more
        await connection.send(more)
        answer = await connection.answer()
        assert (answer.status, answer.code) == (408, "body_timeout")
        assert await connection.reader.read() == b""
    await nothing_stayed(case)


async def test_broken_chunks_of_a_client_that_leaves(client, case_url, nothing_stayed):
    case, body = await case_url(), single(png(50, 50))
    for broken in (b"zz\r\n", b"3\r\nabcdef", b"-1\r\n"):
        async with wire(client) as connection:
            await connection.send(head(client, f"{case}/artifacts", None) + chunked(body)[:1500])
            await asyncio.sleep(0.05)
            await connection.send(broken)
    await nothing_stayed(case)


async def test_two_uploads_on_one_connection(client, case_url, stored_files):
    case, bodies = await case_url(), [single(png(8, 8, seed)) for seed in range(2)]
    async with wire(client) as connection:
        await connection.send(b"".join(head(client, f"{case}/artifacts", len(body)) + body for body in bodies))
        answers = [await connection.answer() for _ in bodies]
    assert [answer.status for answer in answers] == [201, 201]
    assert len({json.loads(answer.body)["id"] for answer in answers}) == len(stored_files()) == 2


async def test_a_refused_file_leaves_the_connection_usable(client, case_url):
    case = await case_url()
    bad, good = single(b"", "a.png"), single(png(8, 8))
    async with wire(client) as connection:
        for body, status in [(bad, 422), (good, 201)]:
            await connection.send(head(client, f"{case}/artifacts", len(body)) + body)
            assert (await connection.answer()).status == status
