"""Shards and completeness: five jobs meet in one run, which ends with the last one, and the server says what is missing
of tests and files. Acceptance points 21, 22 and 37."""

import json
import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from reportd_client.cli import main
from reportd_client.settings import SettingsError, read
from reportd_client.spool import spools_in

from tests.images import png
from tests.server import CLEAN, wait_until
from tests.test_process import command
from tests.test_sender import resume


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    """Not in the checkout, whose git would say commit and branch."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def send(server, tmp_path, monkeypatch, capsys):
    """Runs `reportd-send` in this process: its code, output and errors."""

    def run(*arguments, **environment):
        settings = {"REPORTD_URL": server.url, "REPORTD_TOKEN": server.token, "REPORTD_SPOOL": str(tmp_path / "spool")}
        with monkeypatch.context() as patch:
            for name, value in {**settings, **environment}.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return SimpleNamespace(returncode=int(ended.value.code), stdout=said.out, stderr=said.err)

    return run


@pytest.fixture
def shard(record, server, tmp_path):
    """Sends shard `k` of a run: its receipt."""

    def send(k, total=5, status="Passed", key="build-1", url=None, tests=2, **arguments):
        arguments = {"run_key": key, "tests_expected": tests, **arguments}
        with record(url, shard=f"{k}/{total}", spool=str(tmp_path / f"spool-{k}"), **arguments) as run:
            for i in range(tests):
                with run.test(f"test {k}.{i}") as test:
                    test.set_status(status)
        return run.receipt

    return send


def completeness(server, run_id):
    return server.get(f"/suite-runs/{run_id}/completeness")


def shown(run):
    return run["status"], run["finished_at"] is not None


# --- five shards -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["Passed", "Failed"])
def test_a_run_ends_with_its_last_shard(shard, server, last):
    """Point 22."""
    key = f"last {last}"
    for k in (1, 2, 3, 4):
        receipt = shard(k, key=key)
        assert receipt.complete and shown(server.run(receipt.run_id)) == ("Running", False)
    found = completeness(server, receipt.run_id)
    assert found["shards"] == {"total": 5, "finished": 4, "running": [], "silent": [5], "errors": []}
    assert (found["complete"], found["tests_expected"], found["tests_received"]) == (False, 8, 8)
    assert shard(5, key=key, status=last).run_id == receipt.run_id
    run = server.run(receipt.run_id)
    assert shown(run) == (last, True) and len(run["tests"]) == 10
    found = completeness(server, receipt.run_id)
    assert found["complete"] and found["tests_expected"] == found["tests_received"] == 10


def test_a_shard_that_failed_is_not_hidden_by_a_later_one(shard, server):
    for k, status in [(1, "Failed"), (2, "Passed")]:
        receipt = shard(k, 2, status, key="hidden")
    assert shown(server.run(receipt.run_id)) == ("Failed", True)


GITLAB = {"GITLAB_CI": "true", "CI_SERVER_HOST": "gl", "CI_PROJECT_NAME": "shop", "CI_NODE_TOTAL": "5"}
GITHUB = {"GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "acme/shop", "GITHUB_WORKFLOW": "CI", "GITHUB_RUN_ID": "77"}


def test_jobs_of_a_workflow_do_not_meet_and_shards_do(send, server, tmp_path):
    """Point 21, with the command as in a job. A matrix of GitHub has no number: the job says it."""

    def job(name, environment, *arguments):
        (tmp_path / f"{name}.json").write_text(json.dumps({"steps": [], "test": {"name": name}}))
        done = send(tmp_path / f"{name}.json", "--json", *arguments, **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["run_id"]

    nodes = [
        {**GITLAB, "CI_PIPELINE_ID": "9", "CI_JOB_NAME": f"e2e {k}/5", "CI_NODE_INDEX": str(k)} for k in range(1, 6)
    ]
    ids = {job(f"node {k}", node) for k, node in enumerate(nodes)}
    assert len(ids) == 1
    run = server.run(ids.pop())
    assert shown(run) == ("Passed", True) and len(run["tests"]) == 5 and completeness(server, run["id"])["complete"]

    unit, e2e = (job(name, {**GITHUB, "GITHUB_JOB": name}) for name in ("unit", "e2e"))
    assert unit != e2e and all(server.run(each)["status"] == "Passed" for each in (unit, e2e))
    one = job("one", {**GITHUB, "GITHUB_JOB": "matrix"}, "--shard", "1/2")
    assert server.run(one)["status"] == "Running"
    assert job("two", {**GITHUB, "GITHUB_JOB": "matrix", "REPORTD_SHARD": "2/2"}) == one
    assert shown(server.run(one)) == ("Passed", True)


# --- the same again --------------------------------------------------------------------------------------------------


def test_a_finished_shard_is_never_running_again(record, server, proxy, tmp_path):
    """Its spool is sent again without receipts, as a copy is, and every answer is lost once."""
    with record(sender="none", run_key="again", shard="1/1", tests_expected=1) as run, run.test("t") as test:
        test.set_status("Failed", "boom")
    copy = shutil.copytree(run.spool.folder, tmp_path / "copy")
    receipt = resume(run.spool.folder, server, proxy.url)
    before = server.run(receipt.run_id)
    assert shown(before) == ("Failed", True)
    states, seen = [], set()

    def script(method, path):
        call = method, path, proxy.body if "/shards/" in path else b""
        if "/shards/" in path:
            states.append(shown(server.run(receipt.run_id)))
        if call in seen:
            return None
        seen.add(call)
        return "cut"

    proxy.script = script
    again = resume(copy, server, proxy.url)
    assert again.complete and (again.run_id, again.tests_new) == (receipt.run_id, 0)
    assert len(states) == 4 and set(states) == {("Failed", True)}
    assert server.run(receipt.run_id)["finished_at"] == before["finished_at"]


def test_a_crash_before_the_end_is_continued(record, server, proxy, tmp_path):
    with record(sender="none", run_key="crash", shard="1/2", tests_expected=1) as run, run.test("t"):
        pass
    proxy.script = lambda method, path: (500, {}) if b"finished_at" in proxy.body else None
    first = resume(run.spool.folder, server, proxy.url)
    assert first.code == 5 and completeness(server, first.run_id)["shards"]["running"] == [1]
    proxy.seen.clear()
    proxy.script = lambda method, path: None
    assert resume(run.spool.folder, server, proxy.url).complete
    assert [call for call in proxy.seen if "shards" in call[1]] == [("PUT", f"/suite-runs/{first.run_id}/shards/1")]
    assert completeness(server, first.run_id)["shards"]["finished"] == 1


def test_a_job_that_is_repeated_counts_again(shard, server):
    receipt = shard(1, 2, "Failed", key="rep")
    shard(2, 2, key="rep")
    assert shown(server.run(receipt.run_id)) == ("Failed", True)
    shard(1, 2, "Passed", key="rep")
    assert shown(server.run(receipt.run_id)) == ("Passed", True)


def test_the_same_reports_twice_end_once(send, server, proxy, tmp_path):
    (tmp_path / "result.json").write_text('{"steps": [], "test": {"name": "a", "status": "Failed"}}')
    first = json.loads(send(tmp_path / "result.json", "--json").stdout)["run_id"]
    states = []
    proxy.script = lambda method, path: states.append(shown(server.run(first)))
    second = json.loads(send(tmp_path / "result.json", "--json", REPORTD_URL=proxy.url).stdout)
    assert (second["run_id"], second["tests_new"]) == (first, 0)
    assert set(states) == {("Failed", True)} and completeness(server, first)["complete"]


# --- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0/5", "6/5", "x", "2", "1/1001", "1/0", "-1/5", "1/5/9", "٢/٥", "9" * 5000 + "/5"])
def test_a_wrong_shard_is_a_usage_error(send, tmp_path, text):
    (tmp_path / "result.json").write_text('{"steps": [], "test": {"name": "a"}}')
    with pytest.raises(SettingsError, match="must be like 2/5"):
        read({"shard": text})
    if text in ("0/5", "x"):
        for more in ((), ("--dry-run",)):
            done = send(tmp_path / "result.json", f"--shard={text}", *more)
            assert (
                done.returncode == 1
                and f"must be like 2/5, the second of five and at most 1000, not '{text}'" in done.stderr
            )
        assert send(tmp_path / "result.json", REPORTD_SHARD=text).returncode == 1


def test_a_shard_without_a_common_key_is_refused_or_alone(send, record, server, said, tmp_path):
    (tmp_path / "result.json").write_text('{"steps": [], "test": {"name": "a"}}')
    done = send(tmp_path / "result.json", "--shard", "2/5")
    assert (
        done.returncode == 1
        and "Shard 2/5 needs a run_key that the others have, too: set REPORTD_RUN_KEY" in done.stderr
    )
    with record(shard="2/5") as run, run.test("t"):
        pass
    assert shown(server.run(run.receipt.run_id)) == ("Passed", True)
    assert len(said) == 1 and "It is a run of its own" in said[0]


def test_another_total_is_said_in_one_line_and_costs_nothing_else(shard, server):
    shard(1, 5, key="totals")
    receipt = shard(2, 4, key="totals")
    (line,) = receipt.refused
    assert line.startswith("shard 2/4: ") and "said 5" in line and receipt.spool is None
    run = server.run(receipt.run_id)
    assert len(run["tests"]) == 4 and shown(run) == ("Running", False)
    assert completeness(server, run["id"])["shards"]["silent"] == [2, 3, 4, 5]


def test_a_server_without_shards_gets_the_end_of_the_run(shard, server, proxy):
    """Point 37."""
    limits = server.get("/limits")
    limits["features"] = [name for name in limits["features"] if name != "shards"]
    proxy.script = lambda method, path: (200, limits) if path == "/limits" else None
    for older in (False, True):
        proxy.older = older
        receipt = shard(1, 5, "Failed", key=f"old {older}", url=proxy.url)
        run = server.run(receipt.run_id)
        assert shown(run) == ("Failed", True) and len(run["tests"]) == 2 and receipt.refused == []
    assert not [path for _, path in proxy.seen if "/shards/" in path]


# --- how many tests there are ----------------------------------------------------------------------------------------


def pytest_run(pytester, server, *arguments, **environment):
    settings = {"REPORTD_URL": server.url, "REPORTD_TOKEN": server.token, "REPORTD_RUN_KEY": pytester.path.name}
    more = ["-p", "no:cacheprovider", "--reportd", "--reportd-spool", str(pytester.path / "spool")]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *more, *arguments],
        env={**CLEAN, **settings, **environment},
        cwd=pytester.path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return process, settings


def the_run(server, pytester):
    return next(run for run in server.runs() if run["run_key"] == pytester.path.name)


@pytest.mark.parametrize("arguments", [(), ("-n", "2")])
def test_a_session_that_ends_is_complete(pytester, server, arguments):
    pytester.makepyfile("import pytest\n@pytest.mark.parametrize('i', range(7))\ndef test_a(i): assert i != 3")
    process, _ = pytest_run(pytester, server, "-k", "not 6", *arguments)
    output, _ = process.communicate()
    run = the_run(server, pytester)
    found = completeness(server, run["id"])
    assert (found["complete"], found["tests_expected"], found["tests_received"]) == (True, 6, 6), output
    assert shown(run) == ("Failed", True)


KILLED = """
import json, os, pathlib, pytest, signal, time

