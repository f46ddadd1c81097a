"""Runs, tests and steps as a program records them, read back from a real server."""

import asyncio
import contextvars
import subprocess
import sys
import threading
import time
import unittest

import pytest
import reportd_client as reportd
from reportd_client.entries import MOST
from reportd_client.notes import ReportdWarning
from reportd_client.spool import Spool, spools_in

from tests.images import png
from tests.server import PACKAGE, PATIENCE, python


def test_everything_that_a_run_can_say(record, server, said, tmp_path):
    (tmp_path / "app.log").write_text("started\n")
    with record(name="nightly", tags=["smoke"], branch="main", metadata={"team": "shop"}) as run:
        with run.test("login works", test_id="tests/login", tags=["ui"], metadata={"owner": "anna"}) as test:
            with test.step("Open the login page", type="navigate", input_value="https://x/?token=abc") as s:
                s.screenshot(png(1))
            with test.step("Click Login", type="click", selector="#login") as s:
                with s.step("Wait for the overlay") as inner:
                    inner.set(expected="gone", actual="gone")
                test.console("error", "boom", source_url="app.js", line_number=3)
            test.checkpoint("title", expected="Account", actual="Login")
            test.network("GET", "https://shop.example/?sig=1", status_code=500, duration_ms=31)
            test.attach(tmp_path / "app.log")
            test.iteration(2)
            with reportd.step("Expect the cart"):
                pass
    assert run.receipt.complete and run.receipt.spool is None and said == []
    assert (run.receipt.tests, run.receipt.files, run.receipt.files_new) == (1, 2, 2)
    assert spools_in(tmp_path / "spool") == []
    found = server.run(run.receipt.run_id)
    assert (found["name"], found["branch"], found["tags"], found["status"]) == ("nightly", "main", ["smoke"], "Passed")
    assert found["metadata"]["team"] == "shop" and found["finished_at"] is not None
    (test,) = found["tests"]
    assert (test["test_id"], test["status"], test["tags"], test["attempt"]) == ("tests/login", "Passed", ["ui"], 1)
    assert test["metadata"] == {"owner": "anna"} and test["duration_ms"] >= 0
    steps = [(s["iteration_number"], s["step_number"], s["step_type"], s["action"]) for s in test["steps"]]
    assert steps == [
        (1, 1, "navigate", "Open the login page"),
        (1, 2, "click", "Click Login"),
        (1, 3, "wait", "Wait for the overlay"),
        (2, 1, "assert", "Expect the cart"),
    ]
    opened, clicked, waited, _ = test["steps"]
    assert opened["input_value"] == "https://x/?token=[redacted]"
    assert opened["screenshot"]["file_name"] == "step_001.png"
    assert clicked["element_selector"] == "#login"
    assert (waited["expected_value"], waited["actual_value"]) == ("gone", "gone")
    (entry,) = test["console"]
    assert (entry["level"], entry["message"], entry["step_number"], entry["line_number"]) == ("error", "boom", 2, 3)
    assert test["network"][0]["url"] == "https://shop.example/?sig=[redacted]"
    assert test["network"][0]["status_code"] == 500
    assert (test["checkpoints"][0]["status"], test["checkpoints"][0]["actual_value"]) == ("Failed", "Login")
    shot, log = sorted(test["artifacts"], key=lambda artifact: artifact["file_name"], reverse=True)
    assert server.bytes_of(shot) == png(1) and shot["artifact_category"] == "after"
    assert (log["file_name"], log["artifact_type"], log["step_number"]) == ("app.log", "log", None)


