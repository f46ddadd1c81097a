"""Cucumber's messages and JSON: what cucumber-js writes here, what other implementations write, and bad files."""

import base64
import json
from collections import Counter

import pytest
from reportd_client.formats.embedded import TOO_LARGE

from tests.images import png
from tests.odd import with_odd_values
from tests.test_junit import dry_run, looked, rows
from tests.test_send import run_of
from tests.tools import node

FEATURE = r"""@shop
Feature: Cart
  What a customer buys.

  Background:
    Given an empty cart

  @smoke
  Scenario: adds an item
    When I add "soap"
    Then the cart has 1 item

  Scenario: is wrong
    When I add "soap"
    Then the cart has 2 items
    And the cart has 1 item

  @flaky
  Scenario: flaky
    When it fails once

  Scenario: waits
    When it is pending

  Scenario: left out
    When it is skipped

  Scenario: unknown
    When nobody knows this

  Scenario: unclear
    When two match

  Scenario: with a table
    When I press buttons:
      | name | price |
      | soap | 3     |
    And I say
      '''
      hello
      '''

  Rule: discounts
    Scenario Outline: <n> of <what>
      When I add "<what>"
      Then the cart has <n> items
      Examples: good
        | n | what |
        | 1 | soap |
      Examples:
        | n | what |
        | 9 | soap |

    Scenario Outline: the same name
      When I add "<what>"
      Examples:
        | what |
        | a    |
        | b    |

    @broken
    Scenario: hook fails
      When I add "x"
""".replace("'''", '"""')
STEPS = """
const { Given, When, Then, Before, After } = require('@cucumber/cucumber')
const assert = require('assert')
const png = (last) => Buffer.from('%s' + last, 'hex')
Given('an empty cart', function () { this.items = [] })
When('I add {string}', function (item) {
  this.items.push(item)
  this.log('added \\u001b[1m' + item + '\\u001b[0m')
  this.attach(png('00'), 'image/png')
  this.attach('{"a":1}', 'application/json')
  this.attach('plain text', 'text/plain')
  this.link('https://shop.example/' + item)
})
When('I press buttons:', function (table) {})
When('I say', function (text) {})
Then('the cart has {int} item(s)', function (n) { assert.strictEqual(this.items.length, n) })
let fails = true
When('it fails once', function () { if (fails) { fails = false; throw new Error('\\u001b[31mfirst\\u001b[0m time') } })
When('it is pending', () => 'pending')
When('it is skipped', () => 'skipped')
When('two match', () => {})
When(/two .*/, () => {})
Before(function () {})
Before({ tags: '@broken', name: 'opens the shop' }, function () { throw new TypeError('no shop') })
After(function (scenario) {
  if (scenario.result.status === 'FAILED') this.attach(png('ff'), { mediaType: 'image/png', fileName: 'failed.png' })
})
"""
PATH = "features/cart.feature › Cart › "
TESTS = [
    (PATH + "adds an item", 1, "Passed", None, None),
    (PATH + "is wrong", 1, "Failed", "AssertionError", "Expected values to be strictly equal:"),
    (PATH + "flaky", 1, "Failed", "Error", "first time"),
    (PATH + "flaky", 2, "Passed", None, None),
    (PATH + "waits", 1, "Failed", None, "The step is pending: it is pending"),
    (PATH + "left out", 1, "Skipped", None, None),
    (PATH + "unknown", 1, "Failed", None, "No step definition matches: nobody knows this"),
    (PATH + "unclear", 1, "Failed", None, "Multiple step definitions match:"),
    (PATH + "with a table", 1, "Passed", None, None),
    (PATH + "discounts › 1 of soap", 1, "Passed", None, None),
    (PATH + "discounts › 9 of soap", 1, "Failed", "AssertionError", "Expected values to be strictly equal:"),
    (PATH + "discounts › the same name", 1, "Passed", None, None),
    (PATH + "discounts › the same name #2", 1, "Passed", None, None),
    (PATH + "discounts › hook fails", 1, "Failed", "TypeError", "no shop"),
]


