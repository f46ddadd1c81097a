"""Report logs of pytest-reportlog, compared with what the plugin sends of the same session; and bad ones."""

import json
import subprocess
import sys
from collections import Counter
from datetime import datetime

import pytest
from reportd_client.formats import text_file
from reportd_client.formats.pytest_error import split

from tests.images import png
from tests.server import CLEAN
from tests.test_junit import looked, rows
from tests.test_pytest import SUITE, report
from tests.test_report_log import MORE

__all__ = ["report"]

ALSO = """
import warnings
pytestmark = pytest.mark.shop

class OddError(Exception): pass

@pytest.mark.slow
@pytest.mark.parametrize("a", ["x-y"])
@pytest.mark.parametrize("b", [1, 2])
def test_marks(a, b, record_property, tmp_path):
    (tmp_path / "shot.png").write_bytes(b"picture")
    record_property("cart_screenshot", str(tmp_path / "shot.png"))
    record_property("number", 3)
    warnings.warn("old call")

def helper(value, other):
    local = 1
    raise OddError(f"value {value}")

def test_deep(): helper("x" * 50, ["y" * 60])

def test_fails_by_hand(): pytest.fail("by hand", pytrace=False)

def test_group():
    try:
        raise ValueError("inner")
    except ValueError:
        raise OddError("outer") from None

def test_subtests_of_texts(subtests):
    with subtests.test("word", text="it's", n=1.5): pass
    with subtests.test(): pytest.skip("later")

def test_logs_lines():
    logging.getLogger("a").warning("first\\nsecond")
    logging.getLogger("a").error("third")
"""


@pytest.fixture(params=[(), ("-n", "2", "--tb=short", "-l")], ids=["one process", "two workers"])
def both(request, report, pytester, monkeypatch):
    """The rows that the plugin sent, and what is read of the log of the same session."""
    monkeypatch.setenv("COLUMNS", "80")
    pytester.makepyfile(test_suite=SUITE + MORE + ALSO)
    _, run = report("--report-log=log.jsonl", "-p", "no:pytest_bdd", *request.param)
    reports, results = looked(pytester.path / "log.jsonl")
    assert reports.notes == reports.unreadable == []
    return run, results, reports


def test_a_log_has_what_the_plugin_sends(both):
    run, results, reports = both
    sent = {(row["test_id"], row["attempt"]): row for row in run["tests"]}
    read = {(result.test["test_id"], result.test["attempt"]): result for result in results}
    assert read.keys() == sent.keys() and len(results) == len(run["tests"]) == 26 + 7
    same = ("name", "status", "error_type", "error_message", "stack_trace", "tags")
    for key, row in sent.items():
        test, steps = read[key].test, read[key].steps
        assert {name: test.get(name) or None for name in same} == {name: row[name] or None for name in same}, key
        began, ended, sent_began = (
            datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
            for text in (test["started_at"], test["completed_at"], row["started_at"])
        )
        assert began <= sent_began + 0.002 and abs(test["duration_ms"] - (ended - began) * 1000) <= 2
        metadata = {**test["metadata"]}
        assert metadata.pop("location").startswith("test_suite.py:")
        parameters = {name: value for name, value in (row["metadata"] or {}).items() if name != "parameters"}
        assert metadata == parameters
        check_steps(row, steps)
        check_console(row, read[key].console_logs)
        mine = [(file.fields["file_name"], file.fields["artifact_type"]) for file in read[key].files]
        assert mine == [(artifact["file_name"], artifact["artifact_type"]) for artifact in row["artifacts"]]
    assert reports.suite["started_at"] == min(test.test["started_at"] for test in results)
    assert any(text.startswith("UserWarning: old call (") for text in reports.suite["metadata"]["warnings"])


def check_steps(row, steps):
    """Those that pytest knows of: subtests, and a setup or teardown that failed. On a busy machine also one that took
    long, by the clock of the one or of the other."""
    fields = ("action", "step_type", "status", "error_message")
    steps = [step for step in steps if step["status"] == "Failed" or step["step_type"] == "subtest"]
    known = [step for step in row["steps"] if step["step_type"] == "subtest" or step["action"] in ("setup", "teardown")]
    kept = [step for step in known if step["status"] == "Failed" or step["step_type"] == "subtest"]
    assert [[step.get(name) for name in fields] for step in steps] == [[step[name] for name in fields] for step in kept]
    for step in steps:
        assert "parent_step_number" not in step
        assert step.get("started_at", "") <= step.get("completed_at", ""), "of unittest's subtests pytest has no times"