def arrived():
    lines = [line for path in pathlib.Path("spool").glob("*/receipts.jsonl") for line in path.open()]
    return sum(len(json.loads(line).get("complete", ())) for line in lines if line.endswith("\\n"))

@pytest.mark.parametrize("i", range(5))
def test_a(i):
    if i == 2:
        while arrived() < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_session_that_is_killed_says_what_is_missing(pytester, server):
    pytester.makepyfile(KILLED)
    process, settings = pytest_run(pytester, server, "--reportd-shard", "2/3")
    assert process.communicate() and process.returncode == -signal.SIGKILL
    (spool,) = spools_in(pytester.path / "spool")
    run = the_run(server, pytester)
    found = completeness(server, run["id"])
    assert found["tests_expected"] == 5 and found["tests_received"] in (2, 3) and not found["complete"]
    assert (found["shards"]["running"], found["shards"]["silent"]) == ([2], [1, 3])

    wait_until(lambda: command("resume", spool, **settings).returncode == 0)
    found = completeness(server, run["id"])
    assert (found["tests_expected"], found["tests_received"], found["shards"]["finished"]) == (5, 3, 1)
    assert found["shards"]["errors"] == [
        {"index": 2, "error": "The process that ran the tests ended before the run did"}
    ]


def test_errors_outside_of_tests_are_those_of_the_shard(pytester, server):
    pytester.makepyfile(test_a="def test_a(): pass", test_b="import nothing_like_this")
    process, _ = pytest_run(pytester, server)
    process.communicate()
    run = the_run(server, pytester)
    found = completeness(server, run["id"])
    (error,) = found["shards"]["errors"]
    assert error["error"].startswith("test_b.py: ") and "nothing_like_this" in error["error"]
    assert shown(run) == ("Failed", True) and (found["tests_expected"], found["tests_received"]) == (1, 0)