@pytest.fixture(scope="module")
def cucumber(tmp_path_factory):
    """A folder with messages.ndjson and cucumber.json of one run of cucumber-js."""
    folder = tmp_path_factory.mktemp("cucumber")
    (folder / "features/support").mkdir(parents=True)
    (folder / "features/cart.feature").write_text(FEATURE)
    (folder / "features/support/steps.js").write_text(STEPS % png(7).hex())
    formats = ["-f", "message:messages.ndjson", "-f", "json:cucumber.json", "-f", "summary"]
    done = node(folder, "@cucumber/cucumber/bin/cucumber.js", "--retry", "1", "--retry-tag-filter", "@flaky", *formats)
    assert "14 scenarios" not in done.stdout and "13 scenarios" in done.stdout, done.stdout + done.stderr
    return folder


def first_lines(results):
    found = rows(results, "test_id", "attempt", "status", "error_type", "error_message")
    return [(*row[:4], row[4] and row[4].splitlines()[0]) for row in found]


def steps_of(result, *names):
    return [tuple(step.get(name) for name in names) for step in result.steps]


def test_messages_of_cucumber_js(cucumber):
    reports, results = looked(cucumber / "messages.ndjson")
    assert first_lines(results) == TESTS
    assert reports.notes == reports.remarks == []
    assert (
        reports.suite["metadata"]["cucumber"]["implementation"].startswith("cucumber-js 1")
        and reports.suite["started_at"]
    )
    by_name = {result.test["name"]: result for result in results}
    adds = by_name["adds an item"]
    assert adds.test["tags"] == ["@shop", "@smoke"] and adds.test["started_at"] <= adds.test["completed_at"]
    assert isinstance(adds.test["duration_ms"], int)
    assert adds.test["metadata"] == {
        "feature": "Cart",
        "description": "What a customer buys.",
        "location": "features/cart.feature:9",
        "links": ["https://shop.example/soap"],
    }
    assert steps_of(adds, "step_number", "step_type", "action", "status") == [
        (1, "other", "Given an empty cart", "Passed"),
        (2, "other", 'When I add "soap"', "Passed"),
        (3, "assert", "Then the cart has 1 item", "Passed"),
    ]
    assert all(step["started_at"] and step["duration_ms"] >= 0 for step in adds.steps)
    assert adds.console_logs == [{"level": "info", "message": "added soap", "source_url": "log", "step_number": 2}]
    files = [(file.fields["file_name"], file.fields["artifact_type"], file.data) for file in adds.files]
    assert files == [
        ("step_002.png", "screenshot", png(7) + b"\0"),
        ("step_002_2.json", "other", b'{"a":1}'),
        ("step_002_3.txt", "log", b"plain text"),
    ]
    assert {file.fields["step_number"] for file in adds.files} == {2}
    wrong = by_name["is wrong"]
    assert wrong.test["stack_trace"].splitlines()[0].startswith("AssertionError [ERR_ASSERTION]: Expected values")
    assert "steps.js:" in wrong.test["stack_trace"].splitlines()[-1]
    assert steps_of(wrong, "action", "status")[2:] == [
        ("Then the cart has 2 items", "Failed"),
        ("And the cart has 1 item", "Skipped"),
        (f"After (features/support/steps.js:{STEPS[: STEPS.index('After(')].count(chr(10)) + 1})", "Passed"),
    ]
    assert wrong.steps[2]["error_message"] == wrong.test["error_message"]
    (picture,) = (file for file in wrong.files if file.fields["file_name"] == "failed.png")
    assert (picture.fields["step_number"], picture.fields["artifact_category"]) == (3, "error"), (
        "of the step that failed"
    )
    table, text = by_name["with a table"].steps[1:]
    assert (table["step_type"], table["action"]) == ("click", "When I press buttons:")
    assert table["description"] == "When I press buttons:\n| name | price |\n| soap | 3 |"
    assert text["description"] == "And I say\nhello"
    row = by_name["9 of soap"].test["metadata"]
    assert (row["rule"], row["parameters"]) == ("discounts", {"n": "9", "what": "soap"})
    assert by_name["unknown"].test["metadata"]["outcome"] == "undefined"
    assert steps_of(by_name["hook fails"], "action", "status")[:2] == [
        ("Before (opens the shop)", "Failed"),
        ("Given an empty cart", "Skipped"),
    ]


