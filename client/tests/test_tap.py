"""TAP: what node and mocha write here, small files in the ways of others, and bad ones."""

import pytest
from reportd_client.formats.tap_lines import point_of, values_of

from tests.test_junit import dry_run, looked, rows
from tests.test_send import run_of
from tests.tools import node

NODE = r"""
const { test, describe, it } = require('node:test')
const assert = require('assert')
describe('Cart', () => {
  it('adds', () => { console.log('hello') })
  it('fails', () => { assert.strictEqual(1, 2) })
  it('throws # odd \\ name', () => { throw new TypeError('two\nlines \u001b[31mred\u001b[0m') })
  it.skip('left out', () => {})
  it('skips', t => t.skip('no browser'))
  it.todo('later')
  it('todo fails', { todo: 'soon' }, () => { throw new Error('known') })
  describe('inner', () => { it('deep', () => {}) })
})
test('parent', async t => {
  await t.test('fine', () => {})
  await t.test('broken', () => { throw new Error('no') })
})
test('fails itself', async t => {
  await t.test('fine', () => {})
  throw new Error('own')
})
"""
BY_NODE = [
    ("Cart › adds", "Passed", None, None),
    ("Cart › fails", "Failed", "AssertionError", "Expected values to be strictly equal:"),
    ("Cart › throws # odd \\ name", "Failed", "TypeError", "two"),
    ("Cart › left out", "Skipped", None, None),
    ("Cart › skips", "Skipped", None, "no browser"),
    ("Cart › later", "Passed", None, None),
    ("Cart › todo fails", "Skipped", None, "soon"),
    ("Cart › inner › deep", "Passed", None, None),
    ("parent › fine", "Passed", None, None),
    ("parent › broken", "Failed", None, "no"),
    ("fails itself › fine", "Passed", None, None),
    ("fails itself", "Failed", None, "own"),
]


@pytest.fixture(scope="module")
def by_node(tmp_path_factory):
    """A folder with the TAP and the JUnit of node's own runner."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "cart.test.js").write_text(NODE)
    for name in ("tap", "junit"):
        reporter = f"--test-reporter={name}", f"--test-reporter-destination=node.{name}"
        node(folder, "", "--test", *reporter, "cart.test.js")
    return folder


def first_lines(results):
    found = rows(results, "test_id", "status", "error_type", "error_message")
    return [(*row[:3], row[3] and row[3].splitlines()[0]) for row in found]


def test_tap_of_node(by_node):
    reports, results = looked(by_node / "node.tap")
    assert first_lines(results) == BY_NODE and reports.notes == []
    tests = {result.test["test_id"]: result.test for result in results}
    fails = tests["Cart › fails"]
    assert fails["error_message"] == "Expected values to be strictly equal:\n\n1 !== 2"
    assert "cart.test.js:6:" in fails["stack_trace"].splitlines()[0]
    metadata = {name: value for name, value in fails["metadata"].items() if name != "location"}
    assert metadata == {
        "suite": "Cart",
        "code": "ERR_ASSERTION",
        "failureType": "testCodeFailure",
        "operator": "strictEqual",
        "expected": "2",
        "actual": "1",
    }
    assert fails["metadata"]["location"].endswith("cart.test.js:6:3")
    assert tests["Cart › throws # odd \\ name"]["error_message"] == "two\nlines red"
    todo = tests["Cart › todo fails"]["metadata"]
    assert (todo["outcome"], todo["expected_error"]) == ("todo", "known")
    assert tests["Cart › later"]["metadata"]["outcome"] == "todo"
    assert all(isinstance(test["duration_ms"], int) for test in tests.values())
    assert [entry["message"] for entry in results[0].console_logs] == ["hello"]


def test_junit_of_node_has_the_same_tests(by_node):
    _, results = looked(by_node / "node.junit")
    names = [result.test["name"].removesuffix(" #2") for result in results]  # the file does not say which suite
    assert names == [identity.rpartition(" › ")[2] for identity, *_ in BY_NODE][:-1], "no failure of a parent itself"
    statuses = [row[1] for row in BY_NODE][:-1]
    statuses[5] = "Skipped"  # it.todo
    assert [result.test["status"] for result in results] == statuses
    assert [result.test.get("error_message") for result in results][3:6] == [None, "no browser", None]
    assert results[1].test["error_message"].startswith("Expected values to be strictly equal:")


def test_of_both_the_first_of_the_list_is_sent_once(by_node, send, server):
    done = send(by_node / "node.tap", "--run-key", "node")
    assert done.returncode == 0 and "12 tests" in done.stdout, done.stderr
    tests = {test["name"]: test for test in run_of(server, done)["tests"]}
    assert tests["deep"]["test_id"] == "Cart › inner › deep" and tests["adds"]["console"][0]["source_url"] == "output"
    assert "12 tests (0 new)" in send(by_node / "node.tap", "--run-key", "node").stdout


MOCHA = r"""
const assert = require('assert')
describe('Cart', function () {
  it('adds', () => { console.log('hello') })
  it('fails', () => { assert.strictEqual(1, 2) })
  it.skip('left out', () => {})
  describe('broken', () => {
    before('sets up', () => { throw new TypeError('no\ndatabase') })
    it('never', () => {})
  })
})
"""


@pytest.mark.parametrize("version", ["12", "13"])
def test_mocha(tmp_path, version):
    (tmp_path / "cart.js").write_text(MOCHA)
    options = "--reporter", "tap", "--reporter-option", f"tapVersion={version}"
    (tmp_path / "mocha.tap").write_text(node(tmp_path, "mocha/bin/mocha.js", *options, "cart.js").stdout)
    reports, results = looked(tmp_path / "mocha.tap")
    assert first_lines(results) == [
        ("Cart adds", "Passed", None, None),
        (
            "Cart fails",
            "Failed",
            None if version == "12" else "AssertionError",
            "Expected values to be strictly equal:",
        ),
        ("Cart left out", "Skipped", None, None),
        (
            'Cart broken "before all" hook: sets up for "never"',
            "Failed",
            None if version == "12" else "TypeError",
            "no",
        ),
    ]
    assert [entry["message"] for entry in results[0].console_logs] == ["hello"]
    assert "cart.js:5:" in results[1].test["stack_trace"] and reports.notes == []
    assert "1 !== 2" in results[1].test["error_message"]


# --- in the ways of others ---


def read(tmp_path, text):
    (tmp_path / "a.tap").write_bytes(text.encode("utf-8", "surrogatepass"))
    return looked(tmp_path / "a.tap")


PERL = """ok 1 - opens the shop
not ok 2 - the cart has one item
#   Failed test 'the cart has one item'
#   at cart.t line 7.
#          got: '0'
#     expected: '1'
some output
ok 3 # skip no network
ok
ok 5 - opens the shop
    ok 1 - adds
    not ok 2 - pays # TODO not yet
    1..2
