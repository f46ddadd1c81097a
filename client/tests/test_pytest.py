"""The pytest plugin, read back from a real server and compared with pytest's own outcomes."""

import json
import re
import signal
import subprocess
import sys

import pytest
from reportd_client.spool import spools_in

from tests.images import png
from tests.server import CLEAN, PATIENCE, free_port, wait_until
from tests.test_process import command, senders, wait_for_senders

SUITE = """
import logging, sys, unittest
import pytest
import reportd_client as reportd

def test_passes():
    print("hello")
    print("careful", file=sys.stderr)
    logging.getLogger("shop").warning("low stock %d", 3)
    with reportd.step("Open the cart"), reportd.step("Wait"):
        pass

def test_fails():
    with reportd.step("Click"):
        assert 1 + 1 == 3, "sums"

@pytest.mark.smoke
@pytest.mark.parametrize("n", [1, "a b"])
def test_parameters(n, record_property):
    record_property("ticket", "SHOP-1")

@pytest.mark.skip(reason="no browser")
def test_skipped(): pass

def test_skips_itself():
    with reportd.step("Look"):
        pytest.skip("not here")

@pytest.mark.xfail(reason="known")
def test_xfail(): raise ValueError("old bug")

@pytest.mark.xfail(reason="known")
def test_xpass(): pass

@pytest.mark.xfail(strict=True, reason="must fail")
def test_xpass_strict(): pass

@pytest.fixture
def broken():
    raise RuntimeError("no database")

def test_setup_fails(broken): pass

@pytest.fixture
def leaks():
    with reportd.step("Make a cart"):
        pass
    yield
    raise RuntimeError("cannot remove")

def test_teardown_fails(leaks): pass

class TestUnit(unittest.TestCase):
    def test_subtests(self):
        for i in range(2):
            with self.subTest("row", i=i):
                self.assertEqual(i, 0)

def test_subtests(subtests):
    for i in range(3):
        with subtests.test("row", i=i):
            with reportd.step(f"Check {i}"):
                assert i != 1
"""
OUTCOMES = {
    "test_passes": "Passed",
    "test_fails": "Failed",
    "test_parameters[1]": "Passed",
    "test_parameters[a b]": "Passed",
    "test_skipped": "Skipped",
    "test_skips_itself": "Skipped",
    "test_xfail": "Skipped",
    "test_xpass": "Passed",
    "test_xpass_strict": "Failed",
    "test_setup_fails": "Failed",
    "test_teardown_fails": "Failed",
    "TestUnit::test_subtests": "Failed",
    "test_subtests": "Failed",
}


@pytest.fixture
def report(pytester, server, monkeypatch):
    """Runs pytest with a report: the result, and the run with its tests by name."""
    monkeypatch.setenv("REPORTD_TOKEN", server.token)
    pytester.makeini("[pytest]\nmarkers = smoke\naddopts = -p no:pytest-bdd -p no:cacheprovider")

    def make(*arguments, url=None):
        result = pytester.runpytest_subprocess(f"--reportd={url or server.url}", *map(str, arguments))
        found = re.search(r"/runs/([0-9a-f-]+)", result.stdout.str())
        run = server.run(found[1]) if found else None
        if run:
            run["by_name"] = {test["name"]: test for test in run["tests"]}
        return result, run

    return make


