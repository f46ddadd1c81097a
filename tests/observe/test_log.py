"""The log: one line for each request. Client input cannot forge a second line, and no secret is logged."""

import asyncio
import errno
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress

import asyncpg
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.database.queries import SQL
from server.observe.log import JsonLines, TextLines
from tests.forms import CONTENT_TYPE, batch, post, single
from tests.makers import png
from tests.up_server import CHECKOUT, end, half_an_upload, serving, wait_for

RUNS = "/api/v1/reports/suite-runs"
FIELDS = ["method", "path", "status", "milliseconds", "received", "sent", "caller", "remote", "request_id", "route"]
TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) [\w.]+: .*")


def record(message, *args, fields=None, error=None):
    made = logging.LogRecord("reportd", logging.INFO, "", 0, message, args, error and (type(error), error, None))
    if fields is not None:
        made.fields = fields
    return made


@pytest.fixture
def requests(caplog):
    """requests(): the `fields` of all request log records so far."""
    caplog.set_level(logging.INFO)

    def logged(level: str | None = None):
        found = [item for item in caplog.records if item.name == "reportd.requests"]
        return [item.fields for item in found if level in (None, item.levelname)]

    return logged


async def eventually(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@contextmanager
def lines_as(formatter):
    """Collects the log lines written inside the `with` block, in this format."""
    lines = []

    class Collect(logging.Handler):
        def emit(self, item):
            lines.append(formatter.format(item))

    handler, root = Collect(), logging.getLogger()
    root.addHandler(handler)
    level = root.level
    root.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


# --- formats ---------------------------------------------------------------------------------------------------


@given(st.text(), st.dictionaries(st.sampled_from(FIELDS), st.text() | st.integers() | st.none()))
def test_any_message_and_fields_make_one_line(message, fields):
    for made in (record("%s", message), record("x", fields=fields), record("%s", message, fields=fields)):
        text, line = TextLines().format(made), JsonLines().format(made)
        assert text.isprintable() and TEXT.fullmatch(text)
        assert line.isprintable()
        entry = json.loads(line)
        assert entry["message"] == made.getMessage()
        assert {name: entry[name] for name in getattr(made, "fields", {})} == getattr(made, "fields", {})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("ci", "ci"),
        ("/a/b?c", "/a/b?c"),
        ("grün", "grün"),
        (None, "-"),
        ("-", '"-"'),
        ("", '""'),
        ("a b", '"a b"'),
        ("ci status=200", '"ci status=200"'),
        ('a"b', r'"a\"b"'),
        ("a\\nb", r'"a\\nb"'),
        ("a\nb", r'"a\nb"'),
        ("a\x1b[2J", r"a\x1b[2J"),
        ("a\u202eb", r"a\u202eb"),
        ("a\u2028b", r'"a\u2028b"'),  # `\s` of `re` matches it
        (3.4, "3.4"),
        (-1, "-1"),
    ],
)
def test_a_value_cannot_be_mistaken_for_the_next_field(value, shown):
    line = TextLines().format(record("x", fields={"caller": value, "received": 1}))
    assert line.endswith(f": x caller={shown} received=1")


def test_the_lines_of_a_traceback_do_not_look_like_log_records():
    forged = "2026-11-20T10:00:00.123Z INFO reportd: all is well"
    try:
        raise ValueError(f"x\n{forged}\r{forged}\x85{forged}")
    except ValueError as error:
        made = record("failed", error=error)
        made.exc_info = sys.exc_info()
    first, *others = TextLines().format(made).split("\n")
    assert TEXT.fullmatch(first) and len(others) > 4
    assert all(line.startswith("    ") and line.isprintable() for line in others)
    assert "Traceback" in others[0] and not any(TEXT.match(line) for line in others)
    entry = json.loads(JsonLines().format(made))
    assert entry["message"] == "failed" and entry["traceback"].startswith("Traceback") and forged in entry["traceback"]


