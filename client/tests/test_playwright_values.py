"""Odd values in Playwright's reports, and what only one of its formats has: small ones that are made by hand."""

import base64
import contextlib
import copy
import io
import json

import pytest
from reportd_client.formats import playwright_blob
from reportd_client.formats.playwright_files import fields_of
from reportd_client.formats.result import Source, Unreadable

from tests.images import png
from tests.playwright_reports import (
    BEGIN,
    CONFIGURE,
    END,
    FIRST,
    TIME,
    attach,
    attempt,
    blob,
    outcome,
    project,
    read,
    report,
    step,
    zipped,
)
from tests.test_junit import looked
from tests.test_send import run_of

# --- odd values ---


@pytest.mark.parametrize(
    "title",
    ["x" * 200_000, "\x1b[31mred\x1b[0m", "a\0b\ud800\x01", "", "  ", "\u202eé"],
    ids=["long", "colours", "control", "empty", "blank", "right to left"],
)
def test_odd_names(tmp_path, send, server, title):
    """They are sent, and are text."""
    path = zipped(tmp_path / "r.zip", blob(project(title), BEGIN, *attempt(title, *step("1", title, subtitle=title))))
    done = send(path, "--run-key", repr(title[:20]))
    assert done.returncode == 0, done.stderr
    assert "1 test" in done.stdout


def test_names_are_cut_and_still_differ(tmp_path):
    one, other = "x" * 1_000 + "1", "x" * 1_000 + "2"
    _, results = read(tmp_path, project(one, other), BEGIN, *attempt(one), *attempt(other))
    assert [len(result.test["name"]) for result in results] == [500, 500]
    assert len({result.test["test_id"] for result in results}) == 2
    assert all(len(result.test["test_id"]) == 500 for result in results)


def test_repeated_tests_are_tests_of_their_own(tmp_path):
    second = project("a", repeatEachIndex=1)
    second["params"]["project"]["suites"][0]["entries"][0]["entries"][0]["testId"] = "b"
    _, results = read(tmp_path, project("a"), second, BEGIN, *attempt("a"), *attempt("b"))
    assert [result.test["name"] for result in results] == ["a", "a #2"]
    assert results[1].test["test_id"] == "chromium › a.spec.ts › a #2"


def _run(path, *verdicts, time, test="a"):
    """A report with a test and its attempts."""
    events = [attempt(test, retry=at, status=status) for at, status in enumerate(verdicts)]
    for begin, _ in events:
        begin["params"]["result"]["startTime"] = TIME + time
    return zipped(path, blob(project(test), BEGIN, *(event for each in events for event in each)))


def _attempts(results):
    return sorted((result.test["test_id"], result.test["attempt"], result.test["status"]) for result in results)


def test_failed_tests_that_were_run_again(tmp_path):
    """Their attempts go on, in the order of time; --last-failed of Playwright runs into a report of its own."""
    _run(tmp_path / "a.zip", "passed", time=2)
    _run(tmp_path / "b.zip", "failed", "failed", time=1)
    reports, results = looked(tmp_path)
    identity = "chromium › a.spec.ts › a"
    assert _attempts(results) == [(identity, 1, "Failed"), (identity, 2, "Failed"), (identity, 3, "Passed")]
    assert reports.remarks == ["The same tests came several times: 1 further attempts"]


def test_a_suite_that_ran_on_several_machines(tmp_path):
    """Nothing is dropped, or taken for another attempt of a test that has passed."""
    _run(tmp_path / "linux.zip", "passed", time=1)
    _run(tmp_path / "mac.zip", "failed", "passed", time=2)
    _run(tmp_path / "windows.zip", "passed", time=3)
    _run(tmp_path / "other.zip", "passed", time=3, test="b")
    reports, results = looked(tmp_path)
    identity = "chromium › a.spec.ts › a"
    assert _attempts(results) == [
        (identity, 1, "Passed"),
        (f"{identity} #2", 1, "Failed"),
        (f"{identity} #2", 2, "Passed"),
        (f"{identity} #3", 1, "Passed"),
        ("chromium › a.spec.ts › b", 1, "Passed"),
    ]
    assert reports.remarks == ["The same tests came several times: 2 tests of the same name"]


def test_attempts_in_reports_of_their_own(tmp_path):
    """As they say, when their numbers do not clash."""
    for number, status in ((1, "Failed"), (2, "Passed")):
        test = {"name": "a", "attempt": number, "status": status}
        (tmp_path / f"{number}.json").write_text(json.dumps({"test": test, "steps": []}))
    reports, results = looked(tmp_path)
    assert _attempts(results) == [("a", 1, "Failed"), ("a", 2, "Passed")] and reports.remarks == []


