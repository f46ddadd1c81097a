"""Large lists are sent in portions: every item once and in order, nothing held as a whole, and no client takes a cut
reply for a whole one."""

import asyncio
import json
import logging
import re
import socket
from itertools import count

import pytest
from aiohttp import ClientPayloadError

from server.http import middleware
from server.http.middleware import REQUEST_LOG
from server.reports.listing import PORTION, Listing
from server.services import SERVICES
from tests.forms import CONTENT_TYPE, single
from tests.http.test_admission import until
from tests.makers import png

BASE = "/api/v1/reports"
HTML = {"Accept": "text/html"}
TEXTS = ["a" * 900_000, "é" * 90_000, "", '"\n\\' * 100_000, "\u2028😀" * 40_000, "x" * 1_048_576, "", "y" * 500_000]
QUERIES = {
    "steps": "SELECT id FROM test_step_results ORDER BY iteration_number, step_number",
    "checkpoints": "SELECT id FROM test_checkpoints ORDER BY seq",
    "console-logs": "SELECT id FROM test_console_logs ORDER BY seq",
    "network-logs": "SELECT id FROM test_network_logs ORDER BY seq",
    "artifacts": "SELECT id FROM test_artifacts ORDER BY iteration_number, step_number NULLS FIRST, id",
    "test-cases": "SELECT id FROM test_case_results ORDER BY id",
}


async def post(client, url, body):
    reply = await client.post(url, json=body)
    assert reply.status == 201, await reply.text()


