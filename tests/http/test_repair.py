"""One odd value never loses the rest of a report: free text and measured numbers are repaired, with a warning each."""

import hashlib
import json
import tracemalloc

import pytest

from server.bodies.test_cases import NewTestCase
from server.errors import Invalid
from server.http import decode
from server.http.repair import MAX_WARNINGS, repaired
from server.routes import ROUTES
from tests.api.test_steps import a_step
from tests.forms import post, single
from tests.makers import png

RUNS = "/api/v1/reports/suite-runs"
MIB = 1 << 20
NUL = "NUL characters or lone surrogates were replaced by U+FFFD"
TEXT = [
    ("NUL\0 is not NUL", "NUL\ufffd is not NUL", [NUL]),
    ("\0", "\ufffd", [NUL]),
    ("half \ud83d", "half \ufffd", [NUL]),
    ("\udc00\ud83d", "\ufffd\ufffd", [NUL]),
]


def cut(limit):
    """Texts that are too long for a field of this many characters, and what is stored."""
    return [
        ("ü" * (limit + 1), "ü" * (limit - 1) + "…", [f"was cut to {limit} characters"]),
        ("\0" * (limit + 9), "\ufffd" * (limit - 1) + "…", [NUL, f"was cut to {limit} characters"]),
        ("🙂" * limit, "🙂" * limit, []),
    ]