def test_reports_say_how_many_tests_they_have(send, server, tmp_path):
    tests = [{"steps": [], "test": {"name": name, "attempt": n}} for name, n in [("a", 1), ("a", 2), ("b", 1)]]
    (tmp_path / "result.json").write_text(json.dumps(tests))
    run_id = json.loads(send(tmp_path / "result.json", "--json").stdout)["run_id"]
    found = completeness(server, run_id)
    assert (found["complete"], found["tests_expected"], found["tests_received"]) == (True, 2, 2)


def test_the_library_is_told_how_many_tests_there_are(record, server, said):
    with record(tests_expected=3) as run, run.test("t"):
        pass
    found = completeness(server, run.receipt.run_id)
    assert (found["complete"], found["tests_expected"], found["tests_received"]) == (False, 3, 1)
    with record() as run, run.test("t"):
        run.expect(1)
    assert completeness(server, run.receipt.run_id)["complete"]
    with record(tests_expected="many") as run, run.test("t"):
        run.set_status("Skipped")
    assert said == ["The number of tests must be a whole number from 0, not 'many'"]
    with record(tests_expected=1) as run, run.test("t"):
        run.set_status("Skipped")  # which a shard does not have
    assert shown(server.run(run.receipt.run_id)) == ("Skipped", True)
    assert completeness(server, run.receipt.run_id)["complete"]