def test_paths_of_windows(tmp_path):
    first = {"method": "onBlobReportMetadata", "params": {"version": 2, "pathSeparator": "\\"}}
    events = [first, CONFIGURE, project("a", file="deep\\a.spec.ts", name=""), BEGIN, *attempt("a"), END]
    (tmp_path / "report.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    _, (result,) = looked(tmp_path)
    assert result.test["test_id"] == "deep/a.spec.ts › a" and result.test["metadata"]["location"] == "deep/a.spec.ts:3"


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("page.goto(https://x)", "navigate"),
        ("locator.fill(#a)", "type"),
        ("Press sequentially", "click"),
        ("locator.pressSequentially(x)", "type"),
        ("page.waitForSelector(x)", "wait"),
        ("Wait for timeout", "wait"),
        ("Set input files", "upload_file"),
        ("locator.setInputFiles(x)", "upload_file"),
        ("Double click", "click"),
        ("Drag and drop", "drag_drop"),
        ("Go back", "navigate"),
        ("Evaluate", "execute_script"),
        ("Scroll into view", "scroll"),
        ("Get text content", "other"),
    ],
)
def test_types_of_calls(tmp_path, title, kind):
    _, (result,) = read(tmp_path, project("a"), BEGIN, *attempt("a", *step("1", title)))
    assert result.steps[0]["step_type"] == kind


def test_a_blob_of_an_older_playwright(tmp_path):
    """Its suites have other lists, its steps no parameters, and its files come with the end of a test."""
    suites = [
        {
            "title": "a.spec.ts",
            "suites": [{"title": "d", "suites": [], "tests": [{"testId": "1", "title": "a"}]}],
            "tests": [],
        }
    ]
    old = {"method": "onProject", "params": {"project": {"name": "", "suites": suites}}}
    body = {"name": "note", "contentType": "text/plain", "base64": base64.b64encode(b"x").decode()}
    _, (result,) = read(tmp_path, old, BEGIN, *attempt("1", *step("1", "page.goto(x)"), attachments=[body]))
    assert result.test["test_id"] == "a.spec.ts › d › a" and len(result.steps) == 1
    assert [file.fields["file_name"] for file in result.files] == ["note.txt"]