def check_suite(run):
    tests = run["by_name"]
    assert len(run["tests"]) == len(OUTCOMES)
    assert {name: test["status"] for name, test in tests.items()} == OUTCOMES
    assert run["status"] == "Failed" and run["metadata"]["expected_tests"] == len(OUTCOMES)
    passes = tests["test_passes"]
    assert passes["test_id"] == "test_suite.py::test_passes" and passes["duration_ms"] >= 0
    console = {(e["level"], e["message"]) for e in passes["console"]}
    assert console == {("info", "hello"), ("warning", "careful"), ("warning", "low stock 3")}
    (logged,) = [e for e in passes["console"] if e["message"] == "low stock 3"]
    assert re.fullmatch(r"shop .*test_suite\.py:\d+", logged["source_url"])
    assert [s["action"] for s in passes["steps"]] == ["Open the cart", "Wait"]
    fails = tests["test_fails"]
    assert fails["error_type"] == "AssertionError" and fails["error_message"].startswith("sums")
    assert "assert 1 + 1 == 3" in fails["stack_trace"] and fails["steps"][0]["status"] == "Failed"
    with_parameters = tests["test_parameters[a b]"]
    assert with_parameters["tags"] == ["smoke"]
    assert with_parameters["metadata"] == {"parameters": {"n": "'a b'"}, "properties": {"ticket": "SHOP-1"}}
    assert tests["test_skipped"]["error_message"] == "no browser"
    itself = tests["test_skips_itself"]
    assert (itself["error_message"], itself["steps"][0]["status"]) == ("not here", "Skipped")
    xfail = tests["test_xfail"]
    assert xfail["error_message"] == "known" and xfail["metadata"]["outcome"] == "xfailed"
    assert xfail["metadata"]["expected_error"] == "ValueError: old bug"
    assert tests["test_xpass"]["metadata"]["outcome"] == "xpassed"
    assert "XPASS(strict)" in tests["test_xpass_strict"]["error_message"]
    setup = tests["test_setup_fails"]
    assert (setup["error_message"], setup["metadata"]["phase"]) == ("no database", "setup")
    assert [(s["action"], s["status"]) for s in setup["steps"]] == [("setup", "Failed")]
    teardown = tests["test_teardown_fails"]
    assert (teardown["error_message"], teardown["metadata"]["phase"]) == ("cannot remove", "teardown")
    steps = [(s["action"], s["status"]) for s in teardown["steps"]]
    assert steps == [("setup", "Passed"), ("Make a cart", "Passed"), ("teardown", "Failed")]
    unit = tests["TestUnit::test_subtests"]
    assert [(s["action"], s["status"]) for s in unit["steps"]][-1] == ("row (i=1)", "Failed")
    subtests = tests["test_subtests"]
    assert subtests["error_message"] == "contains 1 failed subtest"
    assert [(s["action"], s["status"]) for s in subtests["steps"]] == [
        ("row (i=0)", "Passed"),
        ("Check 0", "Passed"),
        ("row (i=1)", "Failed"),
        ("Check 1", "Failed"),
        ("row (i=2)", "Passed"),
        ("Check 2", "Passed"),
    ]


def test_every_outcome(report, pytester):
    pytester.makepyfile(test_suite=SUITE)
    result, run = report()
    assert result.ret == 1
    check_suite(run)
    assert re.search(rf"reportd: {len(OUTCOMES)} tests, 0 files \(0 new\) sent in [\d.]+ s · http", result.stdout.str())
    assert not list(pytester.path.rglob("run.json"))


def test_every_outcome_with_workers(report, pytester):
    pytester.makepyfile(test_suite=SUITE)
    result, run = report("-n", 2)
    assert result.ret == 1
    check_suite(run)


def test_without_the_option_nothing_changes(pytester, monkeypatch):
    pytester.makeini("[pytest]\nmarkers = smoke")
    pytester.makepyfile(test_suite=SUITE)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    outputs = []
    for arguments in ((), ("-p", "no:reportd")):
        result = pytester.runpytest_subprocess(*arguments, "-p", "no:cacheprovider", "-vv", "-p", "no:xdist")
        text = re.sub(r"in [\d.]+s|plugins: .*|0x[0-9a-f]+|[0-9a-f]{8,}", "", result.stdout.str())
        outputs.append((result.ret, text))
    assert outputs[0][0] == outputs[1][0]
    assert set(outputs[0][1].splitlines()) - set(outputs[1][1].splitlines()) == set()


def test_without_the_option_only_the_options_are_imported(pytester):
    pytester.makepyfile("import sys\ndef test_x(): print(sorted(m for m in sys.modules if 'reportd' in m))")
    done = pytester.runpytest_subprocess("-s")
    (line,) = [line for line in done.outlines if "reportd_client" in line]
    names = re.findall(r"'(reportd_client[\w.]*)'", line)
    assert names == ["reportd_client", "reportd_client.pytest_plugin", "reportd_client.version"]


def test_the_test_process_imports_no_http_library(report, pytester):
    pytester.makepyfile("import sys\ndef test_x(): assert not {'urllib3', 'http.client', 'ssl'} & set(sys.modules)")
    result, _ = report("-p", "no:playwright", "-p", "no:vcr", "-p", "no:socket")
    assert result.ret == 0, result.stdout.str()


