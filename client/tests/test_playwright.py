"""Playwright's blob and JSON reports, of a suite with every outcome that its own runner runs in a real Chromium."""

import hashlib
import json
import re
import shutil
import zipfile
from collections import Counter

import pytest
from reportd_client.formats.reports import FORMATS

from tests.playwright_suite import HOOKS, PASSWORD, SUITE, run, suite
from tests.test_junit import looked
from tests.test_send import run_of

MORE = "Playwright's blob report and the reporter reportd-playwright have"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a run, with blob-report/report.zip, report.json and results/."""
    folder = tmp_path_factory.mktemp("playwright")
    suite(folder, all=SUITE, deep__hooks=HOOKS)
    done = run(folder)
    assert done.returncode == 1 and (folder / "report.json").exists(), done.stdout + done.stderr
    return folder


def by_name(results):
    """The last attempt of each test, by its name and project."""
    return {(result.test["name"], result.test["metadata"].get("project")): result for result in results}


@pytest.fixture(scope="module")
def blob(folder):
    return looked(folder / "blob-report")


@pytest.fixture(scope="module")
def tests(blob):
    return {name: result for (name, project), result in by_name(blob[1]).items() if project == "chromium"}


# --- tests and attempts ---

VERDICTS = {  # status, error_type, beginning of error_message, outcome
    "login › passes": ("Passed", None, None, None),
    "login › fails": ("Failed", "Error", "the password\n\nexpect(locator).toHaveValue(expected) failed", None),
    "both @both": ("Passed", None, None, None),
    "times out": ("Failed", None, "Test timeout of 200ms exceeded.", "timedOut"),
    "expected failure": ("Passed", None, None, "expected failure"),
    "unexpected pass": ("Failed", None, "Expected to fail, but passed", "unexpected pass"),
    "skipped": ("Skipped", None, None, None),
    "skipped inside": ("Skipped", None, "not on linux", None),
    "fixme": ("Skipped", None, None, "fixme"),
    "flaky": ("Passed", None, None, None),
    "soft": ("Failed", "Error", "one\n\nexpect(received).toBe(expected) // Object.is equality", None),
    "fixture": ("Failed", "Error", "no account", None),
    "text": ("Failed", None, "'just text'", None),
    "step skipped": ("Passed", None, None, None),
    "cause": ("Failed", "TypeError", "outer", None),
    "before all › one": ("Failed", "Error", "no database", None),
    "before all › two": ("Pending", None, "Did not run", "did not run"),
    "before each › one": ("Failed", "Error", "no user", None),
    "after each › one": ("Failed", "Error", "cannot clean", None),
    "serial › a": ("Passed", None, None, None),
    "serial › b": ("Failed", "Error", "b", None),
    "serial › c": ("Pending", None, "Did not run", "did not run"),
}


@pytest.mark.parametrize("report", ["blob-report", "report.json", "unpacked"])
def test_every_outcome(folder, tmp_path, report):
    path = folder / report
    if report == "unpacked":
        path = tmp_path
        zipfile.ZipFile(folder / "blob-report/report.zip").extractall(path)
    reports, results = looked(path)
    assert (reports.notes, reports.unreadable, reports.empty) == ([], [], [])
    found = {}
    for (name, project), result in by_name(results).items():
        test = result.test
        beginning = VERDICTS[name][2]
        message = test.get("error_message")
        assert bool(message) == bool(beginning) and (message or "").startswith(beginning or ""), name
        if project == "chromium":
            found[name] = (test["status"], test.get("error_type"), beginning, test["metadata"].get("outcome"))
    assert found == VERDICTS
    assert len(results) == len(VERDICTS) + 2  # the flaky one, and the other project
    statistics = json.loads((folder / "report.json").read_text())["stats"]
    last = Counter(result.test["status"] for result in by_name(results).values())
    assert last["Failed"] == statistics["unexpected"]
    assert last["Passed"] == statistics["expected"] + statistics["flaky"]
    assert last["Skipped"] + last["Pending"] == statistics["skipped"]
    assert reports.suite["metadata"] == {
        "playwright": json.loads((folder / "report.json").read_text())["config"]["version"],
        "expected_tests": len(VERDICTS) + 1,
        "projects": ["chromium", "phone"],
        "config": {"team": "checkout"},
    }
    assert reports.suite["started_at"] == statistics["startTime"]


def test_both_formats_have_the_same_tests(folder, blob):
    """But for what only one of them has."""
    _, of_json = looked(folder / "report.json")
    keys = ("name", "test_id", "attempt", "status", "started_at", "duration_ms", "error_message", "tags", "metadata")

    def values(results):
        rows = [{key: result.test.get(key) for key in keys} for result in results]
        return sorted(rows, key=lambda row: (row["test_id"], row["attempt"]))

    assert values(of_json) == values(blob[1])
    names = [
        sorted(file.fields["file_name"] for result in results for file in result.files)
        for results in (of_json, blob[1])
    ]
    assert names[0] == names[1]


def test_a_test_with_everything(folder, tests):
    result = tests["login › passes"]
    found = result.test
    assert found["test_id"] == "chromium › all.spec.ts › login › passes" and found["attempt"] == 1
    assert found["browser"] == "chromium" and found["tags"] == ["smoke"]
    assert re.fullmatch(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found["started_at"])
    assert found["started_at"] < found["completed_at"] and found["duration_ms"] > 0
    issue = {"type": "issue", "description": "https://tracker.example/1"}
    annotations = [issue, {"type": "owner", "description": "ann"}, {"type": "Bug", "description": "SHOP-7"}]
    assert found["metadata"]["annotations"] == annotations
    assert found["metadata"]["issues"] == ["https://tracker.example/1", "SHOP-7"]
    line = next(number for number, text in enumerate(SUITE.splitlines(), 1) if "test('passes'" in text)
    assert found["metadata"]["location"] == f"all.spec.ts:{line}" and found["metadata"]["project"] == "chromium"
    entries = [(each["level"], each["message"], each["source_url"]) for each in result.console_logs][:3]
    assert entries == [("info", "one", "stdout"), ("info", "two", "stdout"), ("warning", "red", "stderr")]


def test_attempts_and_projects(folder, blob):
    flaky = [result.test for result in blob[1] if result.test["name"] == "flaky"]
    assert [(test["attempt"], test["status"]) for test in flaky] == [(1, "Failed"), (2, "Passed")]
    both = [result.test for result in blob[1] if result.test["name"] == "both @both"]
    assert [test["test_id"] for test in both] == [
        "chromium › all.spec.ts › both @both",
        "phone › all.spec.ts › both @both",
    ]
    assert [test.get("browser") for test in both] == ["chromium", None]


def test_what_did_not_run_has_no_times(tests):
    test = tests["serial › c"].test
    assert not {"started_at", "completed_at", "duration_ms"} & set(test)


def test_errors_are_those_of_playwright(folder, tests):
    """The first line, the last line, those that follow, and causes; never an excerpt of the source."""
    soft = tests["soft"].test["stack_trace"].splitlines()
    assert soft[0] == "Error: one" and soft[-1].startswith("    at ") and 'Expected: "b"' in soft
    assert "[cause]: Error: inner" in tests["cause"].test["stack_trace"]
    assert tests["expected failure"].test["metadata"]["expected_error"].startswith("Error: expect(received).toBe")
    _, of_json = looked(folder / "report.json")
    for result in (*tests.values(), *of_json):
        assert " | " not in result.test.get("stack_trace", ""), "an excerpt of the source"
    last = by_name(of_json)["soft", "chromium"].test["stack_trace"].splitlines()
    assert (last[0], last[-1]) == (soft[0], soft[-1]) and 'Expected: "b"' in last


# --- steps ---


def fields(result, *names):
    return [tuple(step.get(name) for name in names) for step in result.steps]


def test_steps_are_calls_expects_and_those_of_the_test(tests):
    assert fields(tests["login › passes"], "step_number", "parent_step_number", "step_type", "action") == [
        (1, None, "navigate", "Navigate data:"),  # of beforeEach
        (2, None, "type", "fill the form"),
        (3, 2, "type", 'Fill "ann"'),
        (4, 2, "type", f'Fill "{PASSWORD}"'),
        (5, 2, "group", "inner"),
        (6, 5, "click", "Click"),
        (7, None, "select", "Select option"),
        (8, None, "assert", 'Expect "toHaveText"'),
        (9, None, "assert", 'Expect "toHaveTitle"'),
        (10, None, "assert", 'Expect "soft toEqual"'),
        (11, None, "other", "attach"),
        (12, None, "screenshot", "Screenshot"),
    ]
    values = fields(tests["login › passes"], "element_selector", "input_value", "expected_value")
    assert values[2] == ("getByLabel('Name')", "ann", None)
    assert values[5] == ("getByTestId('go')", None, None)
    assert values[6] == ("locator('#s')", "b", None)
    assert values[7] == ("locator('#t')", None, "Hello")
    assert values[8:10] == [(None, None, None), (None, None, '{"a":[1,"x"]}')]
    for step in tests["login › passes"].steps:
        assert step["status"] == "Passed" and step["started_at"] <= step["completed_at"]


def test_steps_that_failed(tests):
    assert fields(tests["login › fails"], "parent_step_number", "action", "status")[2:] == [
        (None, "look", "Failed"),
        (3, "the password", "Failed"),
    ]
    outer, inner = tests["login › fails"].steps[2:]
    assert inner["error_message"] == outer["error_message"]
    assert "stack_trace" not in outer and inner["stack_trace"].splitlines()[-1].startswith("    at ")


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("fixture", [(None, "group", 'Fixture "account"', "Failed")]),
        ("before all › one", [(None, "group", "beforeAll hook", "Failed")]),
        ("before each › one", [(None, "group", "prepare", "Failed"), (1, "other", "inside", "Failed")]),
        ("after each › one", [(None, "group", "afterEach hook", "Failed")]),
        ("step skipped", [(None, "other", "later", "Skipped")]),
        ("serial › b", []),
    ],
)
def test_hooks_and_fixtures_only_when_they_failed(tests, name, steps):
    assert fields(tests[name], "parent_step_number", "step_type", "action", "status") == steps


def test_of_json_only_the_steps_of_the_test(folder):
    reports, results = looked(folder / "report.json")
    passes = by_name(results)["login › passes", "chromium"]
    assert fields(passes, "parent_step_number", "action") == [(None, "fill the form"), (1, "inner"), (None, "attach")]
    assert "started_at" not in passes.steps[0] and passes.steps[0]["duration_ms"] >= 0
    assert len(reports.remarks) == 1 and MORE in reports.remarks[0]


# --- files ---


def files(result):
    return [
        (file.fields["file_name"], file.fields["artifact_type"], file.fields.get("step_number"))
        for file in result.files
    ]


def test_files_of_tests_and_steps(tests):
    found = [("in step.json", "other", 11), ("data.csv", "log", None), ("..-shot.png", "screenshot", None)]
    assert files(tests["login › passes"]) == found
    found = [("screenshot.png", "screenshot", 4), ("error-context.md", "log", None), ("trace.zip", "other", None)]
    assert files(tests["login › fails"]) == found
    assert tests["login › fails"].files[0].fields["artifact_category"] == "error"


def test_the_junit_of_the_same_run(folder, tests):
    """It has less, but the same errors, and the files by their paths. Neither source nor passwords are in it."""
    reports, results = looked(folder / "junit.xml")
    assert not reports.notes and len(results) == len(VERDICTS) + 1
    for result in results[: len(VERDICTS)]:
        test, other = result.test, tests[result.test["name"]].test
        assert test["status"] == other["status"] or (test["status"], other["status"]) == ("Skipped", "Pending")
        if test["status"] == "Failed":
            assert test.get("error_type") == other.get("error_type")
            assert test["error_message"].rstrip(".") == other["error_message"].rstrip(".")
            assert " | " not in test.get("stack_trace", "")
    (failed,) = [result for result in results if result.test["name"] == "login › fails"]
    assert [file.path is not None for file in failed.files] == [True, True, True]
    assert failed.secrets == {PASSWORD, f"{PASSWORD}!"} and failed.test["metadata"]["properties"]["issue"][-1] == "1"


def test_two_formats_of_the_same_tests(folder):
    reports, results = looked(folder)
    assert len(results) == len(VERDICTS) + 2 and len(reports.remarks) == 2
    for name, remark in zip(("report.json", "junit.xml"), sorted(reports.remarks, reverse=True)):
        assert f"{name} is skipped" in remark and "as playwright-blob" in remark
    assert (
        list(FORMATS).index("playwright-blob") < list(FORMATS).index("playwright-json") < list(FORMATS).index("junit")
    )


@pytest.mark.parametrize("report", ["blob-report", "report.json"])
def test_what_the_server_gets(send, server, folder, report):
    """All files arrive with their bytes; what was typed into the password field is nowhere; sent twice is once."""
    done = send(folder / report, "--run-key", report)
    assert done.returncode == 4, done.stderr  # the server does not allow zip files
    assert "application/zip" in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert (MORE in done.stderr) == (report == "report.json")
    run = run_of(server, done)
    assert run["status"] == "Failed" and len(run["tests"]) == len(VERDICTS) + 2
    assert PASSWORD not in json.dumps(run)
    sums = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "results").rglob("*") if path.is_file()}
    pictures = 0
    for test in run["tests"]:
        for artifact in test["artifacts"]:
            data = server.bytes_of(artifact)
            assert PASSWORD.encode() not in data
            if artifact["file_name"] in ("screenshot.png", "data.csv"):
                assert hashlib.sha256(data).hexdigest() in sums
            pictures += artifact["file_name"].endswith(".png")
            if artifact["file_name"] == "error-context.md":
                assert b"# Error details" in data and b"# Test source" not in data
    assert pictures == 2
    again = run_of(server, send(folder / report, "--run-key", report))
    ids = [[test["id"], *(artifact["id"] for artifact in test["artifacts"])] for test in run["tests"]]
    assert [[test["id"], *(each["id"] for each in test["artifacts"])] for test in again["tests"]] == ids


def test_a_report_that_was_moved_with_its_files(folder, tmp_path):
    """And one whose files are elsewhere, with --files."""
    shutil.copy(folder / "report.json", tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text().replace(str(folder), "/somewhere/else")
    (tmp_path / "report.json").write_text(text)
    _, results = looked(tmp_path / "report.json")
    refused = [file for result in results for file in result.files if file.refused]
    assert refused and {file.refused for file in refused} != {None}
    shutil.copytree(folder / "results", tmp_path / "elsewhere" / "results")
    _, results = looked(tmp_path / "report.json", files=tmp_path / "elsewhere")
    assert not [file.fields for result in results for file in result.files if file.refused]
    (tmp_path / "elsewhere" / "results").rename(tmp_path / "results")
    _, results = looked(tmp_path / "report.json")
    found = {file.path for result in results for file in result.files if file.path}
    assert not [file for result in results for file in result.files if file.refused]
    assert found and all(tmp_path.resolve() in path.parents for path in found)


# --- runs that are not whole ---

FOUR = """
import { test } from '@playwright/test';
for (const name of ['a', 'b', 'c', 'd']) test(name, async () => {
  if (name === 'b') throw new Error('b');
  if (name === 'a' && process.env.WAITS) await new Promise(() => {});
});
"""


def test_two_shards_are_one_run(tmp_path):
    suite(tmp_path, one=FOUR, two=FOUR)
    for shard in (1, 2):
        run(
            tmp_path,
            f"--shard={shard}/2",
            "--project=chromium",
            reporter="blob",
            PLAYWRIGHT_BLOB_OUTPUT_FILE=f"all/{shard}.zip",
        )
    reports, results = looked(tmp_path / "all")
    names = {(result.test["test_id"], result.test["metadata"]["shard"]) for result in results}
    assert names == {
        (f"chromium › {file}.spec.ts › {name}", shard)
        for file, shard in (("one", "1/2"), ("two", "2/2"))
        for name in "abcd"
    }
    assert reports.suite["metadata"]["shards"] == ["1/2", "2/2"] and reports.suite["metadata"]["expected_tests"] == 8


def test_a_run_that_was_interrupted(tmp_path):
    """--max-failures: what was running is interrupted, the rest does not run."""
    suite(tmp_path, one=FOUR.replace("'b', ", ""), two=FOUR.replace("'a', ", ""))
    run(tmp_path, "--max-failures=1", "--workers=2", "--project=chromium", WAITS="1")
    for report in ("blob-report", "report.json"):
        reports, results = looked(tmp_path / report)
        assert reports.notes == [] and len(results) == 6
        found = by_name(results)
        waiting = next(result.test for result in results if result.test["test_id"] == "chromium › one.spec.ts › a")
        outcome = waiting["metadata"]["outcome"]
        assert (waiting["status"], outcome) in (("Pending", "interrupted"), ("Pending", "did not run"))
        failed = next(result.test for result in results if result.test["test_id"] == "chromium › two.spec.ts › b")
        assert failed["status"] == "Failed" and found
        rest = [each.test for each in results if each.test["test_id"].endswith("two.spec.ts › d")]
        assert [(each["status"], each["error_message"]) for each in rest] == [("Pending", "Did not run")]
        assert reports.suite["metadata"]["expected_tests"] == 6


@pytest.mark.parametrize("report", ["blob-report", "report.json"])
def test_a_file_that_cannot_be_loaded(send, server, syntax_error, report):
    """There is no test, and still a run, which failed."""
    done = send(syntax_error / report, "--run-key", f"syntax {report}")
    assert done.returncode == 0, done.stderr
    run = run_of(server, done)
    assert run["status"] == "Failed" and run["tests"] == []
    assert run["metadata"]["errors"][0].startswith("SyntaxError: ")


@pytest.fixture(scope="module")
def syntax_error(tmp_path_factory):
    folder = tmp_path_factory.mktemp("syntax")
    suite(folder, one="import {", two=FOUR)
    run(folder)
    return folder
