"""What the plugin sends, compared field by field with pytest's own reports of the same session."""

import json
from datetime import datetime

import pytest

from tests.test_pytest import SUITE, report

__all__ = ["report"]

LOG = """
import json, pytest

class Log:
    def __init__(self, config): self.config = config
    def pytest_runtest_logreport(self, report):
        value = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        with open("report.log", "a") as log:
            log.write(json.dumps(value, default=repr) + "\\n")

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Log(config))
"""
MORE = """
count = []

@pytest.mark.flaky(reruns=2)
def test_flaky():
    count.append(1)
    print(f"attempt {len(count)}")
    assert len(count) == 3, f"number {len(count)}"

@pytest.mark.flaky(reruns=1)
def test_setup_is_flaky(unready): pass

@pytest.fixture
def unready():
    count.append(1)
    print("looking")
    raise LookupError("not ready")

def test_output_of_all_phases(talks):
    print("of the call")
    logging.getLogger("a.b").error("100 %% of %s", "it")

@pytest.fixture
def talks():
    print("of the setup")
    yield
    print("of the teardown", file=sys.stderr)

class TestNames:
    @pytest.mark.parametrize("text", ["", "a::b", "\\u00fc/[x]", "x" * 300], ids=lambda t: t[:9] or "empty")
    def test_of_a_class(self, text, record_property):
        record_property("text", text[:20])

def test_both_fail(leaks):
    raise KeyError("lost")

def test_error_without_text():
    raise ZeroDivisionError

def test_cause():
    try:
        {}["key"]
    except KeyError as error:
        raise RuntimeError("two\\nlines") from error
"""


@pytest.fixture(params=[(), ("-n", "2")], ids=["one process", "two workers"])
def both(request, report, pytester):
    """The rows of the server, and for each the reports of its phases, by test_id and attempt."""
    pytester.makeconftest(LOG)
    pytester.makepyfile(test_suite=SUITE + MORE)
    _, run = report(*request.param)
    attempts = {}
    for line in (pytester.path / "report.log").read_text().splitlines():
        logged = json.loads(line)
        mine = attempts.setdefault(logged["nodeid"], [])
        if logged["when"] == "setup":
            mine.append([])
        mine[-1].append(logged)
    expected = {(name, i + 1): reports for name, mine in attempts.items() for i, reports in enumerate(mine)}
    return run, {(row["test_id"], row["attempt"]): row for row in run["tests"]}, expected


def test_the_rows_are_what_pytest_reports(both):
    run, rows, expected = both
    assert rows.keys() == expected.keys() and len(run["tests"]) == len(expected)
    assert len(expected) == 13 + 3 + 2 + 1 + 4 + 3
    sections = {}
    for (test_id, attempt), reports in expected.items():
        row = rows[test_id, attempt]
        verdict = verdict_of(reports)
        assert {name: row[name] for name in verdict} == verdict, test_id
        check_error(row, reports)
        check_times(row, reports)
        check_output(row, reports, sections.get(test_id, 0))
        sections[test_id] = len(reports[-1]["sections"])
        properties = {name: str(value) for name, value in reports[-1]["user_properties"]}
        assert (row["metadata"] or {}).get("properties", {}) == properties
        assert set(row["tags"] or ()) <= reports[0]["keywords"].keys()
        assert row["name"] == test_id.partition("::")[2]


def phases(reports):
    return {one["when"]: one for one in reports if one.get("$report_type") == "TestReport"}


def failure_of(reports):
    return next((one for one in phases(reports).values() if one["outcome"] in ("failed", "rerun")), None)


def verdict_of(reports):
    """Status, and the message of a skip."""
    skipped = [one for one in phases(reports).values() if one["outcome"] == "skipped"]
    if failure_of(reports) is not None or any(one["outcome"] == "failed" for one in reports):
        return {"status": "Failed"}
    if not skipped:
        return {"status": "Passed", "error_message": None}
    reason = skipped[0].get("wasxfail") or skipped[0]["longrepr"][2].removeprefix("Skipped: ")
    return {"status": "Skipped", "error_message": reason}


def check_error(row, reports):
    failed = failure_of(reports)
    if failed is None or isinstance(failed["longrepr"], str):
        assert failed is None or row["error_message"] == failed["longrepr"]
        return
    crash = failed["longrepr"]["reprcrash"]
    kind, _, message = crash["message"].partition(": ")
    assert (row["error_type"], row["error_message"]) == (kind, message or kind)
    where = failed["when"] if failed["when"] != "call" else None
    assert (row["metadata"] or {}).get("phase") == where
    for entry in failed["longrepr"]["reprtraceback"]["reprentries"]:
        for line in entry["data"]["lines"]:
            assert line.strip() in row["stack_trace"]  # pytest strips the text, and so its first line
    assert f":{crash['lineno']}: " in row["stack_trace"]


def check_times(row, reports):
    begun, ended = (datetime.fromisoformat(row[name].replace("Z", "+00:00")).timestamp() for name in TIMES)
    setup, *others = phases(reports).values()
    assert setup["start"] - 0.002 <= begun <= setup["stop"] + 0.002 and others[-1]["stop"] - 0.002 <= ended
    assert row["duration_ms"] + 2 >= sum(one["duration"] for one in others) * 1000
    assert abs(row["duration_ms"] - (ended - begun) * 1000) <= 2


TIMES = ("started_at", "completed_at")


def check_output(row, reports, already):
    """Lines of stdout and stderr, and records of logs. `already`: sections of earlier attempts."""
    sections = reports[-1]["sections"][already:]
    for stream, level in (("stdout", "info"), ("stderr", "warning")):
        lines = [
            line for title, text in sections if title.startswith(f"Captured {stream}") for line in text.splitlines()
        ]
        found = [(entry["level"], entry["message"]) for entry in row["console"] if entry["source_url"] == stream]
        assert found == [(level, line) for line in lines if line]
    logged = [line for title, text in sections if title.startswith("Captured log") for line in text.splitlines()]
    records = [entry for entry in row["console"] if entry["source_url"] not in ("stdout", "stderr")]
    assert len(records) == len(logged)
    for entry, line in zip(records, logged):
        assert line.endswith(f" {entry['message']}") and line.split()[0].lower() == entry["level"]
        assert f"{entry['source_url'].split()[0]}:" in line and f":{entry['line_number']} " in line