def test_json_of_cucumber_js(cucumber):
    """As the messages, without attempts, times and the parameters of rows."""
    reports, results = looked(cucumber / "cucumber.json")
    _, known = looked(cucumber / "messages.ndjson")
    known = [result for result in known if result.test["name"] != "flaky" or result.test["attempt"] == 2]
    assert reports.notes == [] and len(results) == len(known) == 13
    for result, expected in zip(results, known):
        same = "name", "test_id", "status", "error_type", "tags"
        assert [result.test.get(name) for name in same] == [expected.test.get(name) for name in same]
        assert result.console_logs == expected.console_logs
        same = "step_number", "step_type", "status", "description", "parent_step_number"
        assert steps_of(result, *same) == steps_of(expected, *same)
        place = [
            (file.data, file.fields.get("step_number"), file.fields.get("artifact_category")) for file in result.files
        ]
        assert place == [
            (file.data, file.fields.get("step_number"), file.fields.get("artifact_category")) for file in expected.files
        ]
        metadata = {name: value for name, value in expected.test["metadata"].items() if name != "parameters"}
        assert result.test["metadata"] == metadata
    wrong = results[1].test
    assert wrong["error_message"].startswith("AssertionError [ERR_ASSERTION]: Expected values to be strictly equal:")
    assert "steps.js:" in wrong["stack_trace"].splitlines()[-1]


def test_of_both_the_messages_are_sent_once(cucumber, send, server):
    done = send(cucumber / "messages.ndjson", cucumber / "cucumber.json", "--run-key", "cucumber")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cucumber.json is skipped" in done.stderr and "14 tests, 22 files" in done.stdout
    run = run_of(server, done)
    assert run["status"] == "Failed" and run["started_at"]
    assert Counter(test["status"] for test in run["tests"]) == {"Passed": 6, "Failed": 7, "Skipped": 1}
    (wrong,) = (test for test in run["tests"] if test["name"] == "is wrong")
    assert wrong["steps"][2]["screenshot"]["file_name"] == "failed.png"
    assert {server.bytes_of(artifact) for artifact in wrong["artifacts"]} >= {png(7) + b"\xff", b"plain text"}
    again = send(cucumber / "messages.ndjson", "--run-key", "cucumber")
    assert "14 tests (0 new), 22 files (0 new)" in again.stdout


def test_a_rerun_in_another_file_goes_on_with_the_attempts(cucumber, tmp_path):
    text = (cucumber / "messages.ndjson").read_text()
    (tmp_path / "a.ndjson").write_text(text)
    (tmp_path / "b.ndjson").write_text(text.replace('"seconds":1', '"seconds":2'))  # later, in 2033 at least
    _, results = looked(tmp_path)
    found = {(result.test["test_id"], result.test["attempt"]) for result in results}
    assert len(results) == 28
    assert {(PATH + "is wrong", 2), (PATH + "flaky", 2), (PATH + "flaky #2", 2), (PATH + "adds an item #2", 1)} <= found


# --- other implementations ---


def encoded(data):
    return base64.b64encode(data).decode()


def step(name, status="passed", **more):
    return {"keyword": "When ", "name": name, "result": {"status": status, "duration": 2_000_000}, **more}


def element(name, line, *steps, **more):
    return {"type": "scenario", "keyword": "Scenario", "name": name, "line": line, "steps": list(steps), **more}


def features(*elements):
    return [{"uri": "a.feature", "name": "A", "keyword": "Feature", "elements": list(elements)}]


