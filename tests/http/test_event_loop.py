"""The event loop is never blocked for long: what each endpoint does with its worst body or reply, in CPU time.

`pytest -s -q tests/http/test_event_loop.py` prints the longest piece of work of each.
"""

import asyncio
import gc
import gzip
import http.client
import itertools
import json
import shutil
import socket
import time
from asyncio import events

import msgspec
import pytest

from server.commands.process import keep_freed_memory
from server.http import decode
from server.storage.paths import THUMBS
from tests.forms import CONTENT_TYPE, batch, post, single
from tests.makers import png

BASE = "/api/v1/reports"
JSON = "application/json"
MIB = 1 << 20
TEXT = MIB - 10
LIMIT = 0.020  # seconds of CPU time of the loop's thread, on a machine that takes 10 ms for `_machine`


def machine():
    """Seconds of CPU time for a fixed piece of work, 10 ms on the machine on which LIMIT is meant."""
    started = time.thread_time()
    sum(range(400_000))
    return time.thread_time() - started


class Watch:
    """Measures each callback of the event loop, in CPU time of its thread: load of other processes does not count."""

    def __init__(self, monkeypatch):
        self.worst, self.what, run = 0.0, "", events.Handle._run

        def timed(handle):
            started = time.thread_time()
            run(handle)
            taken = time.thread_time() - started
            if taken > self.worst:
                self.worst, self.what = taken, repr(handle)

        monkeypatch.setattr(events.Handle, "_run", timed)


@pytest.fixture
def watch(monkeypatch):
    keep_freed_memory()  # as a server does: otherwise each large block needs new pages, which takes the longest
    return Watch(monkeypatch)