def check_console(row, entries):
    """Levels and messages of records, which have the file's name instead of its path; then output, line by line."""
    words = {"WARNING": "warning", "ERROR": "error", "INFO": "info", "CRITICAL": "error", "DEBUG": "debug"}
    mine = [(words.get(entry["level"], entry["level"]), entry["message"]) for entry in entries]
    assert mine == [(entry["level"], entry["message"]) for entry in row["console"]]
    for entry, sent in zip(entries, row["console"]):
        if entry["source_url"] not in ("stdout", "stderr"):
            name, place = entry["source_url"].split()
            assert sent["source_url"].startswith(f"{name} /") and sent["source_url"].endswith(f"/{place}")
            assert entry["line_number"] == sent["line_number"]


def run_pytest(folder, suite, *options):
    (folder / "test_suite.py").write_text(suite)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:reportd", "-p", "no:cacheprovider", *options]
    subprocess.run([*command, "--report-log=log.jsonl"], cwd=folder, env=CLEAN, capture_output=True, timeout=120)
    return folder / "log.jsonl"


def test_files_that_cannot_be_collected_are_tests(tmp_path, send, server):
    (tmp_path / "test_broken.py").write_text("import nothing_of_this_name")
    (tmp_path / "test_skips.py").write_text("import pytest\npytest.skip('not here', allow_module_level=True)")
    path = run_pytest(tmp_path, "def test_a(): pass", "--continue-on-collection-errors")
    _, results = looked(path)
    wanted = ("test_id", "status", "error_type", "error_message")
    assert rows(results, *wanted) == [
        ("test_broken.py", "Failed", "ModuleNotFoundError", "No module named 'nothing_of_this_name'"),
        ("test_skips.py", "Skipped", None, "not here"),
        ("test_suite.py::test_a", "Passed", None, None),
    ]
    assert "import nothing_of_this_name" in results[0].test["stack_trace"]
    dry = json.loads(send(path, "--dry-run", "--json").stdout)
    assert dry["tests"] == {"Failed": 1, "Skipped": 1, "Passed": 1}


CRASH = """
import os, pytest
count = []
def test_dies(): os._exit(1)
def test_lives(): pass
def test_flaky():
    count.append(1)
    assert len(count) > 1
"""


def test_a_worker_that_dies(tmp_path):
    path = run_pytest(tmp_path, CRASH, "-n", "1", "--max-worker-restart", "2", "-p", "no:rerunfailures")
    _, results = looked(path)
    found = {result.test["test_id"]: result.test for result in results}
    dead = found["test_suite.py::test_dies"]
    assert (dead["status"], dead["error_type"]) == ("Failed", "WorkerCrashed") and "crashed" in dead["error_message"]
    assert found["test_suite.py::test_lives"]["status"] == "Passed" and len(results) == 3


def test_every_worker_runs_every_test(tmp_path):
    suite = CRASH.replace("os._exit(1)", "pass")
    _, results = looked(run_pytest(tmp_path, suite, "-n", "2", "--dist", "each", "--reruns", "1"))
    counts = Counter((result.test["test_id"], result.test["attempt"]) for result in results)
    assert set(counts.values()) == {1} and {test for test, _ in counts} == {
        f"test_suite.py::test_{name}{copy}" for name in ("dies", "lives", "flaky") for copy in ("", " #2")
    }
    assert {test for test, attempt in counts if attempt == 2} == {f"test_suite.py::test_flaky{c}" for c in ("", " #2")}


# --- by hand ---


def line(node="t.py::test_a", when="call", outcome="passed", kind="TestReport", **more):
    return json.dumps({"$report_type": kind, "nodeid": node, "when": when, "outcome": outcome, **more})


START, END = (
    '{"$report_type": "SessionStart", "pytest_version": "9"}',
    '{"$report_type": "SessionFinish", "exitstatus": 0}',
)
WHOLE = [line(when="setup"), line(), line(when="teardown")]


def read(tmp_path, lines, encoding="utf-8"):
    (tmp_path / "log.jsonl").write_bytes("\n".join([START, *lines]).encode(encoding))
    return looked(tmp_path)