def test_reruns_are_attempts(report, pytester):
    pytester.makepyfile(
        test_flaky="""
        import reportd_client as reportd
        count = []
        def test_flaky():
            count.append(1)
            print(f"attempt {len(count)}")
            with reportd.step("Try") as s:
                s.screenshot(bytes.fromhex("IMAGE"))
            assert len(count) == 3, f"number {len(count)}"
        def test_stable(): pass
        """.replace("IMAGE", png(7).hex())
    )
    result, run = report("--reruns", 2)
    assert result.ret == 0 and run["status"] == "Passed"
    attempts = [test for test in run["tests"] if test["name"] == "test_flaky"]
    assert [(t["attempt"], t["status"]) for t in attempts] == [(1, "Failed"), (2, "Failed"), (3, "Passed")]
    assert [(t["error_message"] or "").split("\n")[0] for t in attempts] == ["number 1", "number 2", ""]
    assert [[e["message"] for e in t["console"]] for t in attempts] == [[f"attempt {n}"] for n in (1, 2, 3)]
    assert all(len(t["artifacts"]) == 1 and t["steps"][0]["screenshot"] for t in attempts)


def test_a_killed_worker(report, pytester):
    pytester.makepyfile(
        test_crash="""
        import os, signal, pytest
        import reportd_client as reportd
        @pytest.mark.parametrize("n", range(6))
        def test_n(n):
            with reportd.step("Before"):
                pass
            if n == 2:
                os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    result, run = report("-n", 2)
    assert result.ret == 1
    statuses = {name: test["status"] for name, test in run["by_name"].items()}
    assert statuses == {f"test_n[{n}]": "Failed" if n == 2 else "Passed" for n in range(6)}
    crashed = run["by_name"]["test_n[2]"]
    assert "crashed while running" in crashed["error_message"] and "gw" in crashed["error_message"]
    assert [step["action"] for step in crashed["steps"]] == ["Before"]


def test_pytest_killed_and_resumed(pytester, server):
    pytester.makepyfile(
        test_kill="""
        import os, signal, pytest
        @pytest.mark.parametrize("n", range(5))
        def test_n(n):
            if n == 3: os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    settings = {**CLEAN, "REPORTD_URL": server.url, "REPORTD_TOKEN": server.token, "REPORTD_SPOOL": "spool"}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=pytester.path, env=settings, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    (folder,) = spools_in(pytester.path / "spool")
    wait_for_senders(folder)
    assert command("resume", folder, **settings).returncode == 0
    run = next(run for run in server.runs() if run["name"] == pytester.path.name)
    statuses = sorted((t["name"], t["status"]) for t in server.cases(run["id"]))
    assert statuses == [
        ("test_n[0]", "Passed"),
        ("test_n[1]", "Passed"),
        ("test_n[2]", "Passed"),
        ("test_n[3]", "Pending"),
    ]


@pytest.mark.parametrize(
    ("name", "body", "arguments"),
    [
        ("exitfirst", "def test_a(): assert 0\ndef test_b(): pass", ["-x"]),
        ("exit", "import pytest\n@pytest.fixture\ndef f(): pytest.exit('stop')\ndef test_a(f): pass", []),
        ("interrupt", "def test_a(): raise KeyboardInterrupt\ndef test_b(): pass", []),
        ("collection", "import nothing_like_this\n", []),
        ("empty", "", []),
    ],
)
def test_sessions_that_end_early_end(report, pytester, name, body, arguments):
    pytester.makepyfile(body)
    result, run = report(*arguments)
    assert run is not None and run["finished_at"] is not None, result.stdout.str()
    assert re.search(r"reportd: \d tests?, 0 files \(0 new\) sent in ", result.stdout.str())
    if name == "exitfirst":
        assert len(run["tests"]) == 1 and run["metadata"]["expected_tests"] == 2
    if name == "interrupt":
        assert run["metadata"]["interrupted"] == "KeyboardInterrupt"
    if name in ("interrupt", "exit"):
        assert run["status"] == "Failed"


def test_an_internal_error_ends(report, pytester):
    pytester.makeconftest("def pytest_runtest_logfinish(): raise RuntimeError('plugin broken')")
    pytester.makepyfile("def test_a(): pass")
    result, run = report()
    assert result.ret == 3 and run["status"] == "Failed"
    assert "plugin broken" in run["metadata"]["internal_error"]


def test_a_server_that_is_down_changes_nothing(pytester, server, monkeypatch):
    monkeypatch.setenv("REPORTD_TOKEN", server.token)
    pytester.makepyfile("def test_a(): pass")
    result = pytester.runpytest_subprocess(f"--reportd=http://127.0.0.1:{free_port()}", "--reportd-spool=spool")
    assert result.ret == 0
    (line,) = [line for line in result.outlines if "reportd: " in line]
    assert "cannot be reached" in line and "Send it with: reportd-send resume" in line
    resumed = command("resume", line.split()[-1], REPORTD_URL=server.url, REPORTD_TOKEN=server.token)
    assert resumed.returncode == 0
    (case,) = server.cases(re.search(r"/runs/(\S+)", resumed.stdout)[1])
    assert case["status"] == "Passed"


def test_strict_fails_a_session_whose_report_is_not_complete(pytester, report):
    pytester.makepyfile("def test_a(): pass")
    assert report("--reportd-strict")[0].ret == 0
    assert pytester.runpytest_subprocess("--reportd=http://127.0.0.1:1", "--reportd-strict").ret == 1


def test_options_and_configuration_file(report, pytester):
    pytester.makeini(
        """
        [pytest]
        addopts = -p no:cacheprovider
        reportd_name = from the file
        reportd_tag =
            nightly
            linux
        reportd_output = failed
        reportd_log_level = ERROR
        """
    )
    pytester.makepyfile("import logging\ndef test_a():\n print('x')\n logging.warning('w')\n logging.error('e')")
    _, run = report("--reportd-run-key=build-1")
    assert (run["name"], run["tags"]) == ("from the file", ["nightly", "linux"])
    assert [e["message"] for e in run["tests"][0]["console"]] == ["e"]
    _, again = report("--reportd-run-key=build-1", "--reportd-name=option")
    assert again["id"] == run["id"] and len(again["tests"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--reportd", "tests"], "'tests' is no address"),
        (["--reportd-screenshots=some"], "invalid choice"),
        (["--reportd=http://x", "--reportd-log-level=LOUD"], "reportd_log_level must be a level"),
    ],
)
def test_wrong_options_are_named(pytester, arguments, words):
    result = pytester.runpytest_subprocess(*arguments)
    assert result.ret == 4 and words in result.stderr.str() + result.stdout.str()


def test_much_output_is_bounded_and_whole_in_a_file(report, pytester, server):
    pytester.makepyfile("def test_a():\n for i in range(3000): print('line', i)")
    _, run = report()
    (test,) = run["tests"]
    assert server.get(f"/test-case-results/{test['id']}/console-logs")["total"] == 1000
    (file,) = test["artifacts"]
    assert file["file_name"] == "output.log" and b"line 2999" in server.bytes_of(file)


def test_files_that_properties_name_are_sent(report, pytester, server):
    (pytester.path / "shot.png").write_bytes(png(5))
    pytester.makepyfile(
        """
        def test_a(record_property):
            record_property("final screenshot", "shot.png")
            record_property("trace", "no.zip")
        """
    )
    _, run = report()
    (file,) = run["tests"][0]["artifacts"]
    assert server.bytes_of(file) == png(5) and file["artifact_type"] == "screenshot"


def test_the_same_id_twice_overwrites_nothing(report, pytester):
    pytester.makepyfile(test_twice="def test_a(): pass")
    _, run = report("test_twice.py", "test_twice.py", "--keep-duplicates")
    assert [(t["test_id"], t["attempt"]) for t in run["tests"]] == [
        ("test_twice.py::test_a", 1),
        ("test_twice.py::test_a #2", 1),
    ]


HOSTILE = """
import gevent.monkey
import os, socket, sys, urllib3, logging
import pytest, responses, vcr
from freezegun import freeze_time

@freeze_time("2001-01-01")
def test_frozen(): logging.warning("frozen")

def test_socket(socket_disabled):
    with pytest.raises(Exception):
        socket.socket()

@responses.activate
def test_responses():
    import requests
    responses.get("http://shop.example/", body="x")
    assert requests.get("http://shop.example/").text == "x"

def test_vcr(tmp_path_factory):
    with vcr.use_cassette(os.environ["CASSETTE"], record_mode="all"):
        pass
    assert not os.path.exists(os.environ["CASSETTE"])

def test_fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)

def test_urllib3_logs():
    for i in range(200):
        logging.getLogger("urllib3.connectionpool").warning("Retrying %d", i)

def test_closes_everything():
    logging.getLogger().handlers.clear()

def test_gevent():
    gevent.monkey.patch_all()

def test_after_gevent(): logging.warning("after")
"""


def test_tests_that_replace_clocks_sockets_and_http_libraries(report, pytester, monkeypatch):
    monkeypatch.setenv("CASSETTE", str(pytester.path / "cassette.yaml"))
    pytester.makepyfile(HOSTILE)
    result, run = report()
    assert result.ret == 0, result.stdout.str()
    assert {t["status"] for t in run["tests"]} == {"Passed"} and len(run["tests"]) == 9
    assert all(t["started_at"] > "2026" for t in run["tests"])
    assert len(run["by_name"]["test_urllib3_logs"]["console"]) == 200


def test_no_process_is_left(report, pytester):
    pytester.makepyfile("def test_a(): pass")
    result, _ = report()
    assert result.ret == 0
    assert not [line for line in senders() if str(pytester.path) in line]


def test_bdd_steps_are_steps(report, pytester):
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider")
    (pytester.path / "shop.feature").write_text("Feature: shop\n  Scenario: buy\n    Given a cart\n    When I pay\n")
    pytester.makepyfile(
        """
        from pytest_bdd import scenarios, given, when
        scenarios("shop.feature")
        @given("a cart")
        def cart(): pass
        @when("I pay")
        def pay(): assert 0, "no money"
        """
    )
    _, run = report()
    steps = [(s["action"], s["status"]) for s in run["tests"][0]["steps"]]
    assert steps == [("Given a cart", "Passed"), ("When I pay", "Failed")]


def test_the_token_is_in_no_output(report, pytester, server):
    pytester.makepyfile("def test_a(): pass")
    result, run = report("-vv")
    assert server.token not in result.stdout.str() + result.stderr.str() + json.dumps(run)


def test_ctrl_c_twice_ends(pytester, server, proxy):
    """The second interrupt comes while the plugin waits for the sender, whose server is busy for longer than a test
    has time."""
    proxy.script = lambda method, path: 503 if path.startswith("/suite-runs/") else None
    pytester.makepyfile(f"import time\ndef test_a(): time.sleep({10 * PATIENCE})")
    settings = {**CLEAN, "REPORTD_URL": proxy.url, "REPORTD_TOKEN": server.token}
    settings["REPORTD_DRAIN"] = str(10 * PATIENCE)

    def is_written(record):
        return any(record in path.read_bytes() for path in pytester.path.rglob("w-*.jsonl"))

    process = subprocess.Popen(
        [sys.executable, "-m", "pytest"],
        cwd=pytester.path,
        env=settings,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        wait_until(lambda: is_written(b'"kind":"begin"'))
        process.send_signal(signal.SIGINT)
        wait_until(lambda: is_written(b'"kind":"end"') and ("GET", "/limits") in proxy.seen)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode != 0 and out.count(b"Interrupted while sending") == 1, out
    (folder,) = [path.parent for path in pytester.path.rglob("run.json")]
    (folder / "stop").touch()
    wait_for_senders(folder)


LEAKS = """
import logging, os
import pytest
import reportd_client as reportd

TOKEN = os.environ["REPORTD_TOKEN"]

@pytest.mark.parametrize("value", [TOKEN])
@pytest.mark.parametrize("lines", [1, 3000])
def test_leaks(value, lines, record_property):
    record_property("environment", str(dict(os.environ)))
    with reportd.step("Type it", selector="#password", input_value="hunter2"):
        pass
    with reportd.step(f"Fill {TOKEN}", input_value=TOKEN, expected=TOKEN):
        for line in range(lines):
            print(TOKEN, "hunter2")
    logging.getLogger("x").error("sent %s and %s", TOKEN, "hunter2")
    test = reportd.current_test()
    test.network("GET", f"https://x/{TOKEN}", request_headers={"Authorization": TOKEN, "X-Sent": TOKEN})
    test.checkpoint("header", expected=TOKEN, actual=f"Bearer {TOKEN}")
    raise ValueError(f"401 for {TOKEN} hunter2")
"""


def test_a_test_that_prints_its_environment_tells_no_token_and_no_password(report, pytester, server):
    pytester.makepyfile(LEAKS)
    away = f"http://127.0.0.1:{free_port()}"
    options = ("--reportd-drain", "0", "--reportd-spool", "spool", "--show-capture", "no")
    result, _ = report(*options, url=away)
    assert result.ret == 1
    (folder,) = spools_in(pytester.path / "spool")
    kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"[redacted]" in kept and server.token.encode() not in kept and b"hunter2" not in kept
    done = command("resume", folder, REPORTD_URL=server.url, REPORTD_TOKEN=server.token)
    assert done.returncode == 0, done.stderr
    run = server.run(re.search(r"/runs/([0-9a-f-]+)", done.stdout)[1])
    assert len(run["tests"]) == 2 and server.token not in str(run) and "hunter2" not in str(run)
    assert [file["file_name"] for test in run["tests"] for file in test["artifacts"]] == ["output.log"]