def test_bytes_that_are_not_utf_8_can_be_logged():
    made = record("%s", "/a\udcff", fields={"path": "/a\udcff", "other": object})
    with pytest.raises(orjson.JSONEncodeError):
        orjson.dumps("/a\udcff")
    assert json.loads(JsonLines().format(made))["path"] == "/a\udcff"
    assert TextLines().format(made).isascii()


LIBRARY_LOGS = """if True:
    import asyncio, gc, logging, sys
    from server.observe import log
    from server.config import LogConfig

    log.set_up(LogConfig(format=sys.argv[1]))

    async def forget():
        raise ValueError("nobody\\nlooked")

    async def main():
        asyncio.create_task(forget())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
        try:
            raise ValueError("not\\nours")
        except ValueError as error:
            logging.getLogger("aiohttp.server").exception("Unhandled exception", exc_info=error)

    asyncio.run(main())
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_log_records_of_asyncio_and_aiohttp_have_the_format_too(form):
    done = subprocess.run(
        [sys.executable, "-c", LIBRARY_LOGS, form], capture_output=True, text=True, cwd=CHECKOUT, timeout=60
    )
    lines = done.stderr.splitlines()
    if form == "json":
        found = {line["logger"]: line for line in map(json.loads, lines)}
        assert len(lines) == 2 and all("Traceback" in line["traceback"] for line in found.values())
    else:
        heads = [line for line in lines if not line.startswith("    ")]
        found = {line.split()[2].rstrip(":"): line for line in heads}
        assert len(heads) == 2 and all(TEXT.fullmatch(line) for line in heads)
        assert sum("Traceback" in line for line in lines) == 2
    assert set(found) == {"asyncio", "aiohttp.server"}


# --- one line for each request ---------------------------------------------------------------------------------


async def test_a_request_line_has_caller_request_and_response(start, make_token, requests):
    client = await start(token=make_token(name="ci"))
    body = b'{"name": "nightly"}'
    reply = await client.post(RUNS, data=body, headers={"X-Request-Id": "find-me"})
    (fields,) = requests()
    assert list(fields) == FIELDS and 0 < fields.pop("milliseconds") < 1e6
    assert fields == {
        "method": "POST",
        "path": RUNS,
        "status": 201,
        "received": len(body),
        "sent": len(await reply.read()),
        "caller": "ci",
        "remote": "127.0.0.1",
        "request_id": "find-me",
        "route": RUNS,
    }


async def test_a_request_line_has_the_name_of_the_caller_or_none(start, make_token, requests, client):
    await client.get("/healthz")
    await client.get(RUNS, headers={"Authorization": "Bearer wrong"})
    opened = await start(auth={"required": False})
    await opened.get(RUNS, headers={"Authorization": ""})
    project = await start(token=make_token(name="of one project", project="shop"))
    await project.get(RUNS)
    session = await project.post("/api/v1/auth/session")
    cookie = session.cookies["reportd_session"].value
    await client.get(RUNS, headers={"Authorization": "", "Cookie": f"reportd_session={cookie}"})
    names = [fields["caller"] for fields in requests()]
    assert names == [None, None, None, "of one project", "of one project", "of one project"]


async def test_a_request_line_has_the_route_pattern_and_the_path_as_sent(client, requests):
    await client.get(f"{RUNS}/nonsense?a=%41")
    await client.get("/nothing/here")
    assert [(fields["route"], fields["path"]) for fields in requests()] == [
        (f"{RUNS}/{{suite_id}}", f"{RUNS}/nonsense?a=A"),  # aiohttp's client sends %41 as A
        ("unknown", "/nothing/here"),
    ]


async def test_received_and_sent_count_the_bytes_of_the_bodies(client, case_url, requests):
    case = await case_url()
    picture, body = png(), single(png())
    _, artifact = await post(client, f"{case}/artifacts", body)
    url = artifact["download_url"]
    assert (requests()[-1]["received"], requests()[-1]["status"]) == (len(body), 201)

    async def line_of(method, path, **headers):
        before = len(requests())
        async with client.request(method, path, headers=headers) as reply:
            content = await reply.read()
        await eventually(lambda: len(requests()) > before)  # the line is logged after the last byte is sent
        return content, requests()[-1]

    for headers, status, sent in (
        ({}, 200, len(picture)),
        ({"Range": "bytes=5-14"}, 206, 10),
        ({"If-None-Match": "*"}, 304, 0),
    ):
        content, line = await line_of("GET", url, **headers)
        assert (line["status"], line["sent"], line["received"], len(content)) == (status, sent, 0, sent)
    for path in (url, case):
        _, line = await line_of("HEAD", path)
        assert (line["method"], line["status"], line["sent"]) == ("HEAD", 200, 0)


async def test_received_counts_only_the_bytes_read_of_a_refused_body(client, requests):
    reply = await client.post(f"{RUNS}/nonsense/test-cases", data=b"x" * (8 << 20))
    assert reply.status == 404
    (fields,) = requests()
    assert fields["received"] < 8 << 20 and fields["sent"] == len(await reply.read())


SECRETS = [
    (f"{RUNS}?token=hunter2", f"{RUNS}?token=[redacted]"),
    (f"{RUNS}?limit=1&access_token=hunter2&x=1", f"{RUNS}?limit=1&access_token=[redacted]&x=1"),
    (f"{RUNS}?PASSWORD=hunter2", f"{RUNS}?PASSWORD=[redacted]"),
    ("//u:hunter2@h/x", "//u:[redacted]@h/x"),
]


async def send_raw(client, *heads: bytes) -> None:
    """Sends each on a new connection, and waits until the server closes it."""
    for head in heads:
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(head)
        async with asyncio.timeout(60):
            with suppress(ConnectionError):  # when the client is still sending while the server replies
                await reader.read()
        writer.close()


@pytest.mark.parametrize(("path", "shown"), SECRETS)
async def test_a_secret_in_a_url_is_not_logged(client, requests, path, shown, caplog):
    await send_raw(client, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    (fields,) = requests()
    assert fields["path"] == shown
    assert "hunter2" not in caplog.text + str(fields)


@pytest.mark.parametrize("formatter", [TextLines(), JsonLines()], ids=["text", "json"])
async def test_token_names_and_paths_cannot_forge_a_line(start, make_token, formatter):
    forged = "2026-11-20T10:00:00.123Z INFO reportd: all is well"
    name = f"ci\x85\u2028\x9b2J\n{forged}"
    client = await start(token=make_token(name=name))
    bearer = client.session.headers["Authorization"]
    with lines_as(formatter) as lines:
        for path in (b"/a\x0b\x1b[2J", b"/a\xff\xfe", "/ä\u2028\u202e".encode(), RUNS.encode()):
            end = f" HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\nX-Request-Id: a b=c\r\nConnection: close\r\n\r\n"
            await send_raw(client, b"GET " + path + end.encode())
    request_lines = [line for line in lines if "reportd.requests" in line]
    assert len(request_lines) == 4 and all(line.isprintable() for line in lines)
    if isinstance(formatter, TextLines):
        assert all(TEXT.fullmatch(line) for line in lines)
    else:
        assert json.loads(request_lines[-1])["caller"] == name


FORGED = b"\r\n2026-11-20T10:00:00.123Z INFO reportd: all is well"
PIECES = {
    "CR": b"\r",
    "LF": b"\n",
    "a line": FORGED,
    "NUL": b"\0",
    "line separator": "\u2028".encode(),
    "next line": "\x85".encode(),
    "half a character": b"\x85",
    "8-bit CSI": "\x9b2J".encode(),
    "escape": b"\x1b[2J\x1b]0;x\x07",
    "direction": "\u202e".encode(),
    "DEL": b"\x7f",
    "other ends": b"\x0b\x0c\x1c\x1d\x1e",
    "no text": b"\xff\xfe",
    "field": b'" status=200 caller="admin',
    "beyond the plane": "\U000e0001".encode(),
    "long": b"A" * 7000,
    "too long": b"A" * 100_000,
}
HEADERS = [
    *("Host", "X-Request-Id", "User-Agent", "Referer", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"),
    *("Authorization", "Cookie", "Content-Type", "Content-Encoding", "Content-Length", "Transfer-Encoding", "Expect"),
    *("Upgrade", "Accept", "Range", "If-None-Match", "Idempotency-Key"),
]


def heads(bearer, case, piece):
    """Yields (place, request): one request for each place in which `piece` can stand."""
    end = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: " + bearer.encode()
    escaped = b"".join(b"%%%02X" % byte for byte in piece[:2000])
    runs = RUNS.encode()
    yield "method", b"GE" + piece + b"T /" + end + b"\r\n\r\n"
    yield "version", b"GET / HTTP/1.1" + piece + end + b"\r\n\r\n"
    for name, target in [
        ("path", b"/a" + piece),
        ("escaped path", b"/a" + escaped),
        ("id", runs + b"/" + piece),
        ("value", runs + b"?name=" + piece),
        ("escaped value", runs + b"?name=" + escaped),
        ("name", runs + b"?" + piece + b"=1"),
        ("absolute", b"http://x" + piece + b"/"),
        ("actor", b"/api/v1/audit?actor=" + escaped),
    ]:
        yield name, b"GET " + target + end + b"\r\n\r\n"
    for header in HEADERS:
        begun = b"Bearer a" if header == "Authorization" else b"a"
        lines = end.replace(b"Host: x\r\n", b"") if header == "Host" else end
        lines = lines.partition(b"\r\nAuth")[0] if header == "Authorization" else lines
        yield header, b"GET " + runs + lines + b"\r\n" + header.encode() + b": " + begun + piece + b"\r\n\r\n"

    def sent(target, kind, body):
        head = b"\r\nContent-Type: " + kind + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
        return b"POST " + target + end + head + body

    text = json.dumps(piece.decode("latin-1")[:400]).encode()
    yield "JSON text", sent(runs, b"application/json", b'{"name": ' + text + b', "branch": ' + text + b"}")
    yield "JSON bytes", sent(runs, b"application/json", b'{"name": "' + piece + b'"}')
    yield "JSON key", sent(runs, b"application/json", b'{"' + piece + b'": 1, "name": 1}')
    part = b'--B\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\nContent-Type: %b\r\n\r\nx\r\n--B--\r\n'
    for name, filled in [
        ("file name", (b"file", b"a" + piece, b"text/plain")),
        ("part name", (b"file" + piece, b"a.txt", b"text/plain")),
        ("part type", (b"file", b"a.txt", b"text/plain" + piece)),
    ]:
        yield name, sent(case.encode() + b"/artifacts", b"multipart/form-data; boundary=B", part % filled)
    yield "boundary", sent(case.encode() + b"/artifacts", b"multipart/form-data; boundary=B" + piece, b"x")


@pytest.mark.parametrize("formatter", [TextLines(), JsonLines()], ids=["text", "json"])
@pytest.mark.parametrize("piece", PIECES.values(), ids=list(PIECES))
async def test_client_input_makes_one_line_wherever_it_stands(client, case_url, formatter, piece):
    """Lines of other loggers, such as asyncio's, are not counted but must have the format, too."""
    case, bearer, count = await case_url(), client.session.headers["Authorization"], 0
    for place, head in heads(bearer, case, piece):
        with lines_as(formatter) as lines:
            await send_raw(client, head)
        assert len([line for line in lines if "reportd.requests" in line]) == 1, (place, lines)
        for line in lines:
            assert line.isprintable(), (place, line)
            assert len(line) < 20_000, place  # aiohttp limits the size of a head
            assert TEXT.fullmatch(line) if isinstance(formatter, TextLines) else json.loads(line), place
        count += 1
    assert count > 35