@pytest.mark.parametrize(
    ("lines", "status", "message"),
    [
        (WHOLE, "Passed", None),
        (WHOLE[:1], "Pending", "The session ended before the test"),
        (WHOLE[:2], "Passed", None),
        ([line(when="setup", outcome="skipped", longrepr=["t.py", 1, "Skipped: why"]), WHOLE[2]], "Skipped", "why"),
        ([WHOLE[0], line(outcome="failed", longrepr="text"), WHOLE[2]], "Failed", "text"),
        ([WHOLE[0], line(outcome="failed"), WHOLE[2]], "Failed", "Failed"),
        ([WHOLE[0], line(outcome="retried", longrepr={"reprcrash": {"message": "a.B: x"}}), WHOLE[2]], "Failed", "x"),
        ([WHOLE[0], line(outcome="skipped", wasxfail="reason: known"), WHOLE[2]], "Skipped", "known"),
        ([line(when="???", outcome="failed", longrepr="gone")], "Failed", "gone"),
        ([line(when="odd")], "Pending", "The session ended before the test"),
    ],
)
def test_verdicts(tmp_path, lines, status, message):
    _, (result,) = read(tmp_path, [*lines, END])
    assert (result.test["status"], result.test.get("error_message")) == (status, message)


@pytest.mark.parametrize("odd", [None, 3, "x", [], {}, [[]], [[1, 2]], {"a": {"b": []}}, True, -1, float("nan"), 1e300])
def test_odd_values(tmp_path, odd):
    names = ("longrepr", "sections", "user_properties", "keywords", "location", "start", "stop", "duration", "rerun")
    names += ("wasxfail", "_subtest.context", "worker_id")
    for name in names:
        for outcome in ("passed", "failed", "skipped"):
            lines = [line(when=when, outcome=outcome, **{name: odd}) for when in ("setup", "call", "teardown")]
            _, results = read(tmp_path, [*lines, line(kind=odd), line(node=odd), line(when=odd), END])
            assert results and all(result.test["status"] for result in results)
    crash = {"reprcrash": odd, "reprtraceback": odd, "sections": odd, "chain": odd}
    chain = {"chain": [odd, [odd, odd, odd], [{"reprentries": [odd, {"data": odd}, {"data": {"lines": odd}}]}]]}
    for longrepr in (crash, chain):
        _, (result,) = read(tmp_path, [WHOLE[0], line(outcome="failed", longrepr=longrepr), END])
        assert result.test["status"] == "Failed" and result.test["error_message"]


