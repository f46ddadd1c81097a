"""Overload, slow clients, a slow database and a stalled or full disk: which requests are refused, and which go on."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest
from aiohttp import web

from server.http import decode
from server.services import SERVICES
from tests.api.test_artifacts_raw import connect, head
from tests.forms import CONTENT_TYPE, a_field, batch, single
from tests.makers import png
from tests.up_server import CHECKOUT, PATIENCE

BIG = png(900, 900)


def a_step(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"step_number": number, "step_type": "click", "action": "Click", **fields}


MIB = 1 << 20


@pytest.fixture
def new_case():
    """await new_case(client): the URL of a new test case result on that server."""

    async def make(client) -> str:
        run = await (await client.post("/api/v1/reports/suite-runs", json={"name": "nightly"})).json()
        cases = f"/api/v1/reports/suite-runs/{run['id']}/test-cases"
        case = await (await client.post(cases, json={"name": "x"})).json()
        return f"/api/v1/reports/test-case-results/{case['id']}"

    return make


class Half:
    """An upload whose first half is sent. With `lively`, one more byte every 0.1 s: it does not count as slow."""

    def __init__(self, connection, rest: bytes, lively: bool) -> None:
        self.connection, self.rest = connection, rest
        self.feeding = asyncio.create_task(self.feed() if lively else asyncio.sleep(0))

    async def feed(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            await self.connection.send(self.rest[:1])
            self.rest = self.rest[1:]

    async def finish(self) -> int:
        """Send the rest and return the status of the reply."""
        self.feeding.cancel()
        await self.connection.send(self.rest)
        return (await self.connection.reply()).status


@asynccontextmanager
async def half_sent(client, case, body, lively: bool = True):
    middle = len(body) // 2
    async with connect(client) as connection:
        await connection.send(head(client, f"{case}/artifacts", len(body)) + body[:middle])
        half = Half(connection, body[middle:], lively)
        try:
            yield half
        finally:
            half.feeding.cancel()


async def until(condition, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def upload(client, case, step: int):
    body = single(png(20, 20, seed=step), step_number=step)
    return await client.post(f"{case}/artifacts", data=body, headers={"Content-Type": CONTENT_TYPE})


async def overloaded(reply) -> bool:
    """Whether this is the reply to a request that overload refused."""
    found = (reply.status, (await reply.json())["code"], reply.headers["Retry-After"])
    return found == (503, "overloaded", "1")


# --- overload -----------------------------------------------------------------------------------------------


async def test_an_upload_above_max_uploads_is_refused_before_its_body(start, new_case, stored_files):
    client = await start(server={"max_uploads": 2, "min_body_rate": 1})
    case, admission = await new_case(client), client.app[SERVICES].admission
    async with half_sent(client, case, single(BIG, step_number=1)) as first:
        async with half_sent(client, case, single(BIG, step_number=2)):
            await until(lambda: admission.uploads == 2)
            async with connect(client) as third:
                await third.send(head(client, f"{case}/artifacts", 10 * MIB, "Expect: 100-continue"))
                reply = await third.reply()
                assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "overloaded", "1")
                assert reply.headers["connection"] == "close" and await third.closes()
            assert await overloaded(await upload(client, case, 3))
            # Requests that are not uploads go on.
            assert (await client.post(f"{case}/steps", json={"steps": [a_step()]})).status == 201
            assert (await client.get(f"{case}/artifacts")).status == 200
        await until(lambda: admission.uploads == 1)
        assert (await upload(client, case, 3)).status == 201
        assert await first.finish() == 201
    await until(lambda: admission.uploads == 0)
    assert admission.refused_uploads == 2 and len(stored_files()) == 2


async def test_overload_is_checked_after_the_token_and_before_the_request_is_validated(start, new_case):
    client = await start(server={"max_uploads": 1, "min_body_rate": 1})
    case = await new_case(client)
    async with half_sent(client, case, single(BIG)):
        await until(lambda: client.app[SERVICES].admission.uploads == 1)
        assert await overloaded(await client.post(f"{case}/artifacts", data=b"no form"))
        reply = await client.post(f"{case}/artifacts", data=b"", headers={"Authorization": "Bearer wrong"})
        assert reply.status == 401


async def test_an_upload_releases_its_slot_however_it_ends(start, new_case):
    client = await start(server={"max_uploads": 1, "min_body_rate": 1})
    case, form = await new_case(client), {"Content-Type": CONTENT_TYPE}
    for body, status in [(b"garbage", 400), (single(b"", "a.png"), 422), (single(b"MZ\0", "a.exe", "x/y"), 415)]:
        assert (await client.post(f"{case}/artifacts", data=body, headers=form)).status == status
    missing = case[:-12] + "0" * 12
    assert (await client.post(f"{missing}/artifacts", data=single(BIG), headers=form)).status == 404
    assert (await client.post(f"{case}/artifacts", data=b"x")).status == 415
    for _ in range(3):
        async with half_sent(client, case, single(BIG)):
            await until(lambda: client.app[SERVICES].admission.uploads == 1)
        await until(lambda: client.app[SERVICES].admission.uploads == 0)
    assert (await upload(client, case, 1)).status == 201
    assert client.app[SERVICES].admission.memory == 0


async def test_an_upload_of_a_slow_client_takes_no_slot(start, new_case):
    client = await start(server={"max_uploads": 1})
    case, admission = await new_case(client), client.app[SERVICES].admission
    async with half_sent(client, case, single(BIG, step_number=1), lively=False) as slow:
        await until(lambda: admission.uploads == 1)
        await until(lambda: admission.uploads == 0)
        assert (await upload(client, case, 2)).status == 201
        assert await slow.finish() == 201
    await until(lambda: admission.uploads == 0)


async def test_bodies_above_body_memory_are_refused(start, new_case):
    """The buffer of the first upload uses up the memory for bodies."""
    client = await start(server={"body_memory": 300 << 10})
    case, admission = await new_case(client), client.app[SERVICES].admission
    long = {"steps": [a_step(number, description="x" * 10_000) for number in range(1, 40)]}
    async with half_sent(client, case, single(b"\n" * (400 << 10), "a.txt", "text/plain")) as first:
        await until(lambda: admission.memory >= 150 << 10)
        admission._max_memory = admission.memory
        assert await overloaded(await upload(client, case, 3))
        assert await overloaded(await client.post(f"{case}/steps", json=long))
        assert (await client.post(f"{case}/steps", json={"steps": [a_step()]})).status == 201  # small bodies always fit
        assert await first.finish() == 201
    assert (admission.memory, admission.refused_memory) == (0, 2)
    assert (await client.put(f"{case}/steps", json=long)).status == 200
    assert admission.memory == 0


async def test_requests_leave_nothing_to_the_garbage_collector(start, new_case):
    """Otherwise it runs all the time, for 12 µs of each request, and bodies stay in memory until then."""
    client = await start()
    case = await new_case(client)

    async def requests() -> int:
        for number in range(3):
            assert (await client.post(f"{case}/steps", json={"steps": [a_step(number + 1)]})).status in {201, 409}
            assert (await upload(client, case, number + 1)).status == 201
            assert (await (await client.get(f"{case}/steps")).json())["steps"]
            assert (await client.get(f"{case}/nothing")).status == 404
        return sum(isinstance(each, web.Request) for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        assert await requests() <= 2  # of the last ones, whose connections are open
    finally:
        gc.enable()


async def test_large_json_bodies_are_refused_when_memory_runs_out(start, new_case):
    """A body with Content-Length is refused before it is read. A chunked body is refused while it arrives, and so is
    one whose request began while there was still memory."""
    client = await start(server={"body_memory": 4 * MIB, "min_body_rate": 1})
    case, admission = await new_case(client), client.app[SERVICES].admission
    body = b'{"steps": []' + b" " * (2 * MIB) + b"}"  # two of these exceed body_memory

    @asynccontextmanager
    async def begun(chunked: bool = False):
        async with connect(client) as connection:
            length = None if chunked else len(body)
            sent = head(client, f"{case}/steps", length, content_type="application/json")
            await connection.send(sent.replace(b"POST ", b"PUT ", 1))
            yield connection

    async with begun() as first, begun() as early:
        await first.send(body[:-1])
        await until(lambda: admission.memory == len(body) - 1)
        async with begun() as second:
            reply = await second.reply()
            assert (reply.status, reply.code) == (503, "overloaded")
        with suppress(ConnectionError):
            await early.send(body + b" " * 100)
        reply = await early.reply()
        assert (reply.status, reply.code) == (503, "overloaded")
        async with begun(chunked=True) as third:
            with suppress(ConnectionError):
                for start_ in range(0, len(body), 64 << 10):
                    chunk = body[start_ : start_ + (64 << 10)]
                    await third.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            reply = await third.reply()
            assert (reply.status, reply.code) == (503, "overloaded")
        await first.send(body[-1:])
        assert (await first.reply()).status == 200
    await until(lambda: admission.memory == 0)
    assert admission.refused_memory == 3


async def test_a_large_json_body_counts_as_memory_until_its_request_ends(start, new_case, dsn):
    """What is made of it waits for the lock of the test case: otherwise any number of them could."""
    client = await start(server={"body_memory": MIB})
    case, admission = await new_case(client), client.app[SERVICES].admission
    steps = {"steps": [a_step(number, description="x" * 10_000) for number in range(1, 70)]}
    async with locked(dsn, case):
        waiting = asyncio.create_task(client.put(f"{case}/steps", json=steps))
        await until(lambda: admission.memory > 690_000 and client.app[SERVICES].pool.in_use)
        await asyncio.sleep(0.1)  # it has been decoded
        assert admission.memory > 690_000
        assert await overloaded(await client.put(f"{case}/steps", json=steps))
    assert (await waiting).status == 200
    await until(lambda: admission.memory == 0)


async def test_the_fields_of_a_form_count_as_memory(start, new_case):
    client = await start()
    case, admission = await new_case(client), client.app[SERVICES].admission
    fields = b"".join(a_field(f"field_{n}", "x" * 60_000) for n in range(50))
    async with half_sent(client, case, fields + single(BIG), lively=False):
        await until(lambda: admission.memory > MIB)
    await until(lambda: admission.memory == 0)


async def test_concurrent_uploads_use_little_more_than_body_memory(start, new_case):
    client = await start(server={"body_memory": 2 * MIB})
    case, admission = await new_case(client), client.app[SERVICES].admission
    most, done = 0, asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, admission.memory)
            await asyncio.sleep(0)

    async def send(number: int) -> int:
        async with half_sent(client, case, single(png(900, 900, seed=number), step_number=number)) as half:
            return await half.finish()

    watching = asyncio.create_task(watch())
    statuses = await asyncio.gather(*(send(number) for number in range(20)))
    done.set()
    await watching
    assert set(statuses) <= {201, 503} and 201 in statuses
    assert MIB // 2 < most < 2 * MIB + 20 * (256 << 10), most  # 20 buffers of 1 MiB would be 20 MiB
    assert admission.memory == 0


# --- slow clients -------------------------------------------------------------------------------------------


async def test_a_client_below_min_body_rate_is_refused_and_one_that_pauses_is_not(start, new_case, stored_files):
    client = await start(server={"body_timeout": 0.8, "min_body_rate": 100_000})
    case = await new_case(client)
    content = b"\n" * 400_000
    body = single(content, "a.txt", "text/plain")

    async def send(pieces: int, pause: float):
        async with connect(client) as connection:
            await connection.send(head(client, f"{case}/artifacts", len(body)))
            for start_ in range(0, len(body), len(body) // pieces + 1):
                await connection.send(body[start_ : start_ + len(body) // pieces + 1])
                await asyncio.sleep(pause)
            return await connection.reply()

    async def trickle():
        async with connect(client) as connection:
            await connection.send(head(client, f"{case}/artifacts", len(body)))
            reply = asyncio.create_task(connection.reply())
            for byte in body:
                await connection.send(bytes([byte]))
                await asyncio.sleep(0.01)
                if reply.done():
                    return await reply

    pausing, trickling = await asyncio.gather(send(4, 0.3), trickle())
    assert pausing.status == 201
    assert (trickling.status, trickling.code, trickling.headers["connection"]) == (408, "body_timeout", "close")
    assert len(stored_files()) == 1
    assert client.app[SERVICES].admission.memory == client.app[SERVICES].admission.uploads == 0


@pytest.mark.parametrize("what", ["json", "upload"])
@pytest.mark.parametrize("client_", ["leaves", "is too slow"])
async def test_the_memory_of_a_truncated_body_is_freed_at_once(start, new_case, what, client_):
    client = await start(server={"body_timeout": 0.5 if "slow" in client_ else 60.0})
    case = await new_case(client)
    target = f"{case}/artifacts" if what == "upload" else "/api/v1/reports/suite-runs"
    part = single(b"\n" * MIB, "a.txt", "text/plain")[:MIB] if what == "upload" else b" " * MIB

    def bodies():
        return sum(isinstance(found, decode.Body) for found in gc.get_objects())

    gc.collect()
    gc.disable()  # bodies must not wait for the garbage collector, which counts objects and not their size
    try:
        async with connect(client) as connection:
            await connection.send(head(client, target, 2 * MIB) + part)
            await until(lambda: bodies() == 1)
            if "slow" in client_:
                assert (await connection.reply()).status == 408
        await until(lambda: client.app[SERVICES].admission.requests == 0)
        assert bodies() == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: "])
async def test_a_connection_without_a_complete_request_head_is_closed(start, sent):
    client = await start(server={"idle_timeout": 0.5})
    async with connect(client) as connection:
        for at in range(len(sent)):
            await connection.send(sent[at : at + 1])
        assert await connection.closes()


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(start):
    client = await start(server={"idle_timeout": 0.5})
    async with connect(client) as connection:
        for _ in range(4):
            await connection.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await connection.reply()).status == 200
            await asyncio.sleep(0.2)
        assert await connection.closes()


@pytest.mark.parametrize("what", ["one large download", "many small ones", "a long list"])
async def test_a_client_that_does_not_read_its_reply_is_disconnected(start, new_case, what):
    client = await start(server={"body_timeout": 0.5}, artifacts={"max_file_size": 64 * MIB})
    case = await new_case(client)
    size, times = {"one large download": (40 * MIB, 1), "many small ones": (200_000, 200)}.get(what, (1, 1))
    body = single(b"\n" * size, "a.txt", "text/plain")
    reply = await client.post(f"{case}/artifacts", data=body, headers={"Content-Type": CONTENT_TYPE})
    url = (await reply.json())["download_url"]
    if what == "a long list":
        url = f"{case}/console-logs?per_page=500"
        for _ in range(3):
            entries = [{"level": "info", "message": "x" * 100_000} for _ in range(150)]
            assert (await client.post(f"{case}/console-logs", json={"entries": entries})).status == 201
    request = f"GET {url} HTTP/1.1\r\nHost: x\r\nAuthorization: {client.session.headers['Authorization']}\r\n\r\n"
    server = client.server.runner.server
    before = len(server.connections)
    _, writer = await asyncio.open_connection(client.host, client.port, limit=1024)
    writer.transport.pause_reading()
    writer.write(request.encode() * times)
    await until(lambda: len(server.connections) == before + 1)
    await until(lambda: len(server.connections) == before)
    writer.close()


# --- a slow database ----------------------------------------------------------------------------------------


@asynccontextmanager
async def locked(dsn, case):
    """Lock the row of the test case, so that every write to it waits."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("SELECT 1 FROM test_case_results WHERE id = %s FOR UPDATE", [case.rpartition("/")[2]])
        yield
        await connection.rollback()


