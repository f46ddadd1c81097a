"""CTRF: what reporters of Jest and Playwright write here, small files in the ways of others, and bad ones."""

import base64
import json

import pytest

from tests.images import png
from tests.odd import with_odd_values
from tests.test_junit import dry_run, looked, rows
from tests.test_send import run_of
from tests.tools import node

JEST = """
jest.retryTimes(1)
describe('Cart', () => {
  test('adds', () => {})
  test('fails', () => { expect({ a: 1 }).toEqual({ a: 2 }) })
  test.skip('left out', () => {})
  test.todo('later')
  let runs = 0
  test('flaky', () => { if (runs++ < 1) throw new TypeError('first') })
  describe('inner', () => { test('deep', async () => { await new Promise(done => setTimeout(done, 30)) }) })
})
"""
JEST_REPORTER = {
    "outputDir": ".",
    "appName": "shop",
    "branchName": "next",
    "buildUrl": "https://ci.example/12",
    "testEnvironment": "staging",
    "osPlatform": "linux",
}
UNTOLD = "The report does not say how this attempt failed"


@pytest.fixture(scope="module")
def by_jest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jest")
    (folder / "cart.test.js").write_text(JEST)
    config = {"reporters": [["jest-ctrf-json-reporter", {**JEST_REPORTER, "outputFile": "ctrf.json"}]]}
    (folder / "jest.config.json").write_text(json.dumps(config))
    done = node(folder, "jest/bin/jest.js", "--ci", "--no-cache")
    assert (folder / "ctrf.json").exists(), done.stdout + done.stderr
    return folder / "ctrf.json"


def test_jest(by_jest):
    reports, results = looked(by_jest)
    of, deep = "cart.test.js › Cart › Cart ", "cart.test.js › Cart › inner › Cart inner deep"
    assert rows(results, "test_id", "attempt", "status") == [
        (of + "adds", 1, "Passed"),
        (of + "fails", 1, "Failed"),
        (of + "fails", 2, "Failed"),
        (of + "left out", 1, "Skipped"),
        (of + "later", 1, "Skipped"),
        (of + "flaky", 1, "Failed"),
        (of + "flaky", 2, "Passed"),
        (deep, 1, "Passed"),
    ]
    tests = [result.test for result in results]
    assert tests[1]["error_message"] == tests[5]["error_message"] == UNTOLD and "duration_ms" not in tests[1]
    assert tests[2]["error_message"].splitlines()[0] == "Error: expect(received).toEqual(expected) // deep equality"
    assert "cart.test.js:5" in tests[2]["stack_trace"].splitlines()[0]
    assert [tests[i]["metadata"].get("outcome") for i in (3, 4, 0)] == ["pending", "todo", None]
    assert tests[7]["duration_ms"] >= 29 and tests[0]["name"] == "Cart adds"
    assert tests[0]["metadata"] == {
        "type": "unit",
        "suite": "cart.test.js / Cart",
        "location": str(by_jest.parent / "cart.test.js"),
    }
    suite = {name: value for name, value in reports.suite.items() if name not in ("started_at", "metadata")}
    assert suite == {
        "branch": "next",
        "build_url": "https://ci.example/12",
        "environment": "staging",
        "platform": "linux",
    }
    assert reports.suite["metadata"] == {"tool": "jest", "environment": {"appName": "shop"}}
    assert reports.suite["started_at"].startswith("20") and reports.notes == []


PLAYWRIGHT = """
const { test, expect } = require('@playwright/test')
const fs = require('fs')
const image = Buffer.from('%s', 'hex')
test.describe('Cart', () => {
  test('adds @smoke', { annotation: { type: 'issue', description: 'SHOP-1' } }, async () => {
    await test.step('outer', async () => { await test.step('inner', async () => {}) })
    console.log('out 1\\nout 2'); console.error('\\u001b[31merr\\u001b[0m')
    await test.info().attach('screenshot', { body: image, contentType: 'image/png' })
  })
  test('fails', async () => {
    const path = test.info().outputPath('shot.png')
    fs.writeFileSync(path, Buffer.concat([image, Buffer.from([test.info().retry])]))
    await test.info().attach('picture', { path, contentType: 'image/png' })
    await test.step('Click Pay', async () => { expect(1, 'one is two').toBe(2) })
  })
  test('flaky', async ({}, info) => { expect(info.retry).toBe(1) })
  test.fixme('fixme', () => {})
  test('slow', async () => { test.setTimeout(200); await new Promise(() => {}) })
})
"""