def spread(unit):
    """15 texts of a little less than 1 MiB; fewer of characters that JSON escapes."""
    return [unit * (TEXT // len(unit)) for _ in range(7 if unit == '"' else 15)]


BAD = "?" + "[" * 119
WORST = {
    "plain": "a",
    "brackets": BAD,
    "parameters": "?a=",
    "secrets": "?token=",
    "passwords": "//a:b@",
    "quotes": '"',
    "semicolons": ";",
}


def console(unit):
    return {"entries": [{"level": "info", "message": "=" + text, "source_url": "/"} for text in spread(unit)]}


def network(unit):
    return {"entries": [{"method": "GET", "url": "=" + text} for text in spread(unit)]}


def headers():
    one = {f"h{i}": "https://h/?a=1&token=2" for i in range(40)}
    return {"entries": [{"method": "GET", "url": "/", "request_headers": one} for _ in range(8_000)]}


def wrong_bundle():
    return {"tests": [{"client_ref": "x", "test": {"name": "x"}, "network_logs": headers()["entries"]}]}


def selectors(unit):
    steps = [{"step_number": i, "element_selector": "x", "description": text} for i, text in enumerate(spread(unit))]
    return {"steps": [{**step, "input_value": "x", "error_message": "e"} for step in steps]}


def many_steps():
    return {"steps": [{"step_number": i, "description": "d" * 1000, "input_value": "x"} for i in range(9_000)]}


def bodies():
    yield from ((f"console {name}", "POST", "{case}/console-logs", console(unit)) for name, unit in WORST.items())
    yield from ((f"network {name}", "POST", "{case}/network-logs", network(unit)) for name, unit in WORST.items())
    yield "network headers", "POST", "{case}/network-logs", headers()
    yield "console small", "POST", "{case}/console-logs", {"entries": [{"level": "info", "message": ""}] * 10_000}
    yield from ((f"steps {name}", "POST", "{case}/steps", selectors(WORST[name])) for name in ("plain", "quotes"))
    yield "steps put", "PUT", "{case}/steps", selectors("pin")
    yield "metadata lists", "POST", "{base}/suite-runs", {"name": "x", "metadata": {"a": [[]] * 499_000}}
    yield "metadata numbers", "POST", "{base}/suite-runs", {"name": "x", "metadata": {"a": [1.5] * 999_000}}
    yield "too many values", "POST", "{base}/suite-runs", {"name": "x", "metadata": {"a": [""] * 3_000_000}}
    yield "unknown lists", "POST", "{base}/suite-runs", {"name": "x", "unknown": {"a": [[]] * 499_000}}
    yield "a wrong text", "POST", "{base}/suite-runs", {"name": "\0", "unknown": {"a": [[]] * 499_000}}
    cases = [{"name": str(i), "stack_trace": "s" * 1400} for i in range(9_000)]
    yield "test cases", "POST", "{run}/test-cases/bulk", {"test_cases": cases}
    points = [{"checkpoint_number": i, "name": "x", "message": "m" * 1400} for i in range(9_000)]
    yield "checkpoints", "POST", "{case}/checkpoints", {"checkpoints": points}
    yield "a wrong bundle", "POST", "{run}/bundle", wrong_bundle()
    yield "case patch", "PATCH", "{case}", {"stack_trace": "s" * TEXT, "metadata": {"a": ["x"] * 10_000}}


NAMES = [name for name, *_ in bodies()]


@pytest.fixture
def where(make_run, make_case):
    """await where(): the URLs of a new run and a new test case."""

    async def made():
        run = await make_run(project="default")
        case = await make_case(run=run)
        return {"base": BASE, "run": f"{BASE}/suite-runs/{run}", "case": f"{BASE}/test-case-results/{case}"}

    return made


def line(seconds, pace, name, what):
    """As it is printed; bench/loop.py reads it. `pace`: how many times as slow as the machine of LIMIT this one is."""
    return f"\n{seconds * 1000:6.1f} ms ({pace:.1f} x)  {name}: {what[:90]}"


async def never_blocked(watch, name, attempt):
    """Asserts that `await attempt()` has no long piece of work. It may try three times: what blocks the loop does so
    each time, while a busy machine may make any piece of work longer once."""
    found = []
    for _ in range(3):
        gc.collect()
        gc.freeze()  # what the tests have made is not looked at again
        await asyncio.sleep(0)  # the test's own work so far is not counted
        watch.worst = 0.0
        await attempt()
        found.append((watch.worst, watch.what))
        pace = machine() / 0.010
        print(line(watch.worst, pace, name, watch.what), end="")
        if watch.worst < LIMIT * max(1.0, pace):
            return
    pytest.fail(str(found))


async def test_the_rows_of_a_body_are_freed_in_portions():
    """Also those of rows that have lists themselves."""

    class Inner(msgspec.Struct):
        rows: list[int]
        name: str = ""

    class Outer(msgspec.Struct):
        some: list[Inner]
        other: list[str]
        none: None = None

    inner = [Inner(list(range(3))) for _ in range(1_000)]
    body, turns = Outer(list(inner), ["x"] * 1_200), 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await decode.release(body)
    counting.cancel()
    assert not any(each.rows for each in inner) and (body.some, body.other) == ([], [])
    assert 8 <= turns <= 12


async def sent(client, method, url, body, kind=JSON, **headers):
    """Sends the body slowly enough that the client's own work is no large piece; returns the status."""

    async def pieces():
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]
            await asyncio.sleep(0)

    own = {"Content-Type": kind, "Content-Length": str(len(body)), **headers}
    reply = await client.request(method, url, data=pieces(), headers=own)
    reply.close()
    return reply.status


@pytest.mark.parametrize("name", NAMES)
async def test_no_body_blocks_the_event_loop(client, where, watch, name):
    ((method, url, raw),) = [
        (method, url, json.dumps(body).encode()) for found, method, url, body in bodies() if found == name
    ]

    async def attempt():
        own = {"Idempotency-Key": str(next(numbers))} if method == "POST" else {}
        assert await sent(client, method, url.format(**await where()), raw, **own) in (200, 201, 413, 422)

    numbers = itertools.count()
    await never_blocked(watch, name, attempt)


def posted(client, url, pieces, **headers):
    """Sends a request over a socket of its own and returns the status. To be called in a thread."""
    headers = {"Host": "x", "Connection": "close", "Content-Type": JSON, **headers}
    headers["Authorization"] = client.session.headers["Authorization"]
    head = f"POST {url} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    with socket.create_connection((client.host, client.port), 60) as connection:
        connection.sendall(head.encode() + b"".join(pieces))
        return int(connection.makefile("rb").readline().split()[1])


def chunked(body, size):
    parts = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 7, 2000])