async def test_waiting_longer_than_pool_timeout_for_a_connection_is_a_503(only_requests, start, new_case, dsn):
    client = await start(database={"pool_size": 2, "pool_timeout": 0.3})
    case = await new_case(client)
    await client.get(case)
    async with locked(dsn, case):
        writers = [asyncio.create_task(client.put(f"{case}/steps", json={"steps": [a_step(n)]})) for n in range(2)]
        await until(lambda: client.app[SERVICES].pool.in_use == 2)
        reply = await client.get(case)
        assert (reply.status, (await reply.json())["code"]) == (503, "database_unavailable")
        assert int(reply.headers["Retry-After"]) >= 1
    assert [(await writer).status for writer in writers] == [200, 200]
    assert (await client.get(case)).status == 200


async def test_a_request_that_finds_a_long_queue_for_connections_is_refused_at_once(
    only_requests, start, new_case, dsn
):
    client = await start(database={"pool_size": 1, "pool_timeout": 60})
    case, pool = await new_case(client), client.app[SERVICES].pool
    async with locked(dsn, case):
        writer = asyncio.create_task(client.put(f"{case}/steps", json={"steps": [a_step()]}))
        await until(lambda: pool.in_use == 1)
        readers = [asyncio.create_task(client.get(case)) for _ in range(25)]
        await until(lambda: pool.waiting == 25)
        assert await overloaded(await client.get(case))
    assert (await writer).status == 200
    assert {(await reader).status for reader in readers} == {200}
    assert (pool.in_use, pool.waiting, pool.refused) == (0, 0, 1)