def test_json_with_hooks_and_backgrounds_beside_the_steps(tmp_path):
    """As Cucumber for the JVM and Ruby write it."""
    failed = {"result": {"status": "failed", "error_message": "java.io.IOException: no\n\tat A.b(A.java:1)"}}
    passed = {"result": {"status": "passed"}, "match": {"location": "Hooks.close()"}}
    picture = {"mime_type": "image/png", "data": encoded(png(1)), "name": "shot"}
    value = features(
        element("", 2, step("the shop is open", rows=[{"cells": ["a", "b"]}]), type="background"),
        element(
            "x",
            4,
            step("I click it", output=["one", "two"], doc_string={"value": "text"}, embeddings=[picture]),
            step("I see it", "undefined", before=[failed]),
            before=[passed],
            after=[{**passed, "embeddings": [picture]}],
            start_timestamp="2026-01-02T03:04:05.678Z",
        ),
        element("same", 7, step("a")),
        element("same", 8, step("a", "failed")),
        element("same", 8, step("a")),
        element("empty", 9),
        element("strange", 10, step("a", "untested"), {"keyword": "Then "}),
    )
    (tmp_path / "cucumber.json").write_text(json.dumps(value))
    _, results = looked(tmp_path)
    assert rows(results, "test_id", "attempt", "status") == [
        ("a.feature › A › x", 1, "Failed"),
        ("a.feature › A › same", 1, "Passed"),
        ("a.feature › A › same #2", 1, "Failed"),
        ("a.feature › A › same #2", 2, "Passed"),
        ("a.feature › A › empty", 1, "Pending"),
        ("a.feature › A › strange", 1, "Pending"),
    ]
    test = results[0].test
    assert (test["error_type"], test["started_at"]) == ("java.io.IOException", "2026-01-02T03:04:05.678+00:00")
    assert test["duration_ms"] == 6
    assert steps_of(results[0], "action", "status", "description") == [
        ("When the shop is open", "Passed", "When the shop is open\n| a | b |"),
        ("When I click it", "Passed", "When I click it\ntext"),
        ("BeforeStep", "Failed", None),
        ("When I see it", "Failed", None),
        ("After (Hooks.close())", "Passed", None),
    ]
    assert [(entry["message"], entry["step_number"]) for entry in results[0].console_logs] == [("one", 2), ("two", 2)]
    assert [(file.fields["file_name"], file.fields["step_number"]) for file in results[0].files] == [
        ("shot", 4),
        ("shot", 2),
    ]
    assert results[0].steps[1]["step_type"] == "click" and results[5].test["metadata"]["outcome"] == "unknown"


def test_only_some_rows_of_an_outline_keep_their_identities(cucumber):
    done = node(
        cucumber,
        "@cucumber/cucumber/bin/cucumber.js",
        f"features/cart.feature:{FEATURE.splitlines().index('        | b    |') + 1}",
        "-f",
        "message:row.ndjson",
    )
    _, results = looked(cucumber / "row.ndjson")
    assert rows(results, "test_id") == [(PATH + "discounts › the same name #2",)], done.stdout


# --- cut, odd and hostile files ---


def test_a_cut_file_of_messages_has_its_whole_tests(cucumber, tmp_path):
    text = (cucumber / "messages.ndjson").read_text()
    half = text[: text.index('"willBeRetried":true') - 30]
    (tmp_path / "cut.ndjson").write_text(half)
    reports, results = looked(tmp_path)
    assert first_lines(results) == TESTS[:2]
    assert [note.partition(" ")[2] for note in reports.notes] == [
        f"is cut or damaged: 1 of its lines cannot be read, the first is line {half.count(chr(10)) + 1}",
        "ends before the run did; not ended: flaky",
    ]
    assert dry_run(tmp_path / "cut.ndjson") == 4