def test_values_of_any_type(tmp_path):
    """Whatever stands where: the report is read or refused, and what is read is as the API has it."""
    error = {"message": "Error: x", "stack": "Error: x\n    at y", "location": {"file": "a"}, "cause": {"message": "z"}}
    picture = {"name": "p", "contentType": "image/png", "base64": base64.b64encode(png(1)).decode()}
    inside = [
        *step("1", "Fill", error=error, params={"locator": "#a", "value": "v", "options": [{"valueOrLabel": "o"}]}),
        *step("2", "Expect", "1", category="expect", params={"expected": {"a": 1}}, subtitle="s"),
        attach(**picture),
        attach(name="q", contentType="text/plain", path="resources/q.txt"),
        ("onStdIO", {"type": "stdout", "data": "out\n"}),
    ]
    annotations = [{"type": "issue", "description": "d"}]
    events = [FIRST, CONFIGURE, project("a", tags=["@t"], annotations=annotations), BEGIN]
    events += [
        *attempt("a", *inside, status="failed", errors=[error], annotations=annotations),
        {"method": "onError", "params": {"error": error}},
        END,
    ]
    count = 0
    for at, event in enumerate(events):
        for path in _paths(event):
            for value in (None, -1, 1e300, "x", [], {}, [None]):
                changed = copy.deepcopy(event)
                _set(changed, path, value)
                lines = [*events[:at], changed, *events[at + 1 :]]
                (tmp_path / "report.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
                with contextlib.suppress(Unreadable):
                    for found in playwright_blob.read(Source(tmp_path / "report.jsonl")):
                        _check(found)
                count += 1
    assert count > 800


def _paths(value, before=()):
    yield before
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from _paths(value[key], (*before, key))


def _set(value, path, new):
    if path:
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = new


def _check(result):
    assert isinstance(result.test["name"], str) and result.test["name"] and result.test["attempt"] >= 1
    assert result.test["status"] in ("Passed", "Failed", "Skipped", "Pending")
    for each in result.steps:
        assert isinstance(each["action"], str) and isinstance(each.get("duration_ms", 0), int)
        for name in ("element_selector", "input_value", "expected_value", "error_message", "started_at"):
            assert isinstance(each.get(name, ""), str)
    for file in result.files:
        assert isinstance(file.fields["file_name"], str) and file.fields["file_name"]


# --- JSON ---


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_json_of_every_encoding(tmp_path, encoding):
    text = json.dumps(
        report(("Gruß \x1b[1m\0 a\ud800" if encoding == "utf-8" else "Gruß", [outcome()])),
        ensure_ascii=encoding == "utf-8",
    )
    (tmp_path / "r.json").write_bytes(text.encode(encoding))
    reports, results = looked(tmp_path)
    assert reports.unreadable == [] and len(results) == 2
    assert results[0].test["name"].startswith("Gru") and results[1].test["test_id"].startswith(
        "p › a.spec.ts › d › Gru"
    )
    assert results[0].test["tags"] == ["t"] and results[0].test["started_at"] == "2026-11-30T06:54:14.810Z"


def test_repeated_tests_of_json(tmp_path):
    value = report(("a", [outcome()]))
    spec = value["suites"][0]["specs"][0]
    spec["tests"] = [{**spec["tests"][0], "projectName": name} for name in ("p", "q", "p")]
    value["suites"][0]["suites"] = []
    (tmp_path / "r.json").write_text(json.dumps(value))
    _, results = looked(tmp_path)
    assert [result.test["test_id"] for result in results] == [f"{name} › a.spec.ts › a" for name in ("p", "q")] + [
        "p › a.spec.ts › a #2"
    ]


def test_the_checkout_of_the_report(tmp_path, send, server):
    """It is that of the run, unless a setting or the CI says another; changes that were not committed are not sent."""
    metadata = {"ci": {"buildHref": "https://ci/1", "branch": "x"}, "gitCommit": {"hash": "c" * 40, "branch": "main"}}
    value = report(("a", [outcome()]), metadata={**metadata, "gitDiff": "secret", "actualWorkers": 1, "team": "shop"})
    (tmp_path / "r.json").write_text(json.dumps(value))
    names = ("branch", "commit_sha", "build_url")
    run = run_of(server, send(tmp_path / "r.json", "--run-key", "checkout"))
    assert [run[name] for name in names] == ["main", "c" * 40, "https://ci/1"]
    assert run["metadata"]["config"] == {"team": "shop"} and "secret" not in json.dumps(run)
    run = run_of(server, send(tmp_path / "r.json", "--run-key", "checkout 2", REPORTD_BRANCH="mine"))
    assert [run[name] for name in names] == ["mine", "c" * 40, "https://ci/1"]
    jenkins = {
        "JENKINS_URL": "x",
        "BUILD_URL": "https://ci/2",
        "BUILD_TAG": "t",
        "GIT_COMMIT": "d" * 40,
        "GIT_BRANCH": "m",
    }
    run = run_of(server, send(tmp_path / "r.json", **jenkins))
    assert [run[name] for name in names] == ["m", "d" * 40, "https://ci/2"]


def test_jobs_that_send_their_shards(tmp_path, send, server):
    """The run is one, and ends with the last of them; all of them in one command are no shard."""
    for shard in (1, 2):
        configure = copy.deepcopy(CONFIGURE)
        configure["params"]["config"]["shard"] = {"current": shard, "total": 2}
        events = [FIRST, configure, project(f"test {shard}"), BEGIN, *attempt(f"test {shard}"), END]
        zipped(tmp_path / f"{shard}.zip", "".join(json.dumps(event) + "\n" for event in events).encode())
    run = run_of(server, send(tmp_path / "1.zip", REPORTD_RUN_KEY="in shards"))
    assert run["finished_at"] is None
    run = run_of(server, send(tmp_path / "2.zip", REPORTD_RUN_KEY="in shards"))
    assert run["status"] == "Passed" and run["finished_at"] is not None and len(run["tests"]) == 2
    assert run_of(server, send(tmp_path / "1.zip"))["finished_at"] is not None, "without a key it is a run of its own"
    whole = run_of(server, send(tmp_path, REPORTD_RUN_KEY="not in shards"))
    assert whole["finished_at"] is not None and whole["metadata"]["shards"] == ["1/2", "2/2"]
    assert whole["metadata"]["expected_tests"] == 2


@pytest.mark.parametrize("status", ["interrupted", "timedout"])
def test_a_run_that_ended_before_its_time_has_failed(tmp_path, status):
    end = copy.deepcopy(END)
    end["params"]["result"]["status"] = status
    events = [FIRST, CONFIGURE, project("a"), BEGIN, *attempt("a"), end]
    zipped(tmp_path / "r.zip", "".join(json.dumps(event) + "\n" for event in events).encode())
    reports, _ = looked(tmp_path)
    assert (reports.suite["status"], reports.suite["metadata"]["outcome"]) == ("Failed", status)


def test_a_json_report_that_is_cut(tmp_path):
    """Its whole results; where nothing is whole, it is said."""
    text = json.dumps(report(("a", [outcome(status="failed"), outcome(retry=1)]), ("b", [outcome()]), ("c", [])))
    counts = []
    for end in range(0, len(text) - 1, 7):
        (tmp_path / "r.json").write_text(text[:end])
        reports, results = looked(tmp_path / "r.json", format="playwright-json")
        counts.append(len(results))
        assert reports.notes or reports.unreadable or reports.empty
        assert [each.test["attempt"] for each in results[:2]] == [1, 2][: len(results)]
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] >= 4