# --- a stalled disk -----------------------------------------------------------------------------------------


@pytest.fixture
def stall(monkeypatch):
    """stall("link"): from now on os.link blocks. stall.end(): all blocked calls go on."""

    class Stall:
        def __init__(self) -> None:
            self.over = threading.Event()
            self.over.set()

        def __call__(self, name: str) -> None:
            original = getattr(os, name)
            self.over.clear()

            def waiting(*arguments, **options):
                self.over.wait(60)
                return original(*arguments, **options)

            monkeypatch.setattr(os, name, waiting)

        def end(self) -> None:
            self.over.set()

    stalled = Stall()
    yield stalled
    stalled.end()


@pytest.mark.parametrize("call", ["writev", "fdatasync", "link", "fsync"])
async def test_a_stalled_disk_makes_only_uploads_and_downloads_fail(start, new_case, stall, stored_files, rows, call):
    client = await start(
        artifacts={"file_timeout": 0.5, "durability": "full"}, database={"pool_size": 4, "pool_timeout": 3}
    )
    case, storage = await new_case(client), client.app[SERVICES].storage
    before = await (await upload(client, case, 0)).json()
    stall(call)
    replies = [asyncio.create_task(upload(client, case, step)) for step in range(1, 12)]
    while not all(reply.done() for reply in replies):
        put = await client.put(f"{case}/steps", json={"steps": [a_step()]})
        assert put.status == 200 and (await client.get(f"{case}/steps")).status == 200
        await asyncio.sleep(0.05)
    for reply in replies:
        body = await (await reply).json()
        assert ((await reply).status, body["code"]) in {(503, "storage_unavailable"), (503, "overloaded")}
        assert int((await reply).headers["Retry-After"]) >= 1
    more = 0
    while not storage.stalled:  # one storage thread after the other, until all are blocked
        more += 1
        assert (await upload(client, case, 20 + more)).status == 503 and more < 50
    assert (await client.get(before["download_url"])).status == 503  # at once, since no thread is free
    assert (await client.get("/readyz")).status == 503
    assert (await client.get(case)).status == 200
    stall.end()
    await until(lambda: not storage.stalled)
    assert (await client.get(before["download_url"])).status == 200
    assert (await client.get("/readyz")).status == 200
    assert (await upload(client, case, 99)).status == 201
    # The files that the blocked threads wrote later are removed. Those of the two accepted uploads remain.
    await until(lambda: len(stored_files()) == 2)
    assert len(rows("SELECT 1 FROM test_artifacts")) == 2
    assert list(storage.staging.iterdir()) == []