@pytest.fixture(scope="module")
def by_playwright(tmp_path_factory):
    folder = tmp_path_factory.mktemp("playwright")
    (folder / "cart.spec.js").write_text(PLAYWRIGHT % png(5).hex())
    options = {"outputDir": ".", "outputFile": "ctrf.json", "screenshot": True, "annotations": True, "testType": "e2e"}
    config = {"retries": 1, "workers": 1, "projects": [{"name": "shop"}]}
    config["reporter"] = [["line"], ["playwright-ctrf-json-reporter", options]]
    (folder / "playwright.config.js").write_text(f"module.exports = {json.dumps(config)}")
    done = node(folder, "@playwright/test/cli.js", "test")
    assert (folder / "ctrf.json").exists(), done.stdout + done.stderr
    return folder


def test_playwright(by_playwright):
    _, results = looked(by_playwright / "ctrf.json")
    of = "shop › cart.spec.js › Cart › "
    assert rows(results, "test_id", "attempt", "status") == [
        (of + "adds @smoke", 1, "Passed"),
        (of + "fails", 1, "Failed"),
        (of + "fails", 2, "Failed"),
        (of + "flaky", 1, "Failed"),
        (of + "flaky", 2, "Passed"),
        (of + "fixme", 1, "Skipped"),
        (of + "slow", 1, "Failed"),
        (of + "slow", 2, "Failed"),
    ]
    adds, first, last = results[:3]
    assert adds.test["tags"] == ["@smoke"] and adds.test["metadata"]["type"] == "e2e"
    (annotation,) = adds.test["metadata"]["extra"]["annotations"]
    assert (annotation["type"], annotation["description"]) == ("issue", "SHOP-1")
    assert [(step["step_number"], step["action"], step["status"]) for step in adds.steps] == [
        (1, "outer", "Passed"),
        (2, "inner", "Passed"),
    ]
    assert [(entry["level"], entry["message"], entry["source_url"]) for entry in adds.console_logs] == [
        ("info", "out 1", "stdout"),
        ("info", "out 2", "stdout"),
        ("warning", "err", "stderr"),
    ]
    (picture,) = adds.files
    assert (picture.fields["file_name"], picture.data) == ("screenshot.png", png(5))
    for result in (first, last):
        assert result.test["error_message"].splitlines()[0] == "Error: one is two"
        assert "expect(1, 'one is two')" in result.test["stack_trace"] and "\x1b" not in str(result.test)
    assert [(step["action"], step["step_type"], step["status"]) for step in last.steps] == [
        ("Click Pay", "click", "Failed")
    ]
    (picture,) = (file for file in last.files if file.fields["artifact_type"] == "screenshot")
    assert picture.path.read_bytes() == png(5) + b"\1"
    assert picture.fields == {
        "file_name": picture.path.name,
        "artifact_type": "screenshot",
        "description": "picture",
        "artifact_category": "error",
        "step_number": 1,
    }
    assert results[-1].test["metadata"]["outcome"] == "timedOut"
    assert results[-1].test["error_message"] == "Test timeout of 200ms exceeded."


def test_a_report_that_was_moved_is_sent_once(by_playwright, tmp_path, send, server):
    moved = tmp_path / "moved"
    by_playwright.rename(moved)
    try:
        done = send(moved / "ctrf.json")
        run = run_of(server, done)
        assert done.returncode == 0 and len(run["tests"]) == 8, done.stdout + done.stderr
        (last,) = (test for test in run["tests"] if test["name"] == "fails" and test["attempt"] == 2)
        assert server.bytes_of(last["steps"][0]["screenshot"]) == png(5) + b"\1"
        again = send(moved / "ctrf.json")
        assert "8 tests (0 new), " in again.stdout and "(0 new) sent" in again.stdout
    finally:
        moved.rename(by_playwright)


# --- in the ways of others ---


def ctrf(*tests, **results):
    return json.dumps({"reportFormat": "CTRF", "results": {"tool": {"name": "t"}, "tests": list(tests), **results}})