NUMBER = [
    (10, "10", ["`10` is stored as text"]),
    (-1.5, "-1.5", ["`-1.5` is stored as text"]),
    (True, "true", ["`true` is stored as text"]),
    (10**60, "1" + "0" * 60, [f"`1{'0' * 48}…` is stored as text"]),
]
LONG = [
    ("x" * (MIB + 1), "x" * (MIB - 3) + "…", ["was cut to 1 MiB"]),
    ("🙂" * (MIB // 4 + 1), "🙂" * (MIB // 4 - 1) + "…", ["was cut to 1 MiB"]),
    ("🙂" * (MIB // 4), "🙂" * (MIB // 4), []),
]
WORDS = [
    ("x" * (MIB - 9) + " //a:secret@b", "x" * (MIB - 9) + " …", ["was cut to 1 MiB"]),
    (" " + "x" * (MIB + 1), " " + "x" * (MIB - 4) + "…", ["was cut to 1 MiB"]),
]
DURATION = [
    (308.5, 309, ["was rounded to 309"]),
    (0.2, 0, ["was rounded to 0"]),
    (1500.0, 1500, []),
    (-0.0, 0, []),
    (1e3, 1000, []),
    (-1, None, ["was below zero and is stored as null"]),
    (-0.5, None, ["was below zero and is stored as null"]),
]
STATUS = [("passed", "Passed", []), ("FAILED", "Failed", []), ("sKipped", "Skipped", [])]
LEVEL = [
    ("ERROR", "error", []),
    (" Info ", "info", []),
    ("assert", "error", ["`assert` is stored as `error`"]),
    ("CRITICAL", "error", ["`critical` is stored as `error`"]),
    ("emerg", "error", ["`emerg` is stored as `error`"]),
    ("SEVERE", "error", ["`severe` is stored as `error`"]),
    ("warn", "warning", ["`warn` is stored as `warning`"]),
    ("FINEST", "debug", ["`finest` is stored as `debug`"]),
    ("startGroup", "info", ["`startgroup` is stored as `info`"]),
    ("x" * 60, "info", [f"`{'x' * 49}…` is stored as `info`"]),
    ("\0", "info", ["`\ufffd` is stored as `info`"]),
    ("", "info", ["`` is stored as `info`"]),
    (40, "info", ["`40` is stored as `info`"]),
]
SIZE = [
    (-1, None, []),
    (-1.0, None, []),
    (-2, None, ["was below zero and is stored as null"]),
    (3.5, 4, ["was rounded to 4"]),
]

# Each field with all its repairs: the value sent, the value stored, and the warnings.
STEP = {
    "action": [*TEXT, *cut(100), *NUMBER],
    "expected_value": NUMBER,
    "input_value": NUMBER,
    "description": [*TEXT, *LONG],
    "error_type": cut(100),
    "element_name": cut(255),
    "element_type": cut(50),
    "stack_trace": LONG,
    "screenshot_path": cut(500),
    "status": STATUS,
    "duration_ms": DURATION,
}
CONSOLE = {"level": LEVEL, "message": [*TEXT, *LONG, *WORDS], "line_number": DURATION, "column_number": DURATION}
NETWORK = {
    "url": TEXT,
    "status_code": [(-1, None, ["was below zero and is stored as null"]), (200.0, 200, [])],
    "resource_type": cut(50),
    "request_size": SIZE,
    "response_size": SIZE,
    "duration_ms": DURATION,
    "error_text": TEXT,
    "response_headers": [({"a": ["\0"]}, {"a": ["\ufffd"]}, [NUL])],
    "request_headers": [
        (
            {"a": 10, "b": [True, "x"]},
            {"a": "10", "b": ["true", "x"]},
            ["`10` is stored as text", "`true` is stored as text"],
        ),
        (
            {"Cookie": 7, "Age": 0},
            {"Cookie": "[redacted]", "Age": "0"},
            ["`7` is stored as text", "`0` is stored as text"],
        ),
    ],
}
CHECKPOINT = {
    "name": [*TEXT, *cut(500)],
    "status": STATUS,
    "message": TEXT,
    "actual_value": [*TEXT, *NUMBER],
    "expected_value": NUMBER,
}
CASE = {
    "name": [*TEXT, *cut(500)],
    "status": STATUS,
    "duration_ms": DURATION,
    "error_message": [*TEXT, *LONG],
    "error_type": cut(255),
    "browser": cut(255),
    "tags": [(["\0"], ["\ufffd"], [NUL]), ([1, "b"], ["1", "b"], ["`1` is stored as text"])],
    "metadata": [({"a": [{"b": "\0"}]}, {"a": [{"b": "\ufffd"}]}, [NUL]), ({"\ud800": 1.5}, {"\ufffd": 1.5}, [NUL])],
}
RUN = {
    "name": [*TEXT, *cut(500)],
    "status": [*STATUS, ("running", "Running", [])],
    "branch": cut(500),
    "environment": cut(255),
    "build_url": cut(2000),
    "platform": cut(255),
    "triggered_by": TEXT,
}


def way(case, run, noun):
    """How to send things and read them back: method, URL, name of their list in the body, URL of the stored ones."""
    return {
        "steps": ("POST", f"{case}/steps", "steps", f"{case}/steps?shape=array"),
        "steps/bulk": ("POST", f"{case}/steps/bulk", "steps", f"{case}/steps?shape=array"),
        "put steps": ("PUT", f"{case}/steps", "steps", f"{case}/steps?shape=array"),
        "console-logs": ("POST", f"{case}/console-logs", "entries", f"{case}/console-logs?per_page=500"),
        "network-logs": ("POST", f"{case}/network-logs", "entries", f"{case}/network-logs?per_page=500"),
        "checkpoints": ("POST", f"{case}/checkpoints", "checkpoints", f"{case}/checkpoints?per_page=500"),
        "test cases": ("POST", f"{RUNS}/{run}/test-cases/bulk", "test_cases", f"{RUNS}/{run}/test-cases?per_page=500"),
    }[noun]


BULKS = {
    "steps": (STEP, lambda n: {"step_number": n, "step_type": "click"}),
    "steps/bulk": (STEP, lambda n: {"step_number": n}),
    "put steps": (STEP, lambda n: {"step_number": n}),
    "console-logs": (CONSOLE, lambda n: {"level": "info", "message": "x"}),
    "network-logs": (NETWORK, lambda n: {"method": "GET", "url": "/"}),
    "checkpoints": (CHECKPOINT, lambda n: {"checkpoint_number": n, "name": "x"}),
    "test cases": (CASE, lambda n: {"name": "x"}),
}


@pytest.mark.parametrize("noun", BULKS)
async def test_odd_values_in_a_bulk_are_repaired_and_the_others_kept(client, make_run, case_url, noun):
    fields, make = BULKS[noun]
    method, url, key, listed = way(await case_url(), await make_run(), noun)
    table = [(name, *row) for name, rows in fields.items() for row in rows]
    entries = [{**make(number), name: sent} for number, (name, sent, _, _) in enumerate(table)]
    reply = await client.request(method, url, json={key: [*entries, make(len(table))]})
    body = await reply.json()
    assert reply.status in (200, 201), body
    stored = await (await client.get(listed)).json()
    stored = stored if isinstance(stored, list) else stored["items"]
    assert len(stored) == len(table) + 1
    assert [item[name] for item, (name, *_) in zip(stored, table, strict=False)] == [kept for _, _, kept, _ in table]
    wanted = [(number, name, message) for number, (name, *_, all) in enumerate(table) for message in all]
    got = [(each["path"], each["message"]) for each in body["warnings"]]
    if noun == "test cases":  # the test_id of a test with a long name
        got = [each for each in got if not each[0].endswith(".test_id")]
    assert [message for _, message in got] == [message for *_, message in wanted]
    for (path, _), (number, name, _) in zip(got, wanted, strict=True):
        assert path.startswith(f"{key}[{number}].{name}")


@pytest.mark.parametrize("kind", ["runs", "cases"])
async def test_odd_values_of_one_thing_are_repaired_when_it_is_created_and_changed(client, make_run, kind):
    run = await make_run()
    fields, url = (RUN, RUNS) if kind == "runs" else (CASE, f"{RUNS}/{run}/test-cases")
    for name, rows in fields.items():
        for sent, kept, messages in rows:
            created = await (await client.post(url, json={"name": "x", name: sent})).json()
            assert (created[name], "warnings" in created) == (kept, messages != []), (name, str(sent)[:50])
            one = f"{RUNS}/{created['id']}" if kind == "runs" else f"/api/v1/reports/test-case-results/{created['id']}"
            reply = await client.patch(one, json={name: sent})
            changed = await reply.json()
            assert (reply.status, changed[name]) == (200, kept), changed
            assert [each["message"] for each in changed.get("warnings", [])] == messages


async def test_a_test_id_that_is_cut_stays_unique(client, make_run):
    run = await make_run()
    long = "shop/" + "x" * 600
    wanted = long[:487] + "…" + hashlib.sha256(long.encode()).hexdigest()[:12]
    sent = [{"name": "a", "test_id": long}, {"name": "a", "test_id": long + "2"}, {"name": long}, {"name": long + "2"}]
    reply = await client.post(f"{RUNS}/{run}/test-cases/bulk", json={"test_cases": sent})
    body = await reply.json()
    ids = [case["test_id"] for case in body["test_cases"]]
    assert reply.status == 201 and ids[0] == ids[2] == wanted and ids[1] == ids[3] != wanted
    assert {len(each) for each in ids} == {500}
    assert [each["path"] for each in body["warnings"]][-2:] == ["test_cases[3].name", "test_cases[3].test_id"]
    again = await client.post(f"{RUNS}/{run}/test-cases", json={"name": "a", "test_id": long})
    assert (await again.json())["test_id"] == wanted


async def test_a_body_may_begin_with_a_byte_order_mark(client, case_url):
    case, mark = await case_url(), b"\xef\xbb\xbf"
    for method, url, body in [
        ("POST", RUNS, {"name": "x"}),
        ("POST", f"{case}/steps", {"steps": [a_step(1, action="\0")]}),
        ("PATCH", case, {"status": "Passed"}),
    ]:
        reply = await client.request(method, url, data=mark + json.dumps(body).encode())
        assert reply.status in (200, 201), await reply.text()
    for raw in (mark, mark + mark + b'{"name": "x"}', b'{"name": ' + mark + b'"x"}', mark[:2] + b'{"name": "x"}'):
        assert (await client.post(RUNS, data=raw)).status == 400, raw


async def test_there_are_at_most_100_warnings_and_none_without_repairs(client, case_url):
    case = await case_url()
    reply = await client.post(f"{case}/steps", json={"steps": [a_step(n, action="\0") for n in range(300)]})
    body = await reply.json()
    assert len(body["warnings"]) == MAX_WARNINGS and body["warnings"][99]["path"] == "steps[99].action"
    assert len(body["step_ids"]) == 300
    clean = await client.post(f"{case}/steps/bulk", json={"steps": [a_step(900, status="passed", duration_ms=2.0)]})
    assert clean.status == 201 and "warnings" not in await clean.json()


async def test_a_replay_has_the_warnings_of_the_first_reply(client, case_url):
    case = await case_url()
    for url, options in [
        (f"{case}/steps", {"json": {"steps": [a_step(1, action="x" * 101, error_message="\0")]}}),
        (f"{case}/console-logs", {"json": {"entries": [{"level": "assert", "message": "\0"}]}}),
    ]:
        first = await client.post(url, headers={"Idempotency-Key": url}, **options)
        again = await client.post(url, headers={"Idempotency-Key": url}, **options)
        assert (first.status, again.status, again.headers["Idempotent-Replayed"]) == (201, 201, "true")
        assert len((await first.json())["warnings"]) == 2
        assert await first.read() == await again.read()
    upload = single(png(8, 8), description="a\0")
    replies = [await post(client, f"{case}/artifacts", upload, Idempotency_Key="u") for _ in range(2)]
    assert replies[0] == replies[1] and replies[0][1]["warnings"] == [{"path": "description", "message": NUL}]


async def test_a_request_that_is_refused_has_no_warnings_and_stores_nothing(client, case_url, rows):
    case = await case_url()
    wrong = [a_step(1, action="\0", duration_ms=1.5), a_step(2, step_type="\0")]
    reply = await client.post(f"{case}/steps", json={"steps": wrong})
    body = await reply.json()
    assert (reply.status, body["errors"][0]["path"]) == (422, "steps[1].step_type") and "warnings" not in body
    assert rows("SELECT FROM test_step_results") == []


def test_an_object_that_is_too_large_is_refused_before_it_is_copied():
    """It may have millions of values."""
    for raw in (
        b'{"name": "x", "metadata": {"a": [' + b"[]," * 400_000 + b"1]}}",
        b'{"status": "passed", "name": "x", "metadata": {"a": [' + rb'"\u0000",' * 200_000 + b"1]}}",
    ):
        tracemalloc.start()
        try:
            with pytest.raises(Invalid) as raised:
                decode.from_json(raw, NewTestCase, [])
            assert tracemalloc.get_traced_memory()[1] < 45 * len(raw)
        finally:
            tracemalloc.stop()
        assert raised.value.detail == "metadata: must be at most 64 KiB as JSON"


async def test_queries_are_not_repaired_except_for_the_case_of_words(client, case_url):
    case = await case_url()
    await client.post(f"{case}/steps", json={"steps": [a_step(1, status="Failed")]})
    await client.post(f"{case}/console-logs", json={"entries": [{"level": "fatal", "message": "x"}]})
    assert (await (await client.get(f"{case}/steps?status=FAILED&shape=array")).json())[0]["step_number"] == 1
    for level, count in [("Error", 1), ("severe", 1), ("warn", 0)]:
        assert (await (await client.get(f"{case}/console-logs?level={level}")).json())["total"] == count
    for url in (f"{case}/console-logs?level=loud", f"{RUNS}?branch={'x' * 501}", f"{RUNS}?name=a%00"):
        assert (await client.get(url)).status == 422, url


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"01", b"1.", b"9" * 5000])
async def test_what_is_no_json_number_is_refused_beside_a_repair(client, case_url, number):
    raw = rb'{"steps": [{"step_number": 1, "step_type": "x", "action": "\u0000", "duration_ms": ' + number + b"}]}"
    reply = await client.post(f"{await case_url()}/steps", data=raw)
    assert reply.status in (400, 422), await reply.text()


def test_values_of_any_shape_are_left_to_the_validation():
    bodies = [kind for route in ROUTES for name, kind in route.takes.items() if name == "body"]
    assert len(bodies) >= 10
    odd = {"name": [], "level": [], "metadata": 1, "duration_ms": "1", "status": {}, "tags": 5, "message": None}
    for body in bodies:
        for value in ([], "x", None, 5, odd, {"steps": [odd]}, {"entries": [odd]}, {"test_cases": [odd, []]}):
            warnings = []
            assert (repaired(value, body, warnings), warnings) == (value, [])