NOT_HTTP = [
    b"hunter2\r\n\r\n",
    b"GET / hunter2\r\n\r\n",
    b"GET / HTTP/9.9 hunter2\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01hunter2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hunter2\x00\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nhunter2 : a\r\n\r\n",
    b"GET /" + b"hunter2" * 5000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"hunter2" * 5000 + b"\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: hunter2\r\n\r\n",
    b"GET http://[hunter2/ HTTP/1.1\r\nHost: x\r\n\r\n",
]


async def test_a_request_that_is_not_http_is_one_line_without_traceback_or_its_bytes(client, caplog):
    caplog.set_level(logging.DEBUG)
    for head in NOT_HTTP:
        caplog.clear()
        with lines_as(TextLines()) as lines:
            await send_raw(client, head)
        found = [item for item in caplog.records if item.name.startswith(("reportd", "aiohttp"))]
        assert len(found) == 1, (head[:50], lines)
        assert found[0].exc_info is None and found[0].levelno == logging.INFO
        assert found[0].fields["status"] == 400 and found[0].fields["remote"] == "127.0.0.1"
        assert "hunter2" not in "".join(lines) and "Traceback" not in "".join(lines)


# --- 5xx: logged once with the request id and the cause, which is not in the reply -------------------------------


async def send_failing(client, requests, caplog, method, url, **request):
    """Sends a request that must get a 5xx: status, body and the one log record of the failure."""
    caplog.clear()
    named = {"X-Request-Id": "find-me", **request.pop("headers", {})}
    reply = await client.request(method, url, headers=named, **request)
    text = await reply.text()
    failures = [item for item in caplog.records if item.levelno >= logging.WARNING and item.name.startswith("reportd")]
    assert len(failures) == 1, [item.getMessage() for item in failures]
    assert failures[0].fields["request_id"] == json.loads(text)["request_id"] == "find-me"
    assert failures[0].fields["status"] == reply.status
    assert len(requests()) == 1
    return reply.status, text, failures[0]


