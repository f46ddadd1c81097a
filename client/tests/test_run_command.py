"""`reportd-send run -- COMMAND`: the command is as without it, and its reports arrive in one run."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import uuid
from contextlib import contextmanager, suppress

import pytest
from reportd_client.cli import main
from reportd_client.spool import spools_in

from tests.server import CLEAN, PATIENCE, free_port, wait_until
from tests.test_process import command, wait_for_senders

PYTHON = sys.executable


@pytest.fixture
def run(server, tmp_path, monkeypatch, capfd):
    """Runs `reportd-send run` in this process, with a sender in a thread: code, output, messages."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"URL": server.url, "TOKEN": server.token, "SENDER": "thread", "SPOOL": "spool"}.items():
        monkeypatch.setenv(f"REPORTD_{name}", value)

    def work(*arguments, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main(["run", *map(str, arguments)])
        said = capfd.readouterr()
        return int(ended.value.code), said.out, said.err

    return work


def write(path, *names, status="Passed"):
    """Python code that writes a result.json with a test of each name."""
    tests = [{"steps": [], "test": {"name": name, "status": status}} for name in names]
    return f"import pathlib; pathlib.Path({str(path)!r}).write_text({json.dumps(tests)!r})"


def run_of(server, said):
    return server.run(re.search(r"/runs/([0-9a-f-]+)", said)[1])


def test_what_the_command_writes_is_sent_to_a_run_in_which_others_meet(run, server, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.json").write_text('{"steps": [], "test": {"name": "old"}}')
    (tmp_path / "out" / "again.json").write_text('{"steps": [], "test": {"name": "before"}}')
    inner = "import reportd_client as r\nwith r.run() as run, run.test('inner'): pass\n"
    code = f"{inner}\n{write('out/new.json', 'a', 'b')}\n{write('out/again.json', 'again')}\nprint('said')"
    result, out, err = run("--name", "nightly", "--tag", "x", "--collect", "out", "--", PYTHON, "-c", code)
    assert (result, out) == (0, "said\n"), err
    found = run_of(server, err)
    assert sorted(test["name"] for test in found["tests"]) == ["a", "again", "b", "inner"]
    assert (found["name"], found["status"], bool(found["finished_at"])) == ("nightly", "Passed", True)
    assert not spools_in(tmp_path / "spool")


def test_the_run_is_that_of_the_key(run, server):
    key = f"build-{uuid.uuid4()}"
    code = "import os; print(os.environ['REPORTD_RUN_KEY'], os.environ['REPORTD_BRANCH'])"
    result, out, err = run("--run-key", key, "--branch", "dev", "--quiet", "--", PYTHON, "-c", code)
    assert (result, out, err) == (0, f"{key} dev\n", "")
    (found,) = [each for each in server.runs() if each["run_key"] == key]
    assert (found["branch"], found["status"]) == ("dev", "Passed")


def test_what_a_reporter_in_it_has_said_stays_said(run, server):
    """How many tests it has, and the shard."""
    inner = "import reportd_client as r\nwith r.run(tests_expected=5) as run, run.test('inner'): pass\n"
    code, _, err = run("--collect", "*.json", "--", PYTHON, "-c", f"{inner}{write('result.json', 'a')}")
    found = run_of(server, err)
    assert (code, found["status"], len(found["tests"])) == (0, "Passed", 2)
    assert server.get(f"/suite-runs/{found['id']}/completeness")["tests_expected"] == 5
    code, _, err = run("--run-key", uuid.uuid4(), "--shard", "2/3", "--", PYTHON, "-c", f"{inner}raise SystemExit(2)")
    found = run_of(server, err)
    said = server.get(f"/suite-runs/{found['id']}/completeness")
    assert (code, found["status"], said["tests_expected"]) == (2, "Running", 5)
    assert (said["shards"]["finished"], said["shards"]["silent"]) == (1, [1, 3])


def test_a_shard_whose_reports_are_collected(run, server):
    key = uuid.uuid4()
    for index, (names, ends) in enumerate([("ab", "pass"), ("c", "raise SystemExit(1)")], 1):
        code = f"{write('result.json', *names)}\n{ends}"
        _, _, err = run("--run-key", key, "--shard", f"{index}/2", "--collect", "*.json", "--", PYTHON, "-c", code)
    found = run_of(server, err)
    said = server.get(f"/suite-runs/{found['id']}/completeness")
    assert (found["status"], said["complete"], said["tests_expected"]) == ("Failed", True, 3)
    assert run("--shard", "5/2", "--", PYTHON, "-c", "")[0] == 1


@pytest.mark.parametrize(
    ("ends", "code"),
    [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 137), ("os.kill(os.getpid(), 15)", 143), ("1 / 0", 1)],
)
def test_the_code_is_that_of_the_command(run, server, ends, code):
    """Also when its tests passed; the run is then Failed."""
    written = write("result.json", "a")
    result, _, err = run("--collect", "*.json", "--", PYTHON, "-c", f"import os, sys\n{written}\n{ends}")
    found = run_of(server, err)
    assert (result, found["status"], len(found["tests"])) == (code, "Failed", 1)


def test_what_a_report_says_of_the_run(run, server):
    """An error outside of tests, in a report without any."""
    config = {"rootDir": "/nowhere", "version": "1.50.0", "projects": []}
    report = json.dumps({"config": config, "suites": [], "errors": [{"message": "no setup"}], "stats": {}})
    _, _, err = run("--collect", "*.json", "--", PYTHON, "-c", f"open('report.json', 'w').write({report!r})")
    found = run_of(server, err)
    assert (found["status"], found["tests"]) == ("Failed", []) and "wrote no report" not in err, err
    assert "no setup" in json.dumps(found["metadata"])
    report = json.dumps({"suite": {"metadata": {"self": 1, "team": "shop"}}, "steps": []})
    _, _, err = run("--collect", "r.json", "--", PYTHON, "-c", f"open('r.json', 'w').write({report!r})")
    assert run_of(server, err)["metadata"]["team"] == "shop"


def test_a_fault_while_sending_does_not_hide_the_code_of_the_command(run, server, monkeypatch):
    monkeypatch.setattr("reportd_client.commands.run.record", lambda *given: 1 / 0)
    for ends, code in (("", 5), ("raise SystemExit(3)", 3)):
        result, _, err = run("--collect", "*.json", "--", PYTHON, "-c", ends)
        assert result == code and "Sending failed: ZeroDivisionError" in err


def test_failed_tests_of_a_command_that_passes(run, server):
    result, _, err = run("--collect", "*.json", "--", PYTHON, "-c", write("result.json", "a", status="Failed"))
    assert (result, run_of(server, err)["status"]) == (0, "Failed")


@pytest.mark.parametrize(
    ("code", "expected", "words"),
    [
        ("pass", 2, "There is no *.json"),
        ("open('a.json', 'w').write('[]')", 2, "is empty: it has no test"),
        ("open('a.json', 'w').write('{}')", 3, "it needs an object with a list `steps`"),
        ("open('a.json', 'w').write('{\"steps\": [1]}')", 4, "step 1 is no object"),
        ("raise SystemExit(7)", 7, "There is no *.json"),
    ],
)
def test_its_own_code_counts_when_the_command_passed(run, code, expected, words):
    result, _, err = run("--collect", "*.json", "--", PYTHON, "-c", code)
    assert result == expected and words in err, err
    if expected != 7:
        assert run("--collect", "*.json", "--fail-on", "never", "--", PYTHON, "-c", code)[0] == 0


def test_reports_that_the_command_did_not_write_are_not_sent(run, tmp_path):
    (tmp_path / "old.json").write_text('{"steps": [], "test": {"name": "old"}}')
    code, _, err = run("--collect", "*.json", "--", PYTHON, "-c", "")
    assert code == 2 and "The command wrote no report that --collect finds" in err and "0 tests" in err


def test_the_server_is_down(run, server, tmp_path):
    down = f"http://127.0.0.1:{free_port()}"
    written = write("result.json", "a")
    code, _, err = run("--collect", "*.json", "--", PYTHON, "-c", f"{written}\nraise SystemExit(9)", REPORTD_URL=down)
    assert code == 9 and "reportd-send resume" in err
    (folder,) = spools_in(tmp_path / "spool")
    assert run("--", PYTHON, "-c", "")[0] == 5
    resumed = command("resume", folder, REPORTD_URL=server.url, REPORTD_TOKEN=server.token)
    assert resumed.returncode == 0 and "1 test," in resumed.stdout


@pytest.mark.parametrize(
    ("environment", "code", "words"),
    [
        ({"REPORTD_URL": ""}, 0, "REPORTD_URL is not set: nothing is recorded"),
        ({"REPORTD_URL": "nowhere"}, 1, "REPORTD_URL must be an address"),
        ({"REPORTD_TOKEN": "", "REPORTD_TOKEN_FILE": "/nowhere"}, 1, "Cannot read REPORTD_TOKEN_FILE"),
        ({"REPORTD_TOKEN": "rpt_wrong_0123456789"}, 6, "does not accept the token rpt_wron…"),
        ({"REPORTD_SPOOL": "/dev/null/spool"}, 5, "Cannot write to the spool"),
    ],
)
def test_the_command_runs_whatever_is_wrong_with_the_settings(run, environment, code, words):
    result, out, err = run("--", PYTHON, "-c", "print('ran')", **environment)
    assert (result, out) == (code, "ran\n") and err.count(words) == 1, err


def test_a_command_that_cannot_be_run(run, server, tmp_path):
    (tmp_path / "script").write_text("no interpreter line")
    (tmp_path / "broken").write_text("#!/nowhere/python\n")
    (tmp_path / "broken").chmod(0o755)
    before = [each["id"] for each in server.runs()]  # the newest
    assert run("--", "no-such-command-at-all")[0] == 127
    assert run("--", "./nowhere")[0] == 127
    assert run("--", "./script")[0] == 126
    assert run("--", "/etc")[0] == 126
    assert [each["id"] for each in server.runs()] == before
    code, _, err = run("--", "./broken")
    assert code == 126 and "./broken: No such file or directory" in err
    assert run_of(server, err)["status"] == "Failed"


def test_wrong_usage(run):
    assert run("pytest", "-q")[0] == 1 and run()[0] == 1 and run("--")[0] == 1
    assert "Write the command behind --" in run("--quiet")[2]


# --- signals and output, in a process of its own ---

_LISTENS = """
import signal, sys
def heard(number, frame):
    print(signal.Signals(number).name, flush=True)
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGQUIT"):
    if signal.getsignal(getattr(signal, name)) != signal.SIG_IGN:
        signal.signal(getattr(signal, name), heard)
print("listens", flush=True)
for line in sys.stdin:
    print("read", line, end="", flush=True)
sys.exit(5)
"""


def with_usual_signals(*ignored):
    """The signals as a shell leaves them, in a process that is about to begin: these tests may run in the background of
    a shell, which then ignores Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)


@contextmanager
def bounded(pid):
    """End this process and those of its group when they hang, so that reading what they write ends, too."""
    timer = threading.Timer(PATIENCE, os.killpg, (pid, signal.SIGKILL))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def start(tmp_path, code=_LISTENS, ignored=(), **options):
    """`reportd-send run` of this code, without a server: the settings say nothing."""
    arguments = [PYTHON, "-c", "from reportd_client.cli import main; main()", "run", "--", PYTHON, "-c", code]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(
        arguments,
        env=CLEAN,
        cwd=tmp_path,
        start_new_session=True,
        preexec_fn=lambda: with_usual_signals(*ignored),
        **pipes,
        **options,
    )
    with process, bounded(process.pid):
        yield process


def test_signals_are_passed_on_without_a_terminal(tmp_path):
    with start(tmp_path) as process:
        assert process.stdout.readline() == b"listens\n"
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT, signal.SIGINT):
            process.send_signal(number)
            assert process.stdout.readline().decode() == f"{number.name}\n"
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (5, b"") and err.count(b"\n") == 1, err  # that nothing is recorded


def test_a_signal_that_ends_the_command(tmp_path):
    with start(tmp_path, "import time; print('runs', flush=True); time.sleep(600)") as process:
        assert process.stdout.readline() == b"runs\n"
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM


def test_signals_that_are_ignored_are_ignored_by_the_command(tmp_path):
    with start(tmp_path, ignored=(signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)) as process:
        assert process.stdout.readline() == b"listens\n"
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            process.send_signal(number)
        assert process.stdout.readline() == b"SIGTERM\n"
        assert (process.communicate(timeout=PATIENCE)[0], process.returncode) == (b"", 5)


def test_input_and_output_are_those_of_the_command(tmp_path):
    """What it writes is there at once and to the byte, although it is half a line; all open files are its own."""
    code = (
        "import os, sys\n"
        "os.write(1, b'half \\xff\\x1b[1m')\nos.write(2, b'error')\n"
        "sys.stdin.buffer.readline()\nos.write(1, os.read(int(sys.stdin.readline()), 10))"
    )
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe")
    os.close(writing)
    with start(tmp_path, code, pass_fds=[reading]) as process:
        os.close(reading)
        assert process.stdout.read(10) == b"half \xff\x1b[1m"
        out, err = process.communicate(f"go\n{reading}\n".encode(), timeout=PATIENCE)
    assert (process.returncode, out) == (0, b"from a pip")
    assert b"error" in err.splitlines()[-1]


def test_a_key_of_a_terminal_is_one_signal(tmp_path):
    """Ctrl-C goes to all processes of the foreground: passed on, it would come twice."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        with_usual_signals()
        os.execve(
            PYTHON,
            [PYTHON, "-c", "from reportd_client.cli import main; main()", "run", "--", PYTHON, "-c", _LISTENS],
            CLEAN,
        )
    seen = b""

    def until(words):
        nonlocal seen
        while words not in seen:
            seen += os.read(terminal, 1000)  # an OSError when the process has been ended

    with bounded(pid):
        until(b"listens")
        os.write(terminal, b"\x03")
        until(b"SIGINT")
        os.write(terminal, b"word\n")
        until(b"read word")
        os.write(terminal, b"\x04")  # the end of the input
        with suppress(OSError):
            while data := os.read(terminal, 1000):
                seen += data
        _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 5 and seen.count(b"SIGINT") == 1, seen


def test_it_ends_when_it_is_interrupted_while_it_sends(server, proxy, tmp_path):
    """What is left stays in the spool."""
    asked = []
    proxy.script = lambda method, path: asked.append(path) or 503
    process = subprocess.Popen(
        [PYTHON, "-c", "from reportd_client.cli import main; main()", "run", "--", PYTHON, "-c", "raise SystemExit(3)"],
        env={
            **CLEAN,
            "REPORTD_URL": proxy.url,
            "REPORTD_TOKEN": server.token,
            "REPORTD_SPOOL": str(tmp_path / "spool"),
        },
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=with_usual_signals,
    )
    wait_until(lambda: list((tmp_path / "spool").glob("*/w-*")) and asked)
    wait_until(lambda: b'"kind":"end"' in b"".join(path.read_bytes() for path in (tmp_path / "spool").glob("*/w-*")))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3 and err.count(b"Interrupted while sending") == 1, err
    (folder,) = spools_in(tmp_path / "spool")
    (folder / "stop").touch()
    wait_for_senders(folder)