@pytest.mark.parametrize("what", ["json", "upload"])
async def test_a_body_of_tiny_chunks_does_not_block_the_event_loop(client, where, watch, what, size):
    if what == "json":
        url, kind = "/console-logs", JSON
        body = json.dumps({"entries": [{"level": "info", "message": "m" * 100_000 * min(size, 7)}]}).encode()
    else:
        url, kind, body = "/artifacts", CONTENT_TYPE, single(png(200, 200 * min(size, 7)))
    sent = chunked(body, size)
    headers = {"Content-Type": kind, "Transfer-Encoding": "chunked"}

    async def attempt():
        case = (await where())["case"]
        assert await asyncio.to_thread(posted, client, case + url, [sent], **headers) == 201

    await never_blocked(watch, f"{what} in chunks of {size}", attempt)


@pytest.mark.parametrize("members", [1, 3])
async def test_a_compressed_body_does_not_block_the_event_loop(client, where, watch, members, rows):
    entries = [{"level": "info", "message": "m" * TEXT} for _ in range(15)]
    text = json.dumps({"entries": entries}).encode()
    cut = [len(text) * i // members for i in range(members + 1)]
    body = b"".join(gzip.compress(text[a:b]) for a, b in itertools.pairwise(cut))
    del text
    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(body))}

    async def attempt():
        case = (await where())["case"]
        assert await asyncio.to_thread(posted, client, case + "/console-logs", [body], **headers) == 201
        query = "SELECT count(*) AS n, sum(length(message)) AS length FROM test_console_logs"
        (row,) = rows(f"{query} WHERE test_case_result_id = %s", case.rpartition("/")[2])
        assert row == {"n": 15, "length": 15 * TEXT}

    await never_blocked(watch, f"gzip in {members} members", attempt)


READS = {
    "steps": "{case}/steps",
    "steps alone": "{case}/steps?include_artifacts=false",
    "report": "{case}/report",
    "console log": "{case}/console-logs?per_page=500",
    "network log": "{case}/network-logs?per_page=500",
    "checkpoints": "{case}/checkpoints?per_page=500",
    "test cases": "{run}/test-cases?per_page=500",
    "page of a case": "{link}{case}",
    "page of a run": "{link}?per_page=500",
}