def test_names_and_texts(tmp_path):
    node = "t.py::test_" + "x" * 200_000
    sections = [["Captured stdout call", "\x1b[31mred\x1b[0m\nnul\0 \ud800"], ["Captured browser", "hi"]]
    lines = [line(node), line(node, sections=sections, location=["t.py", 0, "x"]), line(f"{node}y"), line(""), END]
    _, results = read(tmp_path, lines)
    identities = [result.test["test_id"] for result in results]
    assert [len(identity) for identity in identities] == [500, 500, 1] and len(set(identities)) == 3
    messages = [(entry["source_url"], entry["message"]) for entry in results[0].console_logs]
    assert messages == [("stdout", "red"), ("stdout", "nul\ufffd \ufffd"), ("browser", "hi")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings(tmp_path, encoding):
    _, (result,) = read(tmp_path, [line("t.py::test_ü").replace("\\u00fc", "ü"), END], encoding)
    assert result.test["name"] == "test_ü"


def test_much_output_is_a_file(tmp_path):
    sections = [["Captured stdout call", "x\n" * 5_000], ["Captured log call", "INFO     a:b.py:1 y\n" * 9_000]]
    _, (result,) = read(tmp_path, [WHOLE[0], line(sections=sections), END])
    (file,) = result.files
    assert len(result.console_logs) == 5_000 and file.data.count(b"x\n") == 5_000


def test_pictures_of_properties(tmp_path):
    (tmp_path / "shot.png").write_bytes(png(1))
    (tmp_path / "link.png").symlink_to("/etc/passwd")
    names = ("shot.png", "../shot.png", "/etc/passwd", "link.png", "gone.png", "x" * 2_000)
    for name in names:
        last = line(when="teardown", outcome="failed", user_properties=[["a_screenshot", name]], longrepr="no")
        _, (result,) = read(tmp_path, [*WHOLE[:2], last, END])
        assert [file.path for file in result.files] == ([tmp_path / "shot.png"] if name == "shot.png" else [])
        if result.files:
            fields = result.files[0].fields
            assert (fields["step_number"], fields["artifact_category"]) == (1, "error"), "of the teardown that failed"
        assert result.test["metadata"]["properties"] == {"a_screenshot": name[:999] + "…" if len(name) > 999 else name}


CUT = "\n".join([START, *WHOLE, line("t.py::test_b", when="setup"), line("t.py::test_b")[:30]])
HOSTILE = [
    ("", 2, "is empty"),
    ("\n \n", 2, "is empty"),
    (f"{START}\n{END}\n", 2, "is empty: it has no test"),
    (CUT, 4, "is cut or damaged: 1 whole results were read, 1 tests did not finish"),
    ("\n".join([START, "nothing", "[1, 2]", "[" * 300, "{" * 100_000, *WHOLE, END]), 4, "1 whole results were read, 0"),
    ("\n".join([START, *WHOLE, '{"$report_type": "SessionFinish", "exitstatus": 3}']), 0, ""),
]


@pytest.mark.parametrize(("text", "code", "words"), HOSTILE)
def test_exit_codes(tmp_path, send, text, code, words):
    (tmp_path / "log.jsonl").write_text(text)
    done = send(tmp_path / "log.jsonl", "--dry-run")
    assert done.returncode == code and words in done.stderr, done.stderr


def test_an_interruption_fails_the_run(tmp_path):
    (tmp_path / "log.jsonl").write_text(HOSTILE[-1][0].replace('"exitstatus": 3', '"exitstatus": 2'))
    reports, _ = looked(tmp_path)
    assert (reports.suite["status"], reports.suite["metadata"]["pytest_exit"]) == ("Failed", "interrupted")


def test_an_internal_error_fails_the_run(tmp_path, send, server):
    (tmp_path / "log.jsonl").write_text(HOSTILE[-1][0])
    done = send(tmp_path, "--run-key", "an internal error")
    (found,) = [run for run in server.get("/suite-runs?limit=50")["items"] if run["run_key"] == "an internal error"]
    assert done.returncode == 0 and found["status"] == "Failed", done.stdout + done.stderr
    assert found["metadata"]["pytest_exit"] == "internal error"


def test_a_wrong_format_forced(tmp_path, send):
    (tmp_path / "a.xml").write_text("<testsuite/>")
    done = send(tmp_path / "a.xml", "--format", "report-log", "--dry-run")
    assert done.returncode == 3 and "is no report log of pytest" in done.stderr
    (tmp_path / "a.jsonl").write_text("\n".join([START, *WHOLE, END]))
    done = send(tmp_path / "a.jsonl", "--format", "junit", "--dry-run")
    assert done.returncode == 3


def test_lines_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(text_file, "MAX_LINE", 1_000)
    lines = [WHOLE[0], line(longrepr="x" * 5_000), *WHOLE[1:], END]
    reports, (result,) = read(tmp_path, lines)
    assert result.test["status"] == "Passed" and "is cut or damaged" in reports.notes[0]
    with (tmp_path / "log.jsonl").open("r+b") as file:
        file.truncate(257 << 20)
    assert "larger than 256 MiB" in looked(tmp_path / "log.jsonl")[0].unreadable[0]


def test_tests_that_never_end_are_not_all_kept(tmp_path):
    lines = [line(f"t.py::test_{i}", when="setup") for i in range(1_000)]
    _, results = read(tmp_path, [*lines, END])
    assert len(results) == 1_000 and {result.test["status"] for result in results} == {"Pending"}


def test_traces_in_the_style_of_python(tmp_path):
    entry = {"type": "ReprEntryNative", "data": {"lines": ["Traceback:\n", "  File x\n", "E: no\n"]}}
    longrepr = {"chain": [[{"reprentries": [entry]}, None, "\nThe above:"], [{"reprentries": [entry]}, None, None]]}
    longrepr["sections"] = [["Captured", "text", "-"]]
    _, (result,) = read(tmp_path, [WHOLE[0], line(outcome="failed", longrepr=longrepr), END])
    trace = "Traceback:\n  File x\nE: no"
    assert result.test["stack_trace"] == f"{trace}\n\n\nThe above:\n{trace}\n{'-' * 35} Captured {'-' * 35}\ntext"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("ValueError: old bug", ("ValueError", "old bug")),
        ("assert 1 == 2", ("AssertionError", "assert 1 == 2")),
        ("shop.cart.test_x.<locals>.OddError: a: b\nc", ("OddError", "a: b\nc")),
        ("ZeroDivisionError", ("ZeroDivisionError", "ZeroDivisionError")),
        ("two words: no type", ("", "two words: no type")),
        ("http://shop.example: no", ("", "http://shop.example: no")),
    ],
)
def test_types_and_messages(message, expected):
    assert split(message) == expected