def test_files_of_a_json_report_stay_where_they_may_be(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.txt").write_text("x")
    (tmp_path / "in/link.txt").symlink_to("/etc/hostname")
    paths = ["../secret.txt", "/etc/passwd", "/etc/hostname", "link.txt", "file:///etc/passwd", "\0", "a" * 5_000]
    files = [{"name": "f", "contentType": "text/plain", "path": path} for path in paths]
    (tmp_path / "in/r.json").write_text(json.dumps(report(("a", [outcome(attachments=files)]))))
    _, results = looked(tmp_path / "in")
    assert [bool(file.refused) for file in results[0].files] == [True] * len(paths)


def test_a_password_in_an_error_of_json(tmp_path, send, server):
    """A JSON report has no calls: what was typed is known from the error, and from the page."""
    message = 'Error: toHaveValue\n\nLocator:  getByLabel(\'Password\')\nExpected: "geheim1"\nReceived: "geheim2"\n'
    context = '# Page snapshot\n- textbox "Password" [ref=e4]: geheim3\n- textbox "Name": ann\n# Test source\ngeheim4'
    (tmp_path / "c.md").write_text(context)
    file = {"name": "error-context", "contentType": "text/markdown", "path": "c.md"}
    error = {"message": message, "stack": f"{message}    at x", "snippet": "> 1 | fill('geheim5')"}
    value = outcome(status="failed", error=error, errors=[{"message": message}], attachments=[file])
    value["stdout"] = [{"text": "typed geheim2\n"}, {"buffer": base64.b64encode(b"bytes\n").decode()}]
    (tmp_path / "r.json").write_text(json.dumps(report(("a", [value]))))
    done = send(tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    run = run_of(server, done)
    assert "geheim" not in json.dumps(run)
    data = server.bytes_of(run["tests"][0]["artifacts"][0]).decode()
    assert data == '# Page snapshot\n- textbox "Password" [ref=e4]: [redacted]\n- textbox "Name": ann\n'
    assert [entry["message"] for entry in run["tests"][0]["console"]] == ["typed [redacted]", "bytes"]


# --- output ---


def test_output_of_a_test(tmp_path):
    """The first lines are entries; more than a thousand are files, too."""

    def printed(kind, data, **fields):
        return ("onStdIO", {"type": kind, "data": data, **fields})

    chunks = [
        printed("stdout", "one "),
        printed("stderr", "\x1b[31mred\x1b[0m\r\n\n  \n"),
        printed("stdout", base64.b64encode("zwö\n".encode()).decode(), isBase64=True),
        *(printed("stdout", f"{number}\n") for number in range(1_500)),
    ]
    _, (result,) = read(tmp_path, project("a"), BEGIN, *attempt("a", *chunks))
    entries = [(entry["level"], entry["message"], entry["source_url"]) for entry in result.console_logs]
    assert entries[:3] == [("info", "one zwö", "stdout"), ("warning", "red", "stderr"), ("info", "0", "stdout")]
    assert len(entries) == 1_000
    assert [file.fields["file_name"] for file in result.files] == ["stdout.log", "stderr.log"]
    lines = io.StringIO(result.files[0].data.decode()).read().splitlines()
    assert lines[0] == "one zwö" and lines[-1] == "1499" and len(lines) == 1_501


# --- names of files ---


@pytest.mark.parametrize(
    ("name", "content", "file_name", "kind"),
    [
        ("screenshot", "image/png", "screenshot.png", "screenshot"),
        ("a-actual.png", "image/png", "a-actual.png", "screenshot"),
        ("photo.JPEG", "image/jpeg", "photo.JPEG", "screenshot"),
        ("drawing", "image/svg+xml", "drawing.svg", "screenshot"),
        ("video", "video/webm", "video.webm", "video"),
        ("trace", "application/zip", "trace.zip", "other"),
        ("requests.har", "application/json", "requests.har", "har"),
        ("server.log", "text/plain; charset=utf-8", "server.log", "log"),
        ("page", "text/html", "page.html", "other"),
        ("v1.2", "application/x-own", "v1.2", "other"),
        ("../a\\b\1\n", "text/css", "..-a-b", "log"),
        ("", "application/pdf", "attachment.pdf", "other"),
        (None, None, "attachment", "other"),
        ("x" * 300, "text/csv", "x" * 199 + "….csv", "log"),
    ],
)
def test_names_and_types_of_files(name, content, file_name, kind):
    fields = fields_of({"name": name, "contentType": content})
    assert fields == {"file_name": file_name, "artifact_type": kind}