def test_an_exception_fails_the_step_its_parents_and_the_test(record, server):
    with record() as run:
        with pytest.raises(ValueError, match="no button"), run.test("fails") as test:
            with test.step("outer"), test.step("inner") as s:
                s.screenshot(png(1))
                s.screenshot(png(2))
                raise ValueError("no button")
        with run.test("goes on"):
            pass
    failed, passed = server.run(run.receipt.run_id)["tests"]
    assert (failed["status"], failed["error_type"], failed["error_message"]) == ("Failed", "ValueError", "no button")
    assert "raise ValueError" in failed["stack_trace"]
    outer, inner = failed["steps"]
    assert [(s["status"], s["error_message"]) for s in (outer, inner)] == [("Failed", "no button")] * 2
    assert outer["stack_trace"] is None and "raise ValueError" in inner["stack_trace"]
    assert [a["artifact_category"] for a in failed["artifacts"]] == ["after", "error"]
    assert inner["screenshot"]["file_name"] == "step_002_2.png"  # the one that shows the failure
    assert passed["status"] == "Passed"
    assert server.get(f"/suite-runs/{run.receipt.run_id}")["status"] == "Failed"


def test_a_run_is_failed_only_when_a_last_attempt_is(record, server):
    with record() as run:
        for attempt, status in ((1, "Failed"), (2, "Passed")):
            with run.test("flaky", attempt=attempt) as test:
                test.set_status(status)
    found = server.run(run.receipt.run_id)
    assert found["status"] == "Passed"
    assert [(t["attempt"], t["status"]) for t in found["tests"]] == [(1, "Failed"), (2, "Passed")]


def test_skips_are_no_failures(record, server):
    with record() as run:
        with pytest.raises(unittest.SkipTest), run.test("skipped") as test, test.step("a"):
            raise unittest.SkipTest("no browser")
    (test,) = server.run(run.receipt.run_id)["tests"]
    assert (test["status"], test["error_message"], test["steps"][0]["status"]) == ("Skipped", "no browser", "Skipped")


def test_steps_as_decorators_in_threads_and_tasks(record, server):
    @reportd.step("log in")
    def log_in(name):
        """Logs in."""
        return name

    @reportd.step("buy")
    async def buy():
        async with reportd.step("pay"):
            await asyncio.sleep(0)
        return 1

    async def both():
        return await asyncio.gather(buy(), buy())

    assert log_in("outside of a test") == "outside of a test" and log_in.__doc__ == "Logs in."
    with record() as run, run.test("t") as test:
        with test.step("all"):
            assert log_in("anna") == "anna"
            assert asyncio.run(both()) == [1, 1]
            thread = threading.Thread(target=contextvars.copy_context().run, args=(log_in, "in a thread"))
            thread.start()
            thread.join()
    (test,) = server.run(run.receipt.run_id)["tests"]
    assert sorted(s["action"] for s in test["steps"]) == ["all", "buy", "buy", "log in", "log in", "pay", "pay"]
    assert [s["step_number"] for s in test["steps"]] == list(range(1, 8))


def test_an_asynchronous_run(record, server):
    async def work():
        async with record() as run:
            async with run.test("t") as test, test.step("s"):
                pass
            assert await run.flush_async(PATIENCE)
            (stored,) = [each for each in server.runs() if each["run_key"] == run.fields["run_key"]]
            assert len(server.cases(stored["id"])) == 1
        return run.receipt

    assert asyncio.run(work()).complete


def test_steps_outside_of_a_test_do_nothing_and_cost_little():
    started = time.thread_time()
    for _ in range(1000):
        with reportd.step("nothing", selector="#x") as s:
            s.screenshot(b"")
            s.fail("x")
    empty = time.thread_time() - started
    assert reportd.current_test() is None
    reportd.attach(b"x", "x")
    reportd.screenshot(b"x")
    started = time.thread_time()
    for _ in range(1000):
        subprocess.list2cmdline(["a b", "c d"])
    assert empty < 100 * (time.thread_time() - started)  # microseconds, whatever the machine


def test_parents_are_recorded(record, tmp_path):
    with record(sender="none") as run, run.test("t") as test:
        with test.step("a"):
            with test.step("b"), reportd.step("c"):
                pass
            test.iteration(2)
            with test.step("of another iteration"):
                pass
    steps = [entry for _, entry in entries(run, "steps")]
    found = {s["action"]: (s["iteration_number"], s["step_number"], s.get("parent_step_number")) for s in steps}
    assert found == {"a": (1, 1, None), "b": (1, 2, 1), "c": (1, 3, 2), "of another iteration": (2, 1, None)}