async def test_a_stalled_disk_is_detected_when_clients_disconnect(start, new_case, stall):
    """The threads that clean up after them are blocked, too."""
    client = await start(artifacts={"file_timeout": 0.5})
    case, storage = await new_case(client), client.app[SERVICES].storage
    for name in ("writev", "unlink", "statvfs"):
        stall(name)
    for _ in range(3):
        async with half_sent(client, case, single(b"\n" * (3 * MIB), "a.txt", "text/plain"), lively=False):
            await asyncio.sleep(0.1)
    for step in range(30):
        assert (await upload(client, case, step)).status == 503
        await client.get("/metrics")
        if storage.stalled:
            break
    refused = storage.refused
    assert storage.stalled and (await upload(client, case, 99)).status == 503 and storage.refused == refused + 1
    await client.get("/metrics")
    await client.get("/readyz")
    assert storage.refused == refused + 1  # /metrics and /readyz do not count as refused requests
    stall.end()
    await until(lambda: not storage.stalled and list(storage.staging.iterdir()) == [])
    assert (await upload(client, case, 99)).status == 201


def test_a_process_can_exit_while_a_storage_thread_is_blocked(tmp_path):
    code = """if True:
        import asyncio, sys, time
        from server.storage.folder import Storage, StorageAway
        async def main():
            storage = Storage(sys.argv[1], file_timeout=0.1)
            storage.open()
            try:
                await storage.run(time.sleep, 3600)
            except StorageAway:
                print("given up", flush=True)
        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "x"], cwd=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "given up\n", "")


async def test_a_server_can_shut_down_while_its_disk_is_stalled(start, new_case, stall):
    client = await start(artifacts={"file_timeout": 0.3})
    case = await new_case(client)
    stall("writev")
    assert (await upload(client, case, 1)).status == 503
    async with asyncio.timeout(30):
        await client.server.close()
    stall.end()


# --- a full disk --------------------------------------------------------------------------------------------


async def test_an_upload_that_would_leave_less_than_min_free_bytes_is_refused(start, new_case, stored_files, rows):
    client = await start(artifacts={"min_free_bytes": 1 << 49})
    case = await new_case(client)
    reply = await upload(client, case, 1)
    body = await reply.json()
    assert (reply.status, body["code"], body["detail"]) == (507, "storage_full", "Storage is full")
    assert (await client.post(f"{case}/steps", json={"steps": [a_step()]})).status == 201
    assert stored_files() == [] and rows("SELECT 1 FROM test_artifacts") == []


async def test_a_file_larger_than_the_space_left_is_refused_and_a_smaller_one_is_stored(start, new_case, monkeypatch):
    """Simulates a disk with 1 MiB more than min_free_bytes."""
    client = await start(artifacts={"min_free_bytes": 1 << 30})
    case = await new_case(client)
    found = os.statvfs(client.app[SERVICES].storage.root)
    free = os.statvfs_result((*found[:4], ((1 << 30) + MIB) // found.f_frsize, *found[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: free)
    body = batch([(png(900, 900), "big.png"), (png(20, 20), "small.png")])
    reply = await client.post(f"{case}/artifacts/batch", data=body, headers={"Content-Type": CONTENT_TYPE})
    result = await reply.json()
    assert reply.status == 207, result
    assert [item["file_name"] for item in result["artifacts"]] == ["small.png"]
    assert [(item["file_name"], item["error"]) for item in result["failed"]] == [("big.png", "Storage is full")]


# --- metrics ------------------------------------------------------------------------------------------------


async def metrics(client) -> dict[str, float]:
    """The values in /metrics, by name with labels."""
    text = await (await client.get("/metrics")).text()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


async def test_metrics_show_requests_in_progress_and_refused_requests(only_requests, start, new_case, dsn):
    client = await start(server={"max_uploads": 1, "min_body_rate": 1}, database={"pool_size": 1, "pool_timeout": 60})
    case = await new_case(client)
    before = await metrics(client)
    async with half_sent(client, case, single(BIG)):
        await until(lambda: client.app[SERVICES].admission.uploads == 1)
        assert await overloaded(await upload(client, case, 1))
        now = await metrics(client)
        assert now["reportd_uploads_in_progress"] == 1
        assert now["reportd_connections"] == len(client.server.runner.server.connections) >= 2
    async with locked(dsn, case):
        writer = asyncio.create_task(client.put(f"{case}/steps", json={"steps": [a_step()]}))
        await until(lambda: client.app[SERVICES].pool.in_use == 1)
        readers = [asyncio.create_task(client.get(case)) for _ in range(25)]
        await until(lambda: client.app[SERVICES].pool.waiting == 25)
        assert await overloaded(await client.get(case))
        now = await metrics(client)
        assert now['reportd_pool_connections{state="in_use"}'] == 1
        assert now['reportd_pool_connections{state="waiting"}'] == 25
    await asyncio.gather(writer, *readers)
    await until(lambda: client.app[SERVICES].admission.uploads == 0)
    after = await metrics(client)
    assert after["reportd_uploads_in_progress"] == after['reportd_pool_connections{state="in_use"}'] == 0
    assert after['reportd_pool_connections{state="idle"}'] == 1
    increases = {
        reason: after[name] - before[name]
        for reason in ("uploads", "memory", "connections", "storage")
        if (name := f'reportd_overload_refusals_total{{reason="{reason}"}}')
    }
    assert increases == {"uploads": 1, "memory": 0, "connections": 1, "storage": 0}
