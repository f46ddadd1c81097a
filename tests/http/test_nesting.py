"""JSON bodies are at most 64 levels deep. Paths in errors are short, and cost no memory."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.suite_runs import NewSuiteRun
from server.errors import Invalid, Problem
from server.http import decode
from server.http.nesting import check_depth, path_of
from server.http.repair import repaired
from tests.forms import a_body, a_field, a_file, post

RUNS = "/api/v1/reports/suite-runs"
TOO_DEEP = "must not be nested deeper than 64 levels"


def refused(raw):
    try:
        check_depth(raw)
    except Invalid:
        return True
    return False


def nested(levels, inner="1", around="[{}]"):
    for _ in range(levels):
        inner = around.replace("{}", inner, 1)
    return inner.encode()


# Each is one level. The strings have brackets and quotes that are no structure.
LEVELS = {
    "arrays": "[{}]",
    "objects": '{"k": {}}',
    "closing brackets in strings": '["]]]]", {}, "}}"]',
    "opening brackets in strings": '["[[[[", {}, "{"]',
    "escaped quotes": r'["\"]", {}, "\"["]',
    "backslashes before a quote": r'["\\", {}, "\\\\", "\\\"]"]',
}


@pytest.mark.parametrize("around", LEVELS.values(), ids=LEVELS)
def test_64_levels_are_accepted_and_65_are_not(around):
    assert not refused(nested(64, around=around))
    assert refused(nested(65, around=around))
    json.loads(nested(64, around=around))


def test_a_long_list_of_small_things_is_not_deep():
    assert not refused(b"[" + b'{"a": [1, "["]},' * 10_000 + b"1]")
    assert refused(b"[" + b'{"a": [1, "["]},' * 10_000 + nested(64) + b"]")


def depth(value):
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return max(map(depth, children), default=0) + isinstance(value, dict | list)


@given(
    st.recursive(
        st.text('[]{}"\\ a', max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('[]{}"\\', max_size=3), inner, max_size=3),
    ),
    st.integers(55, 66),
)
def test_the_depth_is_that_of_the_decoded_value(value, levels):
    for _ in range(levels):
        value = ["]", value, {"[": '"'}]
    assert refused(json.dumps(value).encode()) == (depth(value) > 64)


async def test_a_deep_body_is_refused_wherever_it_is_deep(client, case_url, rows):
    case = await case_url()
    for method, url, name in [
        ("POST", RUNS, "z"),
        ("POST", f"{case}/steps", "steps"),
        ("PUT", f"{case}/steps", "z"),
        ("PATCH", case, "metadata"),
        ("POST", f"{case}/network-logs", "entries"),
        ("POST", "/api/v1/reports/links", "z"),
        ("POST", "/api/v1/auth/login", "z"),
    ]:
        for levels in (64, 900, 7_000):
            body = f'{{"name": "x", "{name}": '.encode() + nested(levels) + b"}"
            reply = await client.request(method, url, data=body)
            problem = (await reply.json())["errors"][0]
            assert (reply.status, problem) == (422, {"path": "", "message": TOO_DEEP}), (url, levels)
    assert len(rows("SELECT FROM suite_runs")) == 1
    assert (await client.post(RUNS, data=b'{"name": "x", "z": ' + nested(63) + b"}")).status == 201


async def test_deep_metadata_of_a_batch_is_refused(client, case_url):
    case = await case_url()
    for levels, status in [(62, 201), (63, 422), (100_000, 422)]:
        metadata = b'[{"file_index": 0, "artifact_type": "log", "z": ' + nested(levels) + b"}]"
        body = a_body(a_field("metadata", metadata), a_file(b"x", "a.log", "files", "text/plain"))
        got, reply = await post(client, f"{case}/artifacts/batch", body)
        assert got == status, reply
    assert reply["errors"] == [{"path": "metadata", "message": TOO_DEEP}]


def test_a_path_is_cut_at_200_characters():
    where = None
    for key in ["k" * 150, 7, "\U0001f600" * 90, "x"]:
        where = (where, key)
    path = Problem(path_of(where), "").path
    assert path == ("k" * 150 + "[7]." + "\U0001f600" * 90)[:199] + "…"
    assert path_of((((None, "steps"), 2), "status")) == "steps[2].status"


def test_long_keys_on_every_level_take_no_more_memory_than_the_value():
    """A path for each level took 2.3 GB for 0.2 MiB of JSON."""
    raw = nested(30, r'"\u0000"', json.dumps({"k" * 3000: 0}).replace("0}", "{}, ") + '"a": 1, "b": 2}')
    warnings = []
    tracemalloc.start()
    try:
        repaired({"metadata": decode.parse(raw)}, NewSuiteRun, warnings)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(raw)
    finally:
        tracemalloc.stop()
    assert [len(each.path) for each in warnings] == [200]