@pytest.mark.parametrize("logged", [True, False])
async def test_an_internal_error_is_logged_with_its_traceback(start, monkeypatch, caplog, requests, logged):
    client = await start(log={"requests": logged})
    monkeypatch.setattr(SQL.suite_runs, "page", "SELEKT 1")
    status, text, item = await send_failing(client, requests, caplog, "GET", RUNS)
    assert (status, item.levelname) == (500, "ERROR")
    assert isinstance(item.exc_info[1], asyncpg.PostgresSyntaxError) and item.exc_info[2] is not None
    assert "SELEKT" not in text and "SELEKT" in item.fields["error"]


async def test_an_unreachable_database_is_logged_as_the_cause(start, caplog, requests):
    client = await start(database={"dsn": "postgresql://postgres@/x?host=/nonexistent"})
    await eventually(lambda: "a clean-up job failed" in caplog.text)  # it logs one warning of its own
    for url in (RUNS, "/readyz"):
        status, text, item = await send_failing(client, requests, caplog, "GET", url)
        assert (status, item.levelname, item.exc_info) == (503, "WARNING", None)
        assert "FileNotFoundError" in item.fields["error"] and "FileNotFound" not in text


async def test_a_missing_or_full_storage_is_logged(client, case_url, storage, monkeypatch, caplog, requests):
    case = await case_url()
    kind = {"Content-Type": CONTENT_TYPE}

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", full)
        for url, body in ((f"{case}/artifacts", single(png())), (f"{case}/artifacts/batch", batch([(png(), "a.png")]))):
            status, _, item = await send_failing(client, requests, caplog, "POST", url, data=body, headers=kind)
            assert (status, item.levelname, item.exc_info) == (507, "WARNING", None)
    shutil.rmtree(storage)
    status, text, item = await send_failing(
        client, requests, caplog, "POST", f"{case}/artifacts", data=single(png()), headers=kind
    )
    assert (status, item.levelname) == (503, "WARNING")
    assert "FileNotFoundError" in item.fields["error"] and str(storage) not in text