ok 6 - cart
1..6
# Looks like you failed 1 test of 6.
"""
FAILURE = "Failed test 'the cart has one item'\nat cart.t line 7.\n       got: '0'\n  expected: '1'"


def test_perl(tmp_path):
    """Comments after a failure are its error. The subtests of `cart` come before its name."""
    reports, results = read(tmp_path, PERL)
    assert rows(results, "test_id", "status", "error_message") == [
        ("opens the shop", "Passed", None),
        ("the cart has one item", "Failed", FAILURE),
        ("test 3", "Skipped", "no network"),
        ("test 1", "Passed", None),
        ("opens the shop #2", "Passed", None),
        ("cart › adds", "Passed", None),
        ("cart › pays", "Skipped", "not yet"),
    ]
    assert [entry["message"] for entry in results[2].console_logs] == ["some output"] and reports.notes == []


BRACES = """TAP version 14
pragma +strict
1..2
ok 1 - files # time=12.5ms {
    # Subtest: reads
        1..1
        ok 1 - one # time=1.5s
    ok 1 - reads # time=3ms
    not ok 2 - writes
      ---
      at:
        file: a.js
        line: 7
      message: "no \\"space\\"\\nleft"
      severity: 'it''s bad'
      ...
    1..2
}
ok 2 - empty suite
  ---
  type: 'suite'
  ...