def test_a_cut_file_of_json_has_its_whole_tests(cucumber, tmp_path):
    """Of a feature that is cut, only where its name comes first: cucumber-js writes it last."""
    whole = (cucumber / "cucumber.json").read_text().rstrip().removesuffix("]")
    text = f"{whole},\n{whole.lstrip('[')}]"
    (tmp_path / "cut.json").write_text(text[: len(text) * 3 // 4])
    reports, results = looked(tmp_path)
    assert len(results) == 13 and "is cut: 13 whole results were read" in reports.notes[0]
    text = json.dumps(features(element("x", 1), element("y", 2, step("a"))))
    (tmp_path / "cut.json").write_text(text[: text.index('"a"')])
    reports, results = looked(tmp_path)
    assert rows(results, "test_id") == [("a.feature › A › x",)] and "is cut: 1 whole" in reports.notes[0]


def envelope(**messages):
    return "".join(json.dumps({name: value}) + "\n" for name, value in messages.items())


META = '{"meta": {"protocolVersion": "27.0.0"}}\n'
RUN = META + envelope(
    pickle={"id": "p", "uri": "a.feature", "name": "x\ud800\0", "steps": [{"id": "s", "text": "a" * 200_000}]},
    testCase={"id": "c", "pickleId": "p", "testSteps": [{"id": "t", "pickleStepId": "s"}, {"id": "h", "hookId": "?"}]},
    testCaseStarted={"id": "r", "testCaseId": "c", "attempt": 0, "timestamp": {"seconds": "no"}},
    testStepFinished={"testCaseStartedId": "r", "testStepId": "t", "testStepResult": {"status": "PASSED"}},
)
ENDED = envelope(testCaseFinished={"testCaseStartedId": "r"})
FINISHED = envelope(testRunFinished={"success": True})


def attached(**fields):
    return envelope(attachment={"testCaseStartedId": "r", **fields})


def test_odd_attachments(tmp_path, monkeypatch):
    (tmp_path / "beside.png").write_bytes(png(3))
    monkeypatch.setattr("reportd_client.formats.cucumber_messages.MOST", 12)
    more = [
        attached(body="\x1b[31mred", mediaType="text/x.cucumber.log+plain"),
        attached(body="***", mediaType="image/png", contentEncoding="BASE64"),
        attached(body="", mediaType="text/plain", contentEncoding="IDENTITY"),
        attached(body="é", mediaType="text/markdown; charset=utf-8", contentEncoding="IDENTITY"),
        attached(body="123456789", mediaType="application/x-odd", fileName="../../etc/odd"),
        attached(url="beside.png", mediaType="image/png"),
        attached(url="../../etc/passwd", mediaType="text/plain"),
        envelope(attachment={"body": "of the run", "mediaType": "text/plain"}),
        envelope(testRunHookFinished={"result": {"status": "FAILED", "message": "no database"}}),
    ]
    (tmp_path / "m.ndjson").write_text(RUN + "".join(more) + ENDED + FINISHED)
    reports, (result,) = looked(tmp_path)
    assert result.console_logs == [{"level": "info", "message": "red", "source_url": "log"}]
    files = [(file.fields["file_name"], file.data or file.path or file.refused) for file in result.files]
    assert files == [
        ("attachment.png", "Its content is no base64"),
        ("attachment_2.txt", "It is empty"),
        ("attachment_3.txt", "é".encode()),
        ("odd", TOO_LARGE),
        ("beside.png", tmp_path / "beside.png"),
        ("passwd", "../../etc/passwd is outside of the folder of m.ndjson"),
    ]
    left_out = "1 attachments are left out: they are of the run itself, or too many"
    assert reports.notes == [f"{tmp_path / 'm.ndjson'}: {left_out}"]
    assert reports.suite["status"] == "Failed" and reports.suite["metadata"]["errors"] == ["no database"]
    assert "started_at" not in result.test and len(result.steps[0]["action"]) == 100


def test_an_error_outside_of_scenarios_fails_the_run(tmp_path, send, server):
    (tmp_path / "m.ndjson").write_text(RUN + ENDED + envelope(testRunFinished={"exception": {"message": "no server"}}))
    run = run_of(server, send(tmp_path / "m.ndjson"))
    assert [(test["name"], test["status"]) for test in run["tests"]] == [("x\ufffd\ufffd", "Passed")]
    assert (run["status"], run["metadata"]["errors"]) == ("Failed", ["no server"])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings(tmp_path, encoding):
    (tmp_path / "m.ndjson").write_bytes((RUN.replace("a.feature", "Prüfung") + ENDED + FINISHED).encode(encoding))
    (tmp_path / "c.json").write_bytes(
        json.dumps(features(element("ü", 1, step("a"))), ensure_ascii=False).encode(encoding)
    )
    _, results = looked(tmp_path / "m.ndjson", tmp_path / "c.json")
    assert [result.test["test_id"][:7] for result in results] == ["Prüfung", "a.featu"]
    assert results[1].test["name"] == "ü"


@pytest.mark.parametrize(
    ("name", "text", "format", "code", "words"),
    [
        ("a.ndjson", META + FINISHED, None, 2, "is empty: no scenario was run"),
        ("a.ndjson", META, None, 3, "is cut before the end of its first scenario"),
        ("a.ndjson", RUN, None, 3, "is cut before the end of its first scenario"),
        ("a.ndjson", "", "cucumber-messages", 2, "is empty"),
        ("a.xml", "<testsuite/>", "cucumber-messages", 3, "is no file of Cucumber's messages"),
        ("a.json", '{"steps": []}', "cucumber-messages", 3, "is no file of Cucumber's messages"),
        ("a.ndjson", META + "[" * 100_000 + "\n" + ENDED + FINISHED, None, 2, "1 of its lines cannot be read"),
        ("a.json", "[]", "cucumber-json", 2, "is empty: it has no scenario"),
        ("a.json", json.dumps(features()) + " ", None, 2, "is empty: it has no scenario"),
        ("a.json", json.dumps(features(element("x", 1)))[:-30], None, 3, "is cut before the end of its first feature"),
        ("a.json", '{"steps": []}', "cucumber-json", 3, "is no JSON of Cucumber"),
        ("a.json", "[1]", "cucumber-json", 3, "is no JSON of Cucumber"),
        ("a.json", '["elements", "keyword", {"elements": 1}]', None, 3, "is no JSON of Cucumber"),
    ],
)
def test_exit_codes(tmp_path, capsys, name, text, format, code, words):
    (tmp_path / name).write_text(text)
    ended = dry_run(tmp_path / name, *(["--format", format] if format else []))
    assert (ended, words in (said := capsys.readouterr().err)) == (code, True), said


def test_a_line_that_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr("reportd_client.formats.text_file.MAX_LINE", 1000)
    long = envelope(source={"uri": "a.feature", "data": "x" * 2_000})
    (tmp_path / "m.ndjson").write_text(META + long + RUN.replace("a" * 200_000, "a") + ENDED + FINISHED)
    reports, results = looked(tmp_path)
    assert len(results) == 1 and "1 of its lines cannot be read, the first is line 2" in reports.notes[0]


def test_values_of_other_types_cost_no_more_than_themselves(tmp_path):
    """Every value of a run is replaced by others in turn: nothing is raised."""
    value = [json.loads(line) for line in (RUN + attached(body="x", mediaType="a/b") + ENDED + FINISHED).splitlines()]
    for changed in with_odd_values(value):
        (tmp_path / "m.ndjson").write_text("".join(json.dumps(line) + "\n" for line in changed))
        looked(tmp_path / "m.ndjson", format="cucumber-messages")
    failed = {"result": {"status": "failed", "duration": 1}, "match": {"location": "x"}}
    value = features(element("x", 1, step("a", embeddings=[{"mime_type": "a/b", "data": ""}], before=[failed])))
    for changed in with_odd_values(value):
        (tmp_path / "c.json").write_text(json.dumps(changed))
        looked(tmp_path / "c.json", format="cucumber-json")


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("text_file.MAX_LINES", "has more than 3 lines"),
        ("cucumber_cases.MAX_VALUES", "has too many scenarios for one file"),
        ("cucumber_messages.MAX_OPEN_STEPS", "has more than 3 steps of scenarios that do not end"),
        ("cucumber_messages.MAX_ATTACHMENTS", "1 attachments are left out"),
    ],
)
def test_what_would_need_too_much_memory(tmp_path, monkeypatch, limit, words):
    monkeypatch.setattr(f"reportd_client.formats.{limit}", 3)
    more = attached(body="x", mediaType="a/b") * 4 + envelope(testCaseStarted={"id": "r2", "testCaseId": "c"})
    (tmp_path / "m.ndjson").write_text(RUN + more + ENDED + FINISHED)
    reports, _ = looked(tmp_path)
    assert words in " ".join((*reports.unreadable, *reports.notes))
