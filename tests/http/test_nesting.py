"""JSON bodies are at most 64 levels deep. Paths in errors are short, and cost no memory."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.suite_runs import NewSuiteRun
from server.errors import Invalid, Problem, TooLarge
from server.http import decode, nesting
from server.http.nesting import check_count, check_depth, path_of
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


# --- the number of values -----------------------------------------------------------------------------------------


def too_many(raw):
    try:
        check_count(raw)
    except TooLarge:
        return True
    return False


MANY = {
    "empty lists": b"[" + b"[]," * 1_000_000 + b"1]",  # an empty one counts as two
    "objects": b"[" + b'{"a":1},' * 510_000 + b"1]",
    "numbers": b"[" + b"1," * 1_100_000 + b"1]",
    "texts": b"[" + b'"",' * 1_000_000 + b"1]",
    "keys": b"{" + b",".join(b'"%d":1' % i for i in range(1_000_002)) + b"}",
}


@pytest.mark.parametrize("raw", MANY.values(), ids=MANY)
def test_a_body_has_at_most_a_million_values(raw):
    assert too_many(raw)
    assert not too_many(raw[: len(raw) * 4 // 9])


MiB = 1 << 20
PLAUSIBLE = {
    "a log of commas": b'["' + b"," * 4 * MiB + b'"]',
    "a log of brackets": b'["' + b"?[[" * 2 * MiB + b'"]',
    "quoted commas": b'["' + rb"\",\"[" * MiB + b'"]',
    "backslashes": b'["' + b"\\" * 4 * MiB + b'",1]',
    "commas behind backslashes": b'["' + rb"\\,,,,\"" * MiB + b'"]',
    "many small entries": b"[" + b'{"level":"info","message":"a,b"},' * 300_000 + b"{}]",
}


@pytest.mark.parametrize("raw", PLAUSIBLE.values(), ids=PLAUSIBLE)
def test_commas_and_brackets_in_strings_are_no_values(raw):
    json.loads(raw)
    assert raw.count(b",") + raw.count(b"[") + raw.count(b"{") > 500_000 or b"\\" in raw
    assert not too_many(raw)


@given(
    st.recursive(
        st.none() | st.text(alphabet='",[{\\a'), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_values_are_counted_exactly_whatever_the_portions(value):
    raw = json.dumps(value).encode()
    expected = beginnings_of(value)
    before = nesting.MAX_VALUES, nesting._PORTION, nesting._BYTES_EACH
    try:
        nesting._BYTES_EACH = 1 << 30
        for nesting._PORTION in (1, 2, 7):
            for most in {0, expected - 1, expected, expected + 1}:
                nesting.MAX_VALUES = most
                looked_at = len(raw) > 2 * most  # a value and what stands before it are two bytes
                assert too_many(raw) == (most < expected and looked_at) or most < 0
    finally:
        nesting.MAX_VALUES, nesting._PORTION, nesting._BYTES_EACH = before


def beginnings_of(value):
    """Commas and opening brackets of the JSON."""
    if not isinstance(value, list | dict):
        return 0
    children = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(0, len(children) - 1) + sum(map(beginnings_of, children))


async def test_a_body_with_too_many_values_is_413_and_its_neighbours_are_served(client, make_run):
    reply = await client.post(RUNS, data=MANY["empty lists"], headers={"Content-Type": "application/json"})
    assert reply.status == 413
    detail = "The body has too many values: more than about 1,000,000. Send it in several requests."
    assert {"detail": detail, "code": "too_large"}.items() <= (await reply.json()).items()
    assert await make_run()
