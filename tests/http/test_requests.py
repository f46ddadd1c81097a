"""Behaviour that all endpoints share: request ids, error bodies, HEAD, 405, request bodies and database failures."""

import asyncio
import gzip
import json
import re
import time
import uuid
import zlib
from typing import Annotated

import msgspec
import psycopg
import pytest
from msgspec import Meta, Struct

from server.app import create_app
from server.database import migrate
from server.database.embedded import Postgres
from server.database.queries import SQL
from server.errors import Invalid
from server.http import decode
from server.http.fields import Sha256
from server.http.route import RESOURCES
from server.routes import ROUTES
from server.viewer import assets
from tests.api.test_steps import a_step, send_png
from tests.makers import flip_byte

RUNS = "/api/v1/reports/suite-runs"
NOUNS = {name: error.__doc__ for name, (_, error) in RESOURCES.items()}


async def send_raw(client, head, body=b""):
    """Send a request exactly as given and return the raw reply: its body, and an interim 100 reply before it."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    authorization = client.session.headers["Authorization"]
    writer.write(f"{head}\r\nHost: x\r\nConnection: close\r\nAuthorization: {authorization}\r\n\r\n".encode() + body)
    try:
        received = await reader.readuntil(b"\r\n\r\n")
        if received.startswith(b"HTTP/1.1 100 "):
            received += await reader.readuntil(b"\r\n\r\n")
        return received + await reader.readexactly(int(re.findall(rb"(?i)content-length: (\d+)", received)[-1]))
    finally:
        writer.close()


QUERIES = {"tests": "?test_id=login+works", "search": "?q=x"}


@pytest.fixture
async def paths(client, make_run, case_url):
    """fill(path, name=id…): the path of a route, filled with ids of existing objects except for the given ones, and
    with the query that it needs."""
    run = await make_run()
    case = await case_url(run=run, status="Failed", error_message="x")
    artifact = await send_png(client, case)
    await client.post(f"{case}/steps", json={"steps": [a_step()]})
    (step,) = (await (await client.get(f"{case}/steps")).json())["steps"]
    link = await (await client.post("/api/v1/reports/links", json={"suite_run_id": run})).json()
    ids = {
        "suite_id": run,
        "case_id": case.rpartition("/")[2],
        "artifact_id": artifact,
        "step_id": step["id"],
        "link_id": link["id"],
        "link": link["url"].removeprefix("/shared/"),
        "file": assets.by_name()["docs.css"].file,
        "fingerprint": (await (await client.get(f"{RUNS}/{run}/errors")).json())["groups"][0]["error"]["fingerprint"],
        "width": "320",
    }

    def fill(path, **other):
        for name, value in {**ids, **other}.items():
            path = path.replace("{" + name + "}", value)
        return path + QUERIES.get(path.rpartition("/")[2], "")

    return fill


# --- ids and error bodies --------------------------------------------------------------------------------------


async def test_a_valid_request_id_is_echoed(client):
    for sent in ("a", "A-b_c.d:e/f+g=", "x" * 128, str(uuid.uuid4())):
        for url in (RUNS, "/nothing", "/docs"):
            reply = await client.get(url, headers={"X-Request-Id": sent})
            assert reply.headers["X-Request-Id"] == sent
    assert (await (await client.get("/nothing", headers={"X-Request-Id": "mine"})).json())["request_id"] == "mine"


async def test_any_other_request_id_is_replaced(client):
    made = set()
    for sent in ("", "x" * 129, "a b", "<script>", "a;b", 'a"b', "ä", "a\\b", "{}", "%0d%0a"):
        reply = await client.get("/nothing", headers={"X-Request-Id": sent})
        own = reply.headers["X-Request-Id"]
        assert re.fullmatch("[0-9a-f]{32}", own), sent
        assert (await reply.json())["request_id"] == own
        made.add(own)
    assert len(made) == 10


async def failures(client, case):
    """One reply for each error status, by status."""
    steps = f"{case}/steps"
    await client.post(steps, json={"steps": [a_step()]})
    return {
        400: await client.post(steps, data=b"{"),
        401: await client.get(RUNS, headers={"Authorization": "Bearer wrong"}),
        404: await client.get(f"{RUNS}/{uuid.uuid4()}"),
        405: await client.delete(steps),
        409: await client.post(steps, json={"steps": [a_step()]}),
        413: await client.post(steps, data=b" " * ((16 << 20) + 1)),
        415: await client.post(f"{case}/artifacts", data=b"x"),
        422: await client.post(steps, json={"steps": [a_step(-1)]}),
    }


async def test_every_error_has_the_same_fields_and_headers(client, case_url):
    for status, reply in (await failures(client, await case_url())).items():
        body = await reply.json()
        assert reply.status == status
        assert body.keys() - {"errors"} == {"detail", "code", "request_id"}, status
        assert re.fullmatch("[a-z_]+", body["code"]) and len(body["detail"]) > 10
        assert body["request_id"] == reply.headers["X-Request-Id"]
        assert reply.headers["Content-Type"] == "application/json"
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Server"] == "reportd"  # without a version
        assert ("errors" in body) == (status == 422)
    assert body["errors"] == [{"path": "steps[0].step_number", "message": "must be at least 0"}]


async def test_json_replies_are_no_store_and_nosniff(client, paths):
    seen = 0
    for route in ROUTES:
        if route.method != "GET":
            continue
        reply = await client.get(paths(route.path))
        assert (reply.status, reply.headers["X-Content-Type-Options"]) == (200, "nosniff"), route.path
        assert reply.headers["X-Request-Id"]
        if reply.content_type == "application/json":
            assert reply.headers["Cache-Control"] == "no-store", route.path
            seen += 1
    assert seen >= 12
    for method, url, body in [
        ("POST", RUNS, {"name": "x"}),
        ("PATCH", paths(f"{RUNS}/{{suite_id}}"), {}),
        ("DELETE", paths(f"{RUNS}/{{suite_id}}"), None),
    ]:
        reply = await client.request(method, url, json=body)
        assert reply.status < 300 and reply.headers["Cache-Control"] == "no-store"


# --- methods ---------------------------------------------------------------------------------------------------

VARYING = {"Date", "X-Request-Id", "X-Request-ID"}


async def test_head_has_the_status_and_headers_of_get_and_no_body(client, paths):
    for route in ROUTES:
        if route.method != "GET":
            continue
        urls = [paths(route.path), paths(route.path, **dict.fromkeys(NOUNS, str(uuid.uuid4())))]
        for url in dict.fromkeys([*urls, f"{urls[0]}{'&' if '?' in urls[0] else '?'}page=0"]):
            whole, head = await client.get(url), await client.head(url)
            body = await whole.read()
            assert (head.status, await head.read()) == (whole.status, b""), url
            kept = [{k: v for k, v in r.headers.items() if k not in VARYING} for r in (whole, head)]
            if "Transfer-Encoding" in whole.headers:  # made while it is sent: its length is not known before
                assert kept[0].pop("Transfer-Encoding") == "chunked" and kept == [kept[1]] * 2, url
                continue
            if route.path == "/metrics":  # its text changes with every request
                kept = [{k: v for k, v in headers.items() if k != "Content-Length"} for headers in kept]
            assert kept[0] == kept[1], url
            assert route.path == "/metrics" or int(head.headers["Content-Length"]) == len(body), url


async def test_any_other_method_is_a_405_with_the_allowed_methods(client):
    by_path = {}
    for route in ROUTES:
        by_path.setdefault(route.path, set()).update(
            {route.method, "HEAD"} if route.method == "GET" else {route.method}
        )
    for path, methods in by_path.items():
        url = re.sub(r"{\w+}", str(uuid.uuid4()), path)
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - methods:
            reply = await client.request(method, url)
            assert reply.status == 405, (method, url)
            assert {word.strip() for word in reply.headers["Allow"].split(",")} == methods


async def test_a_target_without_a_route_is_a_404(client):
    for target in (
        "OPTIONS *",
        "CONNECT h:80",
        "GET http://other/nothing",
        "GET //healthz",
        "GET /healthz/",
        "GET /%2e%2e",
    ):
        received = await send_raw(client, f"{target} HTTP/1.1")
        assert received.startswith(b"HTTP/1.1 404 ") and b'"code":"route_not_found"' in received, (target, received)
    assert (await send_raw(client, "GET http://other/healthz HTTP/1.1")).startswith(b"HTTP/1.1 200 ")


async def test_a_malformed_id_gets_the_404_of_a_missing_object(client, paths):
    good = uuid.uuid4()
    malformed = [
        "x",
        "0",
        "%00",
        "%ff",
        "..%2f..",
        str(good)[:-1],
        good.hex,
        f"urn:uuid:{good}",
        f"{good}%20",
    ]
    asked = 0
    for route in ROUTES:
        for name in route.ids:
            for wrong in malformed:
                headers = {"Content-Type": "multipart/form-data; boundary=x"} if route.upload else {}
                path = paths(route.path, **{name: wrong})
                reply = await client.request(route.method, path, headers=headers)
                assert (reply.status, (await reply.json())["detail"]) == (404, NOUNS[name]), (route.path, wrong)
                asked += 1
    assert asked > 200


async def test_an_id_may_be_in_upper_case(client, make_run):
    run = await make_run()
    reply = await client.get(f"{RUNS}/{run.upper()}")
    assert (reply.status, (await reply.json())["id"]) == (200, run)


# --- bodies ----------------------------------------------------------------------------------------------------


async def in_pieces(body, size):
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def test_chunked_json_is_accepted(client, rows):
    body = json.dumps({"name": "x", "tags": ["y" * 100] * 50}).encode()
    for size in (1, 1000, 10**6):
        assert (await client.post(RUNS, data=in_pieces(body, size))).status == 201
    assert (await client.post(RUNS, data=in_pieces(b"{" + body, 7))).status == 400
    assert len(rows("SELECT FROM suite_runs")) == 3


async def test_compressed_json_is_accepted(client, rows):
    body = json.dumps({"name": "x", "metadata": {"a": "b" * 60_000}}).encode()
    deflated = zlib.compress(body)
    for encoding, data in [("gzip", gzip.compress(body)), ("deflate", deflated), ("identity", body)]:
        for sent in (data, in_pieces(data, 11)):
            reply = await client.post(RUNS, data=sent, headers={"Content-Encoding": encoding})
            assert (reply.status, len((await reply.json())["metadata"]["a"])) == (201, 60_000), encoding


async def test_broken_compression_is_malformed(client, rows):
    good = gzip.compress(b'{"name": "x"}')
    for data in (b"no gzip", good[:-10], good[:5], b"", flip_byte(good, 12), flip_byte(good, -6)):
        reply = await client.post(RUNS, data=data, headers={"Content-Encoding": "gzip"})
        assert (reply.status, (await reply.json())["code"]) == (400, "malformed_body"), data
    assert rows("SELECT FROM suite_runs") == []


async def test_an_unsupported_content_encoding_is_refused(client, rows):
    for encoding in ("br", "zstd", "zebra", "gzip, gzip", "gzip;q=1"):
        reply = await client.post(RUNS, data=b'{"name": "x"}', headers={"Content-Encoding": encoding})
        assert (reply.status, (await reply.json())["code"]) == (415, "unknown_encoding"), encoding
    assert rows("SELECT FROM suite_runs") == []


async def test_compressed_bytes_count_towards_the_maximum_size(start, rows):
    """Otherwise a client could send without end what inflates to nothing: empty blocks, or bytes after the stream."""
    small = await start(api={"max_json_size": 2000})
    packed = gzip.compress(b'{"name": "x"}')
    nothing = b"\x00\x00\x00\xff\xff"  # an empty stored block: five bytes that inflate to nothing
    endless = zlib.compressobj(wbits=31)
    head = endless.compress(b'{"name": "x"}') + endless.flush(zlib.Z_SYNC_FLUSH)
    for data in (packed + bytes(4000), head + nothing * 1000 + endless.flush()):
        reply = await small.post(RUNS, data=in_pieces(data, 1000), headers={"Content-Encoding": "gzip"})
        assert reply.status in (400, 413), await reply.text()
    assert rows("SELECT FROM suite_runs") == []


async def test_a_body_that_stalls_is_refused_after_body_timeout(start):
    client = await start(server={"body_timeout": 0.2})
    for head, body in [("Content-Length: 30", b'{"name": '), ("Transfer-Encoding: chunked", b'5\r\n{"nam')]:
        received = await send_raw(client, f"POST {RUNS} HTTP/1.1\r\n{head}", body)
        assert received.startswith(b"HTTP/1.1 408 ") and b'"code":"body_timeout"' in received
        assert b"Connection: close" in received


async def test_a_body_above_the_maximum_size_is_refused_however_it_is_sent(client, make_run, start, rows):
    body = b'{"name": "x"}'
    small = await start(api={"max_json_size": 2000})
    assert (await small.post(RUNS, data=body.ljust(2000))).status == 201
    for data in (body.ljust(2001), in_pieces(body.ljust(2001), 100), in_pieces(body.ljust(1 << 20), 1 << 16)):
        reply = await small.post(RUNS, data=data)
        assert (reply.status, (await reply.json())["code"]) == (413, "too_large")
    bomb = gzip.compress(body.ljust(32 << 20))
    assert len(bomb) < 64 << 10
    for caller in (client, small):
        reply = await caller.post(RUNS, data=bomb, headers={"Content-Encoding": "gzip"})
        assert (reply.status, (await reply.json())["code"]) == (413, "too_large")
    assert len(rows("SELECT FROM suite_runs")) == 1


async def test_a_refusal_reaches_a_client_that_is_still_sending(client):
    """Closing a socket with unread bytes would reset the connection, and the client would lose the reply."""
    body = bytes(17 << 20)
    for url, known_length, unknown_length in [
        ("/nothing", 404, 404),
        (f"{RUNS}/x/test-cases", 413, 404),  # Content-Length is checked before the object is looked up
        (RUNS, 413, 413),
        (f"/api/v1/reports/test-case-results/{uuid.uuid4()}/artifacts", 413, 404),
        ("/api/v1/reports/test-case-results/x/artifacts", 413, 404),
    ]:
        upload = {"Content-Type": "multipart/form-data; boundary=x"} if url.endswith("/artifacts") else {}
        for data, status in [(body, known_length), (in_pieces(body, 1 << 20), unknown_length)]:
            reply = await client.post(url, data=data, headers=upload)
            assert (reply.status, reply.headers["Connection"]) == (status, "close"), url


async def test_100_continue_is_sent_only_after_the_checks_have_passed(client, make_run):
    body = b'{"name": "x"}'
    expecting = f"Expect: 100-continue\r\nContent-Length: {len(body)}"
    received = await send_raw(client, f"POST {RUNS} HTTP/1.1\r\n{expecting}", body)
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n")
    for path in (f"{RUNS}/{uuid.uuid4()}/test-cases", f"{RUNS}/x/test-cases"):
        received = await send_raw(client, f"POST {path} HTTP/1.1\r\n{expecting}")
        assert received.startswith(b"HTTP/1.1 404 Not Found\r\n") and b"100 Continue" not in received
    for method, path, status in [("POST", "/nothing", b"404"), ("PUT", RUNS, b"405"), ("POST", "/docs", b"405")]:
        received = await send_raw(client, f"{method} {path} HTTP/1.1\r\n{expecting}")
        assert received.startswith(b"HTTP/1.1 " + status) and b"100 Continue" not in received
    too_large = f"Expect: 100-continue\r\nContent-Length: {1 << 30}"
    received = await send_raw(client, f"POST {RUNS} HTTP/1.1\r\n{too_large}")
    assert received.startswith(b"HTTP/1.1 413 ") and b"100 Continue" not in received


async def test_a_body_is_read_as_json_whatever_its_content_type(client):
    for kind in ("text/plain", "application/json; charset=utf-8", "application/x-www-form-urlencoded", "nonsense"):
        reply = await client.post(RUNS, data=b'{"name": "x"}', headers={"Content-Type": kind})
        assert reply.status == 201, kind


async def test_nul_characters_are_accepted_in_unknown_fields_and_written_with_a_backslash(client):
    reply = await client.post(RUNS, data=rb'{"name": "x", "unknown": {"\u0000": "\ud83d"}}')
    assert reply.status == 201 and "warnings" not in await reply.json()
    fine = await client.post(RUNS, data=rb'{"name": "\\u0000 \ud83d\ude42"}')
    assert (fine.status, (await fine.json())["name"]) == (201, "\\u0000 🙂")


async def test_a_number_too_large_for_a_float_is_refused(client):
    for raw in (b'{"name": "x", "metadata": {"a": 1e999}}', b'{"name": "x", "metadata": {"a": -1e999}}'):
        assert (await client.post(RUNS, data=raw)).status in (400, 422)


# --- server errors and an unreachable database -----------------------------------------------------------------

LEAKS = ["Traceback", "SELEKT", "syntax", "asyncpg", ".py", "/server/", "/tmp", "postgres", "secret"]


async def test_an_internal_error_is_logged_and_its_reply_reveals_nothing(client, monkeypatch, caplog):
    monkeypatch.setattr(SQL.suite_runs, "page", "SELEKT secret FROM nothing")
    reply = await client.get(RUNS, headers={"X-Request-Id": "find-me"})
    text = await reply.text()
    assert (reply.status, json.loads(text)["code"]) == (500, "internal_error")
    assert [word for word in LEAKS if word in text] == []
    assert reply.headers["Cache-Control"] == "no-store"
    (logged,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert logged.fields["request_id"] == "find-me" and "SELEKT" in str(logged.exc_info[1])
    assert (await client.get("/healthz")).status == 200


async def unavailable(reply):
    body = await reply.json()
    assert (reply.status, body["code"]) == (503, "database_unavailable"), body
    assert int(reply.headers["Retry-After"]) >= 1
    assert [word for word in LEAKS if word in body["detail"]] == []


async def settled(client, url, status, **request):
    """Repeat a GET until it has this status, and return that reply."""
    deadline = time.monotonic() + 30
    while (reply := await client.get(url, **request)).status != status:
        assert time.monotonic() < deadline, await reply.text()
        await asyncio.sleep(0.02)
    return reply


async def test_the_server_recovers_when_its_database_comes_back(config, aiohttp_client, make_token, tmp_path_factory):
    """The server may also start before its database."""
    database = Postgres(tmp_path_factory.mktemp("own"), settings={"fsync": "off"})
    changed = msgspec.structs.replace(config.database, dsn=database.dsn())
    caller = await aiohttp_client(create_app(msgspec.structs.replace(config, database=changed)))
    bearer = {"Authorization": f"Bearer {make_token()}"}
    await unavailable(await caller.get(RUNS, headers=bearer))
    assert (await caller.get("/healthz")).status == 200
    try:
        await asyncio.to_thread(database.start)
        await asyncio.to_thread(migrate.apply, database.dsn())
        assert (await caller.get(RUNS, headers=bearer)).status == 401  # the tokens are in the other database
        await settled(caller, "/readyz", 200)  # the server retries the check of the storage folder every second
        await asyncio.to_thread(database.stop)
        await unavailable(await caller.get(RUNS, headers=bearer))
        await unavailable(await caller.post(RUNS, json={"name": "x"}, headers=bearer))
        await unavailable(await caller.get("/readyz"))
        await asyncio.to_thread(database.start)
        assert (await caller.get("/readyz")).status == 200
        assert (await caller.get(RUNS, headers=bearer)).status == 401
    finally:
        await asyncio.to_thread(database.stop)


KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"


async def test_the_pool_replaces_terminated_connections(client, postgres, rows):
    assert (await client.get(RUNS)).status == 200
    name = rows("SELECT current_database() AS name")[0]["name"]
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(KILL, [name])
    reply = await settled(client, RUNS, 200)
    assert (await reply.json())["items"] == []


async def test_a_database_that_refuses_connections_is_a_503(client, postgres, rows):
    name = rows("SELECT current_database() AS name")[0]["name"]
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute(KILL, [name])
        try:
            for _ in range(5):  # the first request may get a connection that is being terminated
                await unavailable(await client.get(RUNS))
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert (await client.get(RUNS)).status == 200


async def test_a_connection_lost_during_a_statement_is_a_503_with_unknown_outcome(client, case_url, rows, dsn):
    """The server cannot tell whether the transaction was committed."""
    case = await case_url()
    with psycopg.connect(dsn) as other:
        other.execute("LOCK TABLE test_step_results IN EXCLUSIVE MODE")
        waiting = asyncio.create_task(client.post(f"{case}/steps", json={"steps": [a_step()]}))
        stuck = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while not (found := rows(stuck)):
            await asyncio.sleep(0.01)
        rows("SELECT pg_terminate_backend(%s)", found[0]["pid"])
        reply = await waiting
        assert (reply.status, (await reply.json())["code"]) == (503, "outcome_unknown")
        other.rollback()
    assert rows("SELECT FROM test_step_results") == []
    assert (await client.post(f"{case}/steps", json={"steps": [a_step()]})).status == 201


def test_an_error_describes_a_pattern_or_shows_it():
    class Colour(Struct):
        value: Annotated[str, Meta(pattern="^#[0-9a-f]{6}$")]
        checksum: Sha256 | None = None

    with pytest.raises(Invalid) as raised:
        decode.from_json(b'{"value": "red"}', Colour, [])
    assert raised.value.detail == "value: must match ^#[0-9a-f]{6}$"
    with pytest.raises(Invalid) as raised:
        decode.from_json(b'{"value": "#00ff00", "checksum": "x"}', Colour, [])
    assert raised.value.detail == "checksum: must be 64 hexadecimal digits"