def entries(run, to):
    from reportd_client.spool import Follower

    for found in Follower(run.spool.folder).poll():
        if found.record["kind"] == "add" and found.record["to"] == to:
            yield found.record["ref"], found.record["entry"]


# --- limits ---


@pytest.mark.parametrize("to", ["steps", "console_logs"])
def test_what_is_too_much_is_cut_and_said(record, monkeypatch, to):
    monkeypatch.setitem(MOST, to, 5)
    with record(sender="none") as run, run.test("t") as test:
        for i in range(10):
            with test.step(str(i)):
                test.console("info", str(i))
    notes = [e["message"] for _, e in entries(run, "console_logs") if e["level"] == "warning"]
    assert notes == [f"More than 5 {to.replace('_', ' ')}: the others were not kept"]
    assert len([e for _, e in entries(run, to) if e.get("level") != "warning"]) == 5


def test_the_bytes_of_a_test_are_limited(record):
    with record(sender="none") as run, run.test("t") as test:
        for _ in range(200):
            test.console("info", "x" * 100_000)
    (size,) = [path.stat().st_size for path in run.spool.folder.glob("w-*")]
    assert 8 << 20 < size < 9 << 20


def test_long_texts_are_cut_and_long_titles_are_whole_in_the_description(record, server):
    with record() as run, run.test("n" * 2000) as test:
        with test.step("x" * 300, input_value="y" * 100_000) as s:
            s.fail("z" * 100_000)
    (test,) = server.run(run.receipt.run_id)["tests"]
    (step,) = test["steps"]
    assert len(test["name"]) == 500
    assert (len(step["action"]), step["description"]) == (100, "x" * 300)
    assert len(step["input_value"]) == len(step["error_message"]) == 65536


def test_odd_texts_arrive(record, server):
    with record() as run, run.test("a\0b\ud83d ü 😀") as test:
        test.console("log", "\x1b[31mred\x1b[0m \ud83d")
        test.network("", "", status_code=None)
    (test,) = server.run(run.receipt.run_id)["tests"]
    assert "ü 😀" in test["name"] and len(test["console"]) == 1 and len(test["network"]) == 1


# --- nothing of it may disturb a test ---


def test_without_an_address_nothing_is_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(ReportdWarning, match="REPORTD_URL is not set"), reportd.run() as run:
        with run.test("t") as test, test.step("s") as s:
            s.screenshot(b"x")
            test.console("info", "x")
    assert list(tmp_path.iterdir()) == [] and run.receipt is None


@pytest.mark.parametrize("setting", ["REPORTD_URL=ftp://x", "REPORTD_DRAIN=soon", "REPORTD_SENDER=x", "REPORTD_MASK=("])
def test_a_wrong_setting_is_said_and_stops_nothing(setting, monkeypatch):
    monkeypatch.setenv("REPORTD_URL", "http://127.0.0.1:1")
    monkeypatch.setenv(*setting.split("="))
    with pytest.warns(ReportdWarning, match=setting.split("=")[0]), reportd.run() as run, run.test("t"):
        pass
    monkeypatch.setenv("REPORTD_STRICT", "1")
    with pytest.raises(ValueError, match=setting.split("=")[0]):
        reportd.run()


def wrong_calls(test):
    test.set_status("green")
    test.attach(b"x", "x.bin", type="picture")
    test.attach(b"x", "y.bin", category="middle")
    test.iteration(0)
    with test.step("s") as s:
        s.set(status="red")


def test_wrong_arguments_are_corrected_and_said(record, server, said):
    with record() as run, run.test("t") as test:
        wrong_calls(test)
    (found,) = server.run(run.receipt.run_id)["tests"]
    assert found["status"] == "Pending" and len(found["artifacts"]) == 2
    assert [text.split(" ", 3)[0] for text in said] == ["status", "type", "category", "iteration()", "status"]