async def test_only_failures_are_logged_when_request_lines_are_off(start, monkeypatch, requests, caplog):
    client = await start(log={"requests": False})
    for url in ("/healthz", RUNS, "/nothing"):
        await client.get(url)
    await send_raw(client, b"nonsense\r\n\r\n")
    assert requests() == []
    monkeypatch.setattr(SQL.suite_runs, "page", "SELEKT 1")
    await client.get(RUNS)
    assert [fields["status"] for fields in requests()] == [500]


# --- a server process ------------------------------------------------------------------------------------------


def json_lines(server):
    return [json.loads(line) for line in server.log.read_text().split("\n") if line]


def request_lines(server):
    return [line for line in json_lines(server) if line["logger"] == "reportd.requests"]


def test_a_client_that_disconnects_is_logged_as_499_and_not_as_an_error(tmp_path, dsn, make_token):
    with serving(tmp_path / "data", dsn, make_token(), REPORTD_LOG_FORMAT="json") as server:
        with half_an_upload(server):
            pass
        wait_for(lambda: [line for line in request_lines(server) if line["status"] == 499], server.log.read_text)
        (aborted,) = [line for line in request_lines(server) if line["status"] == 499]
        assert (aborted["level"], aborted["method"], aborted["sent"] >= 0) == ("info", "POST", True)
        assert aborted["received"] > 100_000

        run = server.ask_json("POST", RUNS, {"name": "x"}, status=201)["id"]
        case = server.ask_json("POST", f"{RUNS}/{run}/test-cases", {"name": "x"}, status=201)["id"]
        picture = png(1640, 1640)
        form = ("file", "a.png", picture, "image/png"), ("artifact_type", "screenshot")
        url = server.send(f"/api/v1/reports/test-case-results/{case}/artifacts", *form)["download_url"]
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n\r\n".encode())
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        found = wait_for(lambda: [line for line in request_lines(server) if line["path"] == url], server.log.read_text)
        assert (found[0]["status"], found[0]["level"]) == (499, "info") and found[0]["sent"] < len(picture)
        assert not [line for line in json_lines(server) if line["level"] in ("warning", "error") or "traceback" in line]