@pytest.mark.parametrize("size", ["small", "large"])
async def test_no_reply_blocks_the_event_loop(client, where, watch, size):
    """Of many small entries, and of a few that are as large as possible."""
    urls = await where()
    link = {"suite_run_id": urls["run"].rpartition("/")[2]}
    urls["link"] = (await (await client.post(f"{BASE}/links", json=link)).json())["url"]
    count, text = (2000, "t") if size == "small" else (7, '"\n' * (TEXT // 2))
    step = {"error_message": text, "stack_trace": text} if size == "large" else {"error_message": text}
    entry = {"method": "GET", "url": "/", "request_headers": {f"h{i}": "v" * 30 for i in range(40)}, "error_text": text}
    filled = {
        f"{urls['case']}/steps/bulk": {"steps": [{"step_number": i, **step} for i in range(count // 2)]},
        f"{urls['case']}/console-logs": {"entries": [{"level": "info", "message": text}] * count},
        f"{urls['case']}/network-logs": {"entries": [entry] * count},
        f"{urls['case']}/checkpoints": {
            "checkpoints": [{"checkpoint_number": i, "name": "x", "message": text} for i in range(count)]
        },
        f"{urls['run']}/test-cases/bulk": {"test_cases": [{"name": "x", "error_message": text}] * count},
    }
    for url, body in filled.items():
        assert (await client.post(url, json=body)).status == 201
    for name, path in READS.items():
        path = path.format(**{**urls, "case": urls["case"].removeprefix(BASE if "{link}" in path else "")})
        for accept in ("text/html", "application/json") if "page" in name else ("*/*",):

            async def attempt(path=path, accept=accept):
                assert await asyncio.to_thread(fetched, client, path, accept) > 10_000

            await never_blocked(watch, f"{size} {name} ({accept})", attempt)


def fetched(client, path, accept):
    """Reads a reply in pieces and returns how many bytes it had. To be called in a thread."""
    connection = http.client.HTTPConnection(client.host, client.port, timeout=60)
    headers = {"Authorization": client.session.headers["Authorization"], "Accept": accept}
    connection.request("GET", path, headers=headers)
    reply = connection.getresponse()
    assert reply.status == 200
    size = 0
    while part := reply.read(65_536):
        size += len(part)
    connection.close()
    return size


async def test_colours_do_not_block_the_event_loop(client, where, watch):
    """A text may change its colour at every character, in a single line."""
    case = (await where())["case"]
    text = "\x1b[31mx" * (TEXT // 12)  # an escape character has 6 in JSON
    step = {"step_number": 1, "step_type": "ui", "status": "Failed", "error_message": text, "stack_trace": text}
    assert (await client.post(f"{case}/steps", json={"steps": [step]})).status in (200, 201)
    assert (await client.patch(case, json={"status": "Failed", "error_message": text})).status == 200
    files = [(b"\xffx" * MIB, "bytes.log"), (b"\x1b[31mx" * (MIB // 3), "colours.log")]
    status, sent = await post(client, f"{case}/artifacts/batch", batch(files, [{"artifact_type": "log"}] * 2))
    assert status == 201, sent
    page = case.replace(f"{BASE}/test-case-results", "/results")
    names = [f"/files/{each['id']}" for each in sent["artifacts"]]
    for name in (*names, "", "?whole=true", "/steps/1.1", f"/files/{sent['artifacts'][0]['id']}?find=x"):

        async def attempt(path=page + name):
            assert await asyncio.to_thread(fetched, client, path, "text/html") > 10_000

        await never_blocked(watch, name, attempt)


async def test_a_log_that_is_inserted_in_portions_keeps_its_order_and_its_numbers(client, where, rows):
    url = (await where())["case"] + "/console-logs"
    entries = [{"level": "info", "message": f"{i} " + "m" * 900_000} for i in range(12)]
    for sent, created in ((entries[:7], 7), (entries, 5)):
        reply = await client.post(url, json={"entries": sent, "first_sequence": 100})
        assert (await reply.json())["created"] == created
    stored = rows("SELECT client_sequence, split_part(message, ' ', 1)::int AS i FROM test_console_logs ORDER BY seq")
    assert [(row["client_sequence"], row["i"]) for row in stored] == [(100 + i, i) for i in range(12)]


async def test_thumbnails_do_not_block_the_event_loop(client, where, watch, storage):
    """Many at once: the first are made, others get a placeholder, and in the end all come from the cache."""
    case = (await where())["case"]
    files = [(png(640, 400, seed=number % 4) + bytes([number]), f"{number}.png") for number in range(20)]
    status, sent = await post(client, f"{case}/artifacts/batch", batch(files))
    assert status == 201
    urls = [f"/thumbs/{each['id']}-{width}.webp" for each in sent["artifacts"] for width in (320, 960)]

    async def attempt():
        shutil.rmtree(storage / THUMBS, ignore_errors=True)
        left = urls
        while left:
            replies = await asyncio.gather(*(client.get(url) for url in left))
            assert {reply.status for reply in replies} <= {200, 202}
            assert {reply.content_type for reply in replies if reply.status == 200} <= {"image/webp"}
            left = [url for url, reply in zip(left, replies, strict=True) if reply.status == 202]
        for reply in await asyncio.gather(*(client.get(url) for url in urls)):
            assert reply.status == 200

    await never_blocked(watch, "thumbnails", attempt)