@pytest.mark.parametrize(
    "call",
    [
        lambda test: test.set_status("green"),
        lambda test: test.attach(b"x", type="picture"),
        lambda test: test.iteration("1"),
        lambda test: test.screenshot(object()),
    ],
)
def test_wrong_arguments_raise_when_strict(record, call):
    with record(sender="none", strict=True) as run, run.test("t") as test:
        with pytest.raises((ValueError, TypeError)):
            call(test)


def test_objects_that_raise_are_harmless(record, server, said):
    class Odd:
        def __str__(self):
            raise RuntimeError("no text")

        def screenshot(self, timeout):
            raise TimeoutError("the browser is gone")

    with record() as run, run.test("t", metadata={"odd": Odd}) as test:
        test.console("info", Odd())
        test.checkpoint(Odd())
        test.screenshot(Odd())
        test.attach(None)
        with test.step(Odd()):
            pass
    (found,) = server.run(run.receipt.run_id)["tests"]
    assert found["status"] == "Passed"
    assert any("the browser is gone" in text for text in said)


def test_a_spool_that_cannot_be_made_is_said(record, tmp_path, said):
    (tmp_path / "file").write_text("")
    with record(spool=tmp_path / "file") as run, run.test("t"):
        pass
    assert "Nothing is recorded" in said[0]


def test_warnings_that_are_errors_stop_no_test(tmp_path):
    code = "import reportd_client as r\nwith r.run() as run, run.test('t'): print('ran')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={},
    )
    assert done.stdout == "ran\n" and "REPORTD_URL is not set" in done.stderr


def test_a_forked_child_writes_nothing_to_the_test_of_its_parent(record, server):
    import os

    with record() as run, run.test("t") as test:
        child = os.fork()
        if child == 0:
            with test.step("of the child"):
                test.console("info", "child")
            test.end()
            os._exit(0)
        os.waitpid(child, 0)
        with test.step("of the parent"):
            pass
    (found,) = server.run(run.receipt.run_id)["tests"]
    assert [s["action"] for s in found["steps"]] == ["of the parent"] and found["console"] == []


def test_frozen_clocks_and_a_fake_file_system_change_nothing(record, server):
    import freezegun

    with record() as run:
        with freezegun.freeze_time("2001-01-01"), run.test("t") as test, test.step("s"):
            test.console("info", "x")
    (found,) = server.run(run.receipt.run_id)["tests"]
    assert found["started_at"] > "2026" and found["steps"][0]["started_at"] > "2026"
    assert found["console"][0]["logged_at"] > "2026" and found["duration_ms"] < 60_000


# --- what is imported and installed ---


def test_no_module_hides_a_function_of_the_package():
    """`import reportd_client.run` would replace the function `run`, which is looked up when it is first used."""
    from pathlib import Path

    modules = {path.stem for path in Path(PACKAGE, "reportd_client").iterdir()}
    assert not modules & set(reportd.__all__)


def test_importing_the_library_imports_no_http_library():
    done = python(
        "import sys, reportd_client; reportd_client.run; print(*sorted(m for m in sys.modules if '.' not in m))"
    )
    names = done.stdout.split()
    assert not {"urllib3", "defusedxml", "requests", "http", "ssl", "pytest"} & set(names), names


def test_the_client_imports_nothing_of_the_server():
    import ast
    from pathlib import Path

    for path in Path(PACKAGE, "reportd_client").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.partition(".")[0] == "server" for name in names), path


def test_functions_are_short_and_files_are_not_long():
    import ast
    from pathlib import Path

    for path in Path(PACKAGE, "reportd_client").rglob("*.py"):
        text = path.read_text("utf-8")
        assert text.count("\n") <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


def test_the_token_is_nowhere_in_the_spool(record, server):
    with record(sender="none") as run, run.test("t") as test:
        test.console("info", "x")
    files = [path for path in run.spool.folder.rglob("*") if path.is_file()]
    assert files and not any(server.token.encode() in path.read_bytes() for path in files)
    assert Spool.open(run.spool.folder).about["url"].startswith(server.url)
    assert server.token not in repr(run.settings)