"""


def test_subtests_in_braces(tmp_path):
    reports, results = read(tmp_path, BRACES)
    assert rows(results, "test_id", "status", "duration_ms", "error_message") == [
        ("files › reads › one", "Passed", 1500, None),
        ("files › writes", "Failed", None, 'no "space"\nleft'),
    ]
    assert results[1].test["metadata"] == {"severity": "it's bad", "suite": "files"} and reports.notes == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ok", (True, None, "", "", "")),
        ("ok 1", (True, 1, "", "", "")),
        ("not ok 2 - a - b", (False, 2, "a - b", "", "")),
        ("ok - no number", (True, None, "no number", "", "")),
        ("ok no number", (True, None, "no number", "", "")),
        ("ok 3 a # SKIP: why", (True, 3, "a", "skip", "why")),
        ("ok 3 a # skipped", (True, 3, "a", "skip", "")),
        ("not ok 3 - a \\# b # todo", (False, 3, "a # b", "todo", "")),
        ("ok 1 - a \\# SKIP", (True, 1, "a # SKIP", "", "")),
        ("ok 1 - issue #12 # TODO x", (True, 1, "issue #12", "todo", "x")),
        ("ok 1 - \x1b[32mgreen\x1b[0m", (True, 1, "green", "", "")),
        ("okay", None),
        ("ok, done", None),
        ("not okay", None),
    ],
)
def test_lines(line, expected):
    point = point_of(line)
    found = point and (point.is_ok, point.number, point.name, point.directive, point.reason)
    assert found == expected


def test_blocks_of_yaml():
    block = [
        "  a: 1",
        "  b: |-",
        "    two",
        "",
        "      lines",
        "  c:",
        "    - x",
        "    - y: z",
        "  d: >",
        "  odd",
        "  e: ''",
    ]
    assert values_of(block) == {"a": "1", "b": "two\n\n  lines", "c": "- x\n- y: z", "d": "odd", "e": ""}
    assert values_of([]) == {} and values_of(["no key"]) == {}


# --- cut, odd and hostile files ---


@pytest.mark.parametrize(
    ("text", "count", "words"),
    [
        ("1..3\nok 1 - a\nok 2 - b\n", 2, "planned 3 tests, and has 2"),
        ("ok 1 - a\nok 2 - b\n", 2, "is cut, or has no plan"),
        ("ok 1 - a\nok 2 - b that was cu", 1, "is cut, or has no plan"),
        ("1..2\nok 1 - a\nok 2 - b", 2, ""),
        ("# Subtest: p\n    ok 1 - a\n    1..2\nok 1 - p\n1..1\n", 1, "planned 2 subtests of p, and has 1"),
        ("1..1\nok 1 - a\n    ok 1 - b\n", 1, "has 1 subtests whose test did not come"),
        ("# Subtest: p\n    ok 1 - a\n    ok 2 - b that", 1, "is cut, or has no plan"),
        ("1..2\nok 1 - a\nBail out! no database\n", 1, "planned 2 tests, and has 1"),
        ("1..1\nnot ok 1 - a\n  ---\n  message: x\nok 2", 2, "planned 1 tests, and has 2"),
    ],
)
def test_plans(tmp_path, text, count, words):
    reports, results = read(tmp_path, text)
    assert (len(results), bool(words)) == (count, bool(reports.notes)) and words in " ".join(reports.notes)
    assert reports.suite.get("status") == ("Failed" if "Bail" in text else None)


@pytest.mark.parametrize(
    ("text", "format", "code", "words"),
    [
        ("", "tap", 2, "is empty"),
        ("TAP version 14\n1..0 # SKIP no display\n", None, 2, "is empty: it has no test"),
        ("<testsuite/>", "tap", 3, "is no TAP: it has no line that begins with `ok`"),
        ("not a report\n", None, 3, "is of no format that is known"),
        ("ok 1 - a\n", "junit", 3, "is cut or damaged"),
        ("1..2\nok 1 - a\n", None, 4, "planned 2 tests"),
    ],
)
def test_exit_codes(tmp_path, capsys, text, format, code, words):
    (tmp_path / "a.tap").write_text(text)
    ended = dry_run(tmp_path / "a.tap", *(["--format", format] if format else []))
    assert (ended, words in (said := capsys.readouterr().err)) == (code, True), said


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_encodings(tmp_path, encoding):
    (tmp_path / "a.tap").write_bytes(f"TAP version 13\r\n1..1\r\nok 1 - Prüfung {'x' * 200_000}\0\r\n".encode(encoding))
    _, (result,) = looked(tmp_path)
    assert result.test["name"].startswith("Prüfung" if encoding != "latin-1" else "Pr\ufffdfung")
    assert len(result.test["test_id"]) == 500


def test_subtests_that_never_end(tmp_path, monkeypatch):
    monkeypatch.setattr("reportd_client.formats.tap.MAX_WAITING", 100)
    reports, _ = read(tmp_path, "1..1\n" + "    ok 1 - a\n" * 101)
    assert "has too many subtests without their test" in reports.unreadable[0]
    monkeypatch.setattr("reportd_client.formats.tap.MAX_WAITING_SIZE", 0)
    monkeypatch.setattr("reportd_client.formats.tap_lines.KEPT", 20)
    reports, _ = read(tmp_path, "1..1\n" + "    not ok 1 - a\n# some text\n" * 3)
    assert "has too many subtests without their test" in reports.unreadable[0]
    monkeypatch.undo()
    deep = "".join("    " * depth + "ok 1 - a\n" for depth in range(300))
    assert len(read(tmp_path, f"1..1\n{deep}")[1]) == 1
    long = "not ok 1 - a\n  ---\n  message: |-\n" + "    x\n" * 400_000
    _, (result,) = read(tmp_path, f"1..1\n{long}")
    assert len(result.test["error_message"]) == 64 << 10