def test_every_line_of_a_server_has_the_format(tmp_path, dsn, make_token):
    """Including the lines of aiohttp and asyncio."""
    with serving(tmp_path / "data", dsn, make_token()) as server:
        assert server.ask("GET", "/healthz").status == 200
        ids = []
        for head in NOT_HTTP:
            with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
                sock.sendall(head)
                reply = sock.recv(1000)
                assert b" 400 Bad Request" in reply
                ids.append(re.search(rb"X-Request-Id: (\w+)", reply)[1].decode())
        lines = server.log.read_text().splitlines()
    not_http = [line for line in lines if "not an HTTP request" in line]
    assert [re.search(r"request_id=(\w+)", line)[1] for line in not_http] == ids
    assert [line for line in lines if not TEXT.fullmatch(line)] == []


def test_a_request_that_the_shutdown_cancels_is_logged(tmp_path, dsn, make_token):
    options = {"REPORTD_LOG_FORMAT": "json", "REPORTD_SERVER_SHUTDOWN_TIMEOUT": "0.1"}
    with serving(tmp_path / "data", dsn, make_token(), **options) as server:
        with half_an_upload(server):
            assert end(server.process, signal.SIGTERM) == 0
        (cut,) = [line for line in request_lines(server) if line["path"].endswith("/artifacts")]
        assert (cut["status"], cut["level"], cut["error"]) == (503, "warning", "CancelledError()")
        assert not [line for line in json_lines(server) if "traceback" in line]