def one(**fields):
    return {"name": "a", "status": "passed", **fields}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"suite": ["x", "y"], "duration": 1.5}, {"test_id": "x › y › a", "duration_ms": 2}),
        ({"suite": "x > y"}, {"test_id": "x › y › a"}),
        ({"name": ""}, {"test_id": "(without a name)", "name": "(without a name)"}),
        ({"start": 1_700_000_000}, {"started_at": "2023-11-14T22:13:20.000+00:00"}),
        ({"start": 1_700_000_000_123}, {"started_at": "2023-11-14T22:13:20.123+00:00"}),
        ({"start": 1_700_000_000.5}, {"started_at": "2023-11-14T22:13:20.500+00:00"}),
        ({"start": -1, "duration": "soon"}, {"started_at": None, "duration_ms": None}),
        ({"status": "other"}, {"status": "Pending"}),
        ({"status": "other", "rawStatus": "todo"}, {"status": "Skipped"}),
        ({"status": "pending", "message": "later"}, {"status": "Skipped", "error_message": "later"}),
        ({"status": "failed"}, {"status": "Failed", "error_message": "Failed"}),
        (
            {"status": "failed", "trace": "TypeError: no\n    at x.js:1"},
            {"error_type": "TypeError", "error_message": "TypeError: no"},
        ),
        ({"browser": "chromium 130", "tags": ["a", 1, ""]}, {"browser": "chromium 130", "tags": ["a"]}),
        ({"message": "fine"}, {"error_message": None}),
    ],
)
def test_fields(tmp_path, given, expected):
    (tmp_path / "ctrf.json").write_text(ctrf(one(**given)))
    _, (result,) = looked(tmp_path)
    assert {name: result.test.get(name) for name in expected} == expected


def test_attempts_with_times_of_their_own_and_in_other_files(tmp_path):
    attempt = {"status": "failed", "start": 1_700_000_000_000, "message": "one", "stdout": ["of the first"]}
    (tmp_path / "b.json").write_text(ctrf(one(status="failed", start=1_700_000_001_000, retryAttempts=[attempt])))
    (tmp_path / "a.json").write_text(ctrf(one(start=1_700_000_002_000)))
    _, results = looked(tmp_path)
    assert rows(results, "attempt", "status", "error_message") == [
        (3, "Passed", None),
        (1, "Failed", "one"),
        (2, "Failed", "Failed"),
    ]
    assert [entry["message"] for entry in results[1].console_logs] == ["of the first"]


def test_files(tmp_path):
    (tmp_path / "beside.txt").write_text("text")
    paths = ["beside.txt", "../../etc/passwd", "/etc/passwd", "gone.png", "/elsewhere/beside.txt"]
    attachments = [{"name": "x", "contentType": "text/plain", "path": path} for path in paths]
    image = base64.b64encode(png(1)).decode()
    tests = [one(attachments=attachments, screenshot=f"data:image/png;base64,{image}"), one(name="b", screenshot="?")]
    (tmp_path / "ctrf.json").write_text(ctrf(*tests))
    _, (result, other) = looked(tmp_path / "ctrf.json")
    assert [file.data or file.path or file.refused for file in result.files] == [
        tmp_path / "beside.txt",
        "../../etc/passwd is outside of the folder of ctrf.json",
        "/etc/passwd is outside of the folder of ctrf.json",
        "No such file",
        tmp_path / "beside.txt",
        png(1),
    ]
    assert other.files[0].refused == "Its content is no base64"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_encodings(tmp_path, encoding):
    text = ctrf(one(name="Prüfung \x1b[1mx\x1b[0m\ud800\0" + "y" * 200_000)).replace("\\u00fc", "ü")
    (tmp_path / "ctrf.json").write_bytes(text.encode(encoding))
    _, (result,) = looked(tmp_path)
    assert result.test["name"].startswith("Prüfung x\ufffd\ufffdy") and len(result.test["test_id"]) == 500


@pytest.mark.parametrize(
    ("text", "format", "code", "words"),
    [
        (ctrf(), None, 2, "is empty: it has no test"),
        ("", "ctrf", 2, "is empty"),
        (ctrf(one(), one(name="b"))[:-20], None, 4, "is cut: 1 whole tests were read"),
        (ctrf(one())[:-20], None, 3, "is cut before the end of its first test"),
        ('{"steps": []}', "ctrf", 3, "is no CTRF: it needs `results`"),
        ("<testsuite/>", "ctrf", 3, "is no JSON"),
        (ctrf(one()), "cucumber-json", 3, "is no JSON of Cucumber"),
    ],
)
def test_exit_codes(tmp_path, capsys, text, format, code, words):
    (tmp_path / "ctrf.json").write_text(text)
    ended = dry_run(tmp_path / "ctrf.json", *(["--format", format] if format else []))
    assert (ended, words in (said := capsys.readouterr().err)) == (code, True), said


def test_values_of_other_types_cost_no_more_than_themselves(tmp_path):
    test = one(suite="s", status="failed", retries=1, retryAttempts=[{"status": "failed"}], steps=[{"name": "x"}])
    test.update(attachments=[{"path": "x"}], stdout=["x"], extra={"a": 1}, tags=["x"], screenshot="x", start=1)
    for changed in with_odd_values(json.loads(ctrf(test, summary={"start": 1}, environment={"commit": "x"}))):
        (tmp_path / "ctrf.json").write_text(json.dumps(changed))
        looked(tmp_path / "ctrf.json", format="ctrf")