@pytest.fixture
async def large(client, make_run, make_case, rows):
    """The URLs of a run and of a test case in it. Each of their lists has some MiB, in small and large entries."""
    run = await make_run(project="default")
    case = f"{BASE}/test-case-results/{await make_case(run=run, stack_trace=TEXTS[0], metadata={'a': 'm' * 60_000})}"
    names = count()
    for texts in (TEXTS, TEXTS[::-1]):
        first = next(names) * len(texts)
        numbered = [(first + i, text) for i, text in enumerate(texts)]
        steps = [
            {"step_number": i, "iteration_number": 3 - i // 6, "action": "click", "error_message": t}
            for i, t in numbered
        ]
        await post(client, f"{case}/steps/bulk", {"steps": [{**each, "status": "Failed"} for each in steps]})
        points = [{"checkpoint_number": i, "name": f"point {i}", "message": text} for i, text in numbered]
        await post(client, f"{case}/checkpoints", {"checkpoints": points})
        await post(client, f"{case}/console-logs", {"entries": [{"level": "info", "message": t} for _, t in numbered]})
        entries = [
            {"method": "GET", "url": "/", "error_text": text, "request_headers": {"a": ["b"]}} for _, text in numbered
        ]
        await post(client, f"{case}/network-logs", {"entries": entries})
        cases = [{"name": f"case {i}", "error_message": text, "tags": ["t"]} for i, text in numbered]
        await post(client, f"{BASE}/suite-runs/{run}/test-cases/bulk", {"test_cases": cases})
    for i in range(8):
        sent = single(png(8, 8, i), f"{i}.png", "image/png", **({"step_number": 12 + i // 2} if i % 2 else {}))
        reply = await client.post(f"{case}/artifacts", data=sent, headers={"Content-Type": CONTENT_TYPE})
        assert reply.status == 201, await reply.text()
    rows("UPDATE test_artifacts SET description = repeat(file_name, 130000) WHERE file_name <> '3.png'")
    return {"case": case, "run": f"{BASE}/suite-runs/{run}"}


def url_of(large, name):
    return f"{large['run' if name == 'test-cases' else 'case']}/{name}"


def ids(items):
    return [each["id"] for each in items]


async def test_a_large_list_is_sent_in_portions_and_has_every_item_once(client, large, rows):
    for name in QUERIES:
        await check_list(client, large, rows, name)


async def check_list(client, large, rows, name):
    url = url_of(large, name) + ("?per_page=500" if name not in ("steps", "artifacts") else "?shape=array")
    reply = await client.get(url)
    assert (reply.status, reply.headers["Transfer-Encoding"]) == (200, "chunked")
    assert "Content-Length" not in reply.headers and reply.headers["Content-Type"] == "application/json"
    text, found = await reply.read(), await reply.json()
    items = found if isinstance(found, list) else found["items"]
    expected = [str(row["id"]) for row in rows(QUERIES[name])]
    assert ids(items) == expected and len(text) > 4 << 20
    assert text == json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()  # one spacing, one comma
    if isinstance(found, dict):
        assert (found["total"], found["page"], found["per_page"]) == (len(expected), 1, 500)
    else:
        assert reply.headers["X-Total-Count"] == str(len(expected))
    page = "&" if "?" in url else "?"
    for i in (0, 3, len(expected) - 1):  # the same item on a page of its own, which is whole
        reply = await client.get(f"{url.replace('per_page=500', 'x=1')}{page}per_page=1&page={i + 1}")
        one = await reply.json()
        assert (one if isinstance(one, list) else one["items"]) == [items[i]]
    some = await (await client.get(f"{url.replace('per_page=500', 'x=1')}{page}per_page=5&page=2")).json()
    assert (some if isinstance(some, list) else some["items"]) == items[5:10]
    beyond = await client.get(f"{url.replace('per_page=500', 'x=1')}{page}per_page=5&page=99")
    assert "Content-Length" in beyond.headers and ids(await beyond.json() if isinstance(some, list) else []) == []


async def test_the_steps_of_a_large_case_are_those_of_its_report_and_of_each_form(client, large):
    url = f"{large['case']}/steps"
    whole = await (await client.get(url)).json()
    assert [whole[f"{word}_steps"] for word in ("total", "passed", "failed")] == [16, 0, 16]
    array = await (await client.get(f"{url}?shape=array")).json()
    report = await (await client.get(f"{large['case']}/report")).json()
    assert whole["steps"] == array == report["steps"]
    plain = await (await client.get(f"{url}?include_artifacts=false")).json()
    pictures = {"screenshot", "artifacts"}
    assert plain["steps"] == [{key: each[key] for key in each if key not in pictures} for each in array]
    only = await (await client.get(f"{url}?iteration_number=2&status=failed")).json()
    assert only["steps"] == [each for each in array if each["iteration_number"] == 2] and only["total_steps"] == 6
    assert (await (await client.get(f"{url}?status=passed")).json())["steps"] == []
    shown = [each["screenshot"]["file_name"] for each in array if each["screenshot"]]
    assert shown == ["1.png", "3.png", "5.png", "7.png"]


async def test_a_large_report_has_all_its_lists(client, large):
    reply = await client.get(f"{large['case']}/report")
    assert reply.headers["Transfer-Encoding"] == "chunked"
    report = await reply.json()
    keys = ["test_case_result", "steps", "artifacts", "checkpoints", "console_log_count", "network_log_count"]
    assert list(report) == [*keys, "truncated"]
    assert [len(report[key]) for key in keys[1:4]] == [16, 8, 16] and not report["truncated"]
    assert (report["console_log_count"], report["network_log_count"]) == (16, 16)
    points = await (await client.get(f"{large['case']}/checkpoints")).json()
    files = await (await client.get(f"{large['case']}/artifacts")).json()
    assert (report["checkpoints"], report["artifacts"]) == (points["items"], files["items"])


async def a_link(client, body):
    return (await (await client.post(f"{BASE}/links", json=body)).json())["url"]


async def test_the_pages_of_a_link_are_bounded_and_lead_to_every_text(client, nobody, large):
    """They show one step at a time, so they need no portions. The JSON of a link does."""
    link = await a_link(client, {"suite_run_id": large["run"].rpartition("/")[2]})
    page = f"{link}{large['case'].removeprefix(BASE)}"
    reply = await nobody.get(page, headers={"Accept": "application/json"})
    assert (reply.headers["Transfer-Encoding"], reply.headers["Vary"]) == ("chunked", "Accept")
    report = await reply.json()
    assert len(report["steps"]) == 16 and len(await reply.read()) > 4 << 20
    steps = {f"{each['iteration_number']}.{each['step_number']}": each for each in report["steps"]}
    for at in (None, *steps):
        reply = await nobody.get(f"{page}?step={at}&whole=true" if at else page, headers=HTML)
        text = await reply.text()
        assert reply.status == 200 and len(text) < PORTION and text.rstrip().endswith("</html>")
        if at:
            length = len(steps[at]["error_message"])
            assert f'data-at="{at}"' in text and (f'href="{page}/steps/{at}"' in text) == (length > 20_000)
            whole = await (await nobody.get(f"{page}/steps/{at}", headers=HTML)).text()
            assert min(length, 100_000) < len(whole) < PORTION
            assert ("(the first 100,000 characters)" in whole) == (length > 100_000)
    for name in {each["file_name"] for each in report["artifacts"]}:
        assert name in text
    text = await (await nobody.get(link, headers=HTML)).text()
    assert len(text) < PORTION // 4
    runs = await (await nobody.get(f"{link}?per_page=500", headers={"Accept": "application/json"})).json()
    items = runs["test_case_results"]["items"]
    assert len(items) == 17 and all(each["url"] == f"{link}/test-case-results/{each['id']}" for each in items)


async def test_a_small_list_is_sent_in_one_piece(client, make_case):
    case = f"{BASE}/test-case-results/{await make_case()}"
    await post(client, f"{case}/steps", {"steps": [{"step_number": i, "step_type": "click"} for i in range(50)]})
    for path in ("/steps", "/report", "/steps?include_artifacts=false", "/artifacts", "/console-logs"):
        reply = await client.get(case + path)
        assert "Transfer-Encoding" not in reply.headers and "Content-Length" in reply.headers


async def test_many_small_steps_and_artifacts_are_sent_in_portions(client, make_case, rows):
    case = await make_case()
    url = f"{BASE}/test-case-results/{case}"
    for first in (0, 4000):
        await post(client, f"{url}/steps/bulk", {"steps": [{"step_number": first + i} for i in range(4000)]})
    reply = await client.get(f"{url}/steps")
    assert reply.headers["Transfer-Encoding"] == "chunked"
    assert [each["step_number"] for each in (await reply.json())["steps"]] == list(range(8000))
    report = await (await client.get(f"{url}/report")).json()
    assert (len(report["steps"]), report["truncated"]) == (2000, True)


async def test_a_large_list_in_http_1_0_ends_with_the_connection(client, large):
    for connection in ("close", "keep-alive"):
        head, _, body = (await raw(client, f"{large['case']}/console-logs", "1.0", connection)).partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head and b"Content-Length" not in head and b"keep-alive" not in head.lower()
        assert len(json.loads(body)["items"]) == 16


async def raw(client, path, version, connection="close"):
    """All bytes of a reply over a connection of its own; raises ConnectionResetError when that is reset."""
    reader, writer = await asyncio.open_connection(client.host, client.port)
    token = client.session.headers["Authorization"]
    head = f"GET {path} HTTP/{version}\r\nHost: x\r\nAuthorization: {token}\r\nConnection: {connection}\r\n\r\n"
    writer.write(head.encode())
    try:
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


async def test_head_of_a_large_list_has_no_body_and_keeps_the_connection(client, large):
    for path in ("/steps", "/report", "/network-logs?per_page=500"):
        reply = await client.head(large["case"] + path)
        assert (reply.status, await reply.read()) == (200, b"")
        assert "Transfer-Encoding" not in reply.headers and "Content-Length" not in reply.headers
        assert (await client.get("/healthz")).status == 200
    assert client.app[SERVICES].admission.replies == 0


@pytest.fixture
def fails_later(monkeypatch):
    """fails_later(error): reading the second portion of any list raises it."""

    def start(error):
        async def fail(self, pool, after):
            raise error

        monkeypatch.setattr(Listing, "_next", fail)

    return start


async def test_a_reply_that_fails_after_its_first_portion_is_cut(client, large, fails_later, caplog):
    errors = [TimeoutError(), ConnectionError(), RuntimeError("no")]
    for error, path in zip(errors, ("/steps", "/console-logs", "/report"), strict=True):
        fails_later(error)
        reply = await client.get(large["case"] + path)
        assert reply.status == 200
        with pytest.raises((ClientPayloadError, ConnectionError)):
            await reply.read()
        with pytest.raises(ConnectionResetError):  # with HTTP/1.0, a mere end would be the end of the body
            await raw(client, large["case"] + path, "1.0")
    cut = [record.getMessage() for record in caplog.records if "its reply was cut after" in record.getMessage()]
    assert len(cut) == 6 and all(repr(errors[i // 2]) in text for i, text in enumerate(cut))
    assert client.app[SERVICES].admission.replies == 0


async def test_an_error_before_the_first_byte_is_an_error_reply(client, large, monkeypatch):
    async def fail(*arguments):
        raise TimeoutError

    monkeypatch.setattr("server.reports.steps._illustrated", lambda *arguments: fail)
    reply = await client.get(f"{large['case']}/steps")
    assert (reply.status, (await reply.json())["code"]) == (503, "database_unavailable")


async def test_rows_that_are_written_meanwhile_neither_repeat_nor_hide_others(client, large, rows, monkeypatch):
    before = [str(row["id"]) for row in rows(QUERIES["steps"])]
    following, changed = Listing._next, []

    async def change_first(self, pool, after):
        if not changed:
            changed.append(1)
            rows("DELETE FROM test_step_results WHERE id = %s OR id = %s", before[0], before[-3])
            await client.post(
                f"{large['case']}/steps/bulk", json={"steps": [{"step_number": 0, "iteration_number": 1}]}
            )
        return await following(self, pool, after)

    monkeypatch.setattr(Listing, "_next", change_first)
    found = ids((await (await client.get(f"{large['case']}/steps")).json())["steps"])
    assert found == [each for each in before if each != before[-3]]


async def test_a_client_that_stops_reading_holds_a_portion_and_is_disconnected(start, large, caplog):
    caplog.set_level(logging.INFO, REQUEST_LOG.name)
    client = await start(server={"body_timeout": 1.0})
    admission = client.app[SERVICES].admission
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect((client.host, client.port))
        token = client.session.headers["Authorization"]
        stalled.sendall(f"GET {large['case']}/steps HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
        await until(lambda: admission.replies and not client.app[SERVICES].pool.in_use)
        assert admission.replies < 3 << 20
        await until(lambda: not admission.replies)
    await until(lambda: [r for r in caplog.records if getattr(r, "fields", {}).get("status") == 499])


def sent_bytes(text):
    return float(re.search(r'^reportd_body_bytes_total\{direction="sent"\} (.*)$', text, re.MULTILINE)[1])


async def test_the_bytes_of_a_reply_in_portions_are_counted_and_logged(client, large, caplog):
    caplog.set_level(logging.INFO, REQUEST_LOG.name)
    for _ in range(3):  # requests of earlier tests in this process may just have ended, and are counted once
        caplog.clear()
        before = await (await client.get("/metrics")).text()
        size = len(await (await client.get(f"{large['case']}/steps")).read())
        after = await (await client.get("/metrics")).text()
        counted = sent_bytes(after) - sent_bytes(before) - len(before.encode())  # the first reply is counted, too
        if counted == size:
            break
    assert counted == size
    (fields,) = [r.fields for r in caplog.records if getattr(r, "fields", {}).get("path", "").endswith("/steps")]
    assert (fields["status"], fields["sent"]) == (200, size)


async def test_a_row_that_does_not_fit_into_reply_memory_cuts_only_its_reply(start, large, monkeypatch):
    client = await start(server={"reply_memory": 4 << 20})
    admission = client.app[SERVICES].admission
    monkeypatch.setattr(middleware, "PORTION", 1000)  # less is reserved than the portions take
    with admission.reply(3 << 20):
        reply = await client.get(f"{large['case']}/console-logs")
        with pytest.raises((ClientPayloadError, ConnectionError)):
            await reply.read()
    assert (admission.replies, admission.refused_replies) == (0, 1)
    assert len((await (await client.get(f"{large['case']}/console-logs")).json())["items"]) == 16