# --- files that do not come ------------------------------------------------------------------------------------------


def test_files_that_the_client_refuses_are_missing(record, server, proxy, tmp_path):
    limits = {**server.get("/limits"), "max_file_size": 2 << 20}
    proxy.script = lambda method, path: (200, limits) if path == "/limits" else None
    large = tmp_path / "changed.txt"
    large.write_bytes(b"x" * (1 << 20) + b"y")
    with record(proxy.url, sender="none") as run, run.test("t") as test:
        test.attach(tmp_path / "gone.png")
        test.attach(b"z" * (3 << 20), "large.txt")
        test.attach(large)
        test.attach(b"\x7fELF" + bytes(100), "program")
        test.attach(png(1), "shot.png")
    os.utime(large, ns=(1, 1))
    receipt = resume(run.spool.folder, server, proxy.url)
    found = completeness(server, receipt.run_id)
    reasons = {each["file_name"]: each["reason"] for each in found["artifacts_missing"]}
    assert reasons.pop("program").startswith("refused: File type not allowed")
    assert reasons == {
        "gone.png": "refused: No such file",
        "large.txt": "refused: File size exceeds maximum allowed (2MB)",
        "changed.txt": "refused: Its bytes have changed since it was attached",
    }
    assert not found["complete"] and len(receipt.refused) == 4
    assert [a["file_name"] for a in server.run(receipt.run_id)["tests"][0]["artifacts"]] == ["shot.png"]


def test_files_of_a_test_that_is_sent_in_parts_are_missing_too(record, server, proxy):
    """Its bundle is refused, so that files come in batches, whose refusals the server does not remember."""
    with record(proxy.url, sender="none") as run, run.test("t") as test:
        test.attach(b"\x7fELF" + bytes(100), "program")
        test.attach(png(1), "shot.png")

    proxy.script = lambda method, path: (
        (413, {"detail": "too large"}) if path.endswith("/bundle") and b'name="files"' in proxy.body else None
    )
    receipt = resume(run.spool.folder, server, proxy.url)
    (missing,) = completeness(server, receipt.run_id)["artifacts_missing"]
    assert missing["file_name"] == "program" and missing["reason"].startswith("refused: File type not allowed")
    assert len(server.run(receipt.run_id)["tests"]) == 1


def test_files_that_wait_for_another_request_are_missing_until_then(record, server, proxy, tmp_path):
    with record(proxy.url, sender="none") as run, run.test("t") as test:
        for i in range(60):
            test.attach(f"{i} of {tmp_path}".encode(), f"{i}.txt")
    bundles = []

    def script(method, path):
        if path.endswith("/bundle"):
            bundles.append(path)
        return (401, {}) if len(bundles) == 2 else None

    proxy.script = script
    first = resume(run.spool.folder, server, proxy.url)
    assert first.code == 6
    missing = completeness(server, first.run_id)["artifacts_missing"]
    assert sorted(int(each["file_name"][:-4]) for each in missing) == list(range(50, 60))
    assert {each["reason"] for each in missing} == {"later"}
    assert resume(run.spool.folder, server).complete
    assert completeness(server, first.run_id)["artifacts_missing"] == []
