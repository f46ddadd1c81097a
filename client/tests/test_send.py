"""`reportd-send PATH`: result.json files become a run, twice the same run, and nothing else of the machine is read."""

import json
import re
import signal
import struct
import subprocess
import sys
import uuid
import zlib
from collections import Counter
from pathlib import Path

import pytest
from reportd_client.receipt import Receipt, sentence
from reportd_client.spool import spools_in

from tests.images import png
from tests.server import API, CLEAN, PATIENCE, wait_until
from tests.test_process import command


@pytest.fixture
def results(tmp_path):
    """A folder with two result.json files and their screenshots."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "one.png").write_bytes(png(1))
    (folder / "two.png").write_bytes(png(2))
    (folder / "app.log").write_text("\x1b[31mstarted\x1b[0m")
    first = {
        "suite": {"name": "nightly", "branch": "main", "metadata": {"team": "shop"}},
        "test": {"name": "login", "test_id": "t/login", "tags": ["ui"], "attempt": 2},
        "steps": [
            {"step_type": "navigate", "action": "\x1b[1mOpen\x1b[0m", "status": "Passed", "screenshot_path": "one.png"},
            {
                "step_number": 2,
                "action": "click",
                "status": "Failed",
                "screenshot_path": "two.png",
                "element_selector": "#password",
                "input_value": "hunter2",
            },
        ],
        "checkpoints": [{"checkpoint_number": 1, "name": "title", "status": "Failed"}],
        "console_logs": [{"level": "error", "message": "boom", "step_number": 2}],
        "network_logs": [{"method": "GET", "url": "https://x/?token=abc", "status_code": 500}],
        "artifacts": [{"path": "app.log", "artifact_type": "log", "description": "of the server"}],
    }
    (folder / "result.json").write_text(json.dumps(first))
    more = [{"steps": [], "test": {"name": f"more {i}"}} for i in range(3)]
    (folder / "more.json").write_text(json.dumps(more))
    (folder / "package.json").write_text('{"name": "not a report"}')
    return folder


def run_of(server, done):
    return server.run(re.search(r"/runs/([0-9a-f-]+)", done.stdout)[1])


@pytest.mark.parametrize(("tests", "files", "text"), [(1, 1, "1 test, 1 file"), (0, 2, "0 tests, 2 files")])
def test_the_summary_counts_in_words(tests, files, text):
    receipt = Receipt(tests=tests, tests_new=tests, files=files, seconds=1)
    assert sentence(receipt) == f"{text} (0 new) sent in 1.0 s"


def test_a_folder_is_a_run(send, server, results):
    done = send(results)
    assert done.returncode == 0, done.stderr
    assert "4 tests, 3 files (3 new)" in done.stdout
    run = run_of(server, done)
    assert (run["name"], run["branch"], run["status"]) == ("nightly", "main", "Failed")
    assert run["metadata"]["team"] == "shop" and run["finished_at"]
    tests = {test["name"]: test for test in run["tests"]}
    assert tests.keys() == {"login", "more 0", "more 1", "more 2"}
    login = tests["login"]
    assert (login["test_id"], login["status"], login["attempt"], login["tags"]) == ("t/login", "Failed", 2, ["ui"])
    opened, clicked = login["steps"]
    assert (opened["action"], opened["step_number"], opened["screenshot"]["file_name"]) == ("Open", 1, "one.png")
    assert (clicked["step_type"], clicked["input_value"]) == ("click", "[redacted]")
    files = {artifact["file_name"]: artifact for artifact in login["artifacts"]}
    assert server.bytes_of(files["two.png"]) == png(2) and files["two.png"]["artifact_category"] == "error"
    assert files["app.log"]["description"] == "of the server"
    assert login["network"][0]["url"] == "https://x/?token=[redacted]" and login["console"][0]["step_number"] == 2
    assert len(login["checkpoints"]) == 1


def test_sending_twice_adds_nothing(send, server, results):
    first, second = send(results), send(results)
    assert second.returncode == 0 and "4 tests (0 new), 3 files (0 new)" in second.stdout
    assert run_of(server, first)["id"] == run_of(server, second)["id"]
    assert len(run_of(server, first)["tests"]) == 4


def test_options_win(send, server, results):
    done = send(
        results / "more.json",
        "--name",
        "release",
        "--run-key",
        "k-1",
        "--tag",
        "a",
        "--tag",
        "b",
        "--shard",
        "2/5",
        "--environment",
        "staging",
        "--build-url",
        "https://ci/1",
        "--commit",
        "abc",
        "--no-finish",
    )
    run = run_of(server, done)
    assert (run["name"], run["tags"], run["environment"], run["commit_sha"]) == (
        "release",
        ["a", "b"],
        "staging",
        "abc",
    )
    assert (run["status"], run["finished_at"], run["metadata"]["ci"]["shard"]) == ("Running", None, "2/5")


def test_a_dry_run_opens_no_connection(send, results):
    done = send(results, "--dry-run", REPORTD_URL="http://127.0.0.1:1")
    assert done.returncode == 0 and "tests: 3 Passed, 1 Failed" in done.stdout
    summary = json.loads(send(results, "--dry-run", "--json").stdout)
    assert summary == {
        "tests": {"Passed": 3, "Failed": 1},
        "attempts": {"1": 3, "2": 1},
        "steps": 2,
        "files": {"screenshot": 2, "log": 1},
        "refused": [],
    }


def test_a_dry_run_has_the_numbers_of_what_is_then_sent(send, server, results, tmp_path):
    """Attempts that are joined over files, repeated tests, files that cannot be sent; and nothing is opened."""
    case = "<testcase classname='Cart' name='{}'>{}</testcase>"
    attached = f"<system-out>[[ATTACHMENT|{results / 'one.png'}]]\n[[ATTACHMENT|gone.png]]</system-out>"
    first = [case.format("pay", "<failure/>"), case.format("add", "<skipped/>"), case.format("same", "")]
    second = [case.format("pay", attached), case.format("same", "")]
    for number, cases in enumerate((first, second), 1):
        (results / f"TEST-{number}.xml").write_text(f"<testsuite name='Cart'>{''.join(cases)}</testsuite>")
    connects = "sys.addaudithook(lambda name, values: name == 'socket.connect' and os._exit(99))"
    code = f"import os, sys; {connects}; from reportd_client.cli import main; main()"
    dry = subprocess.run(
        [sys.executable, "-c", code, str(results), "--dry-run", "--json"],
        env={**CLEAN, "REPORTD_URL": server.url, "REPORTD_TOKEN": server.token},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    done = send(results)
    assert (dry.returncode, done.returncode) == (4, 4), dry.stderr
    said, tests = json.loads(dry.stdout), run_of(server, done)["tests"]
    assert said["tests"] == dict(Counter(test["status"] for test in tests))
    assert said["attempts"] == dict(Counter(str(test["attempt"]) for test in tests))
    assert said["steps"] == sum(len(test["steps"]) for test in tests)
    kinds = Counter(artifact["artifact_type"] for test in tests for artifact in test["artifacts"])
    assert said["files"] == dict(kinds) and len(said["refused"]) == 1


def test_json_and_quiet(send, results):
    assert json.loads(send(results, "--json").stdout)["tests"] == 4
    assert send(results, "--quiet").stdout == ""


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ("", 2, "is empty"),
        ("[]", 2, "is empty: it has no test"),
        ("not JSON", 3, "is no JSON"),
        ('{"tests": []}', 3, "it needs an object with a list `steps`"),
        ('{"steps": {}}', 3, "it needs an object with a list `steps`"),
        ("[5]", 3, "it needs an object"),
        ("[" * 200_000, 3, "is nested too deeply"),
        ('[{"steps": [], "test": {"name": "a"}}, {"steps": [], "te', 4, "is cut: 1 whole results were read"),
        ('{"steps": [1, {"step_number": 2}, {"step_number": 2}]}', 4, "comes twice"),
        ('{"steps": [], "artifacts": [{"path": "gone.png"}]}', 4, "gone.png: No such file"),
        ('{"steps": [{"step_type": "x", "status": "green"}]}', 4, "field status"),
    ],
)
def test_files_that_are_not_as_they_should_be(send, server, tmp_path, content, code, words):
    (tmp_path / "result.json").write_text(content)
    done = send(tmp_path / "result.json")
    assert done.returncode == code and words in done.stdout + done.stderr, done.stdout + done.stderr
    assert (send(tmp_path / "result.json", "--fail-on", "never").returncode) == 0
    if code == 4:
        assert len(run_of(server, done)["tests"]) == 1


def test_no_report_at_all(send, tmp_path):
    assert send(tmp_path).returncode == 2 and "no report was found" in send(tmp_path).stderr
    assert "There is no" in send(tmp_path / "nothing").stderr
    assert send().returncode == 1  # wrong usage is not a missing report


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings(send, server, tmp_path, encoding):
    text = '{"steps": [], "test": {"name": "Prüfung"}}'
    (tmp_path / "result.json").write_bytes(text.encode(encoding))
    run = run_of(server, send(tmp_path / "result.json", "--run-key", encoding))
    assert run["tests"][0]["name"].startswith("Pr")


def test_patterns(send, server, results):
    run = run_of(server, send(f"{results.parent}/**/more.json", "--run-key", "pattern"))
    assert len(run["tests"]) == 3


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "/etc/../etc/hostname.txt", "link.txt", "a\0b", ".."])
def test_files_elsewhere_are_never_read(send, server, tmp_path, name):
    folder = tmp_path / "report"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "result.json").write_text(
        json.dumps({"steps": [], "artifacts": [{"path": name}], "test": {"name": name}})
    )
    done = send(folder / "result.json")
    assert done.returncode == 4 and run_of(server, done)["tests"][0]["artifacts"] == []


def test_a_picture_elsewhere_is_sent_when_its_whole_path_is_given(send, server, tmp_path):
    (tmp_path / "shot.png").write_bytes(png(9))
    (tmp_path / "report").mkdir()
    result = {"steps": [{"step_type": "click", "screenshot_path": str(tmp_path / "shot.png")}]}
    (tmp_path / "report" / "result.json").write_text(json.dumps(result))
    (artifact,) = run_of(server, send(tmp_path / "report"))["tests"][0]["artifacts"]
    assert server.bytes_of(artifact) == png(9)


def test_png_makes_pictures_smaller(send, server, tmp_path):
    pytest.importorskip("oxipng")
    row = b"".join(b"\0" + bytes(300) for _ in range(100))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 100, 100, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row, 0)),
        (b"IEND", b""),
    ]
    large = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (tmp_path / "shot.png").write_bytes(large)
    (tmp_path / "result.json").write_text('{"steps": [{"step_type": "click", "screenshot_path": "shot.png"}]}')
    (artifact,) = run_of(server, send(tmp_path / "result.json", "--png"))["tests"][0]["artifacts"]
    assert artifact["file_size"] < len(large) / 10


def test_a_server_that_is_down_keeps_the_spool(send, server, results, tmp_path):
    done = send(results, "--timeout", "1", REPORTD_URL="http://127.0.0.1:1")
    assert done.returncode == 5
    folder = done.stderr.split()[-1]
    assert Path(folder).is_dir()
    resumed = send("resume", folder)
    assert resumed.returncode == 0 and "4 tests" in resumed.stdout


def test_ctrl_c_keeps_the_spool(proxy, server, results, tmp_path):
    proxy.script = lambda method, path: 503
    settings = {"REPORTD_URL": proxy.url, "REPORTD_TOKEN": server.token, "REPORTD_SPOOL": str(tmp_path / "spool")}
    process = subprocess.Popen(
        [sys.executable, "-c", "from reportd_client.cli import main; main()", str(results)],
        env={**CLEAN, **settings},
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_until(lambda: proxy.seen)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err.count(b"\n")) == (130, 1) and b"Interrupted" in err, err
    assert len(spools_in(tmp_path / "spool")) == 1


def test_without_an_address(results):
    done = command(results)
    assert done.returncode == 1 and "Set REPORTD_URL" in done.stderr
    assert API not in done.stderr


# --- --fail-on incomplete ---


@pytest.fixture
def expecting(server, results):
    """A run with this key that has so many tests, and whose other shards are as described."""

    def make(key, tests=4, total=1, **others):
        run = server.post("/suite-runs", {"name": key, "run_key": key})
        for index in range(1, total + 1):
            shard = {"total": total, "tests_expected": tests, "status": others.get(f"shard_{index}", "Passed")}
            if shard["status"] is not None:
                server.post(f"/suite-runs/{run['id']}/shards/{index}", shard, method="PUT")
        return run

    return make


def test_a_run_that_is_not_complete(send, server, expecting, results):
    expecting("nothing lacks")
    done = send(results, "--run-key", "nothing lacks", "--fail-on", "incomplete")
    assert done.returncode == 0 and done.stderr == ""
    later = {"later": True, "checksum": "0" * 64, "file_size": 9, "file_name": "a.webm", "artifact_type": "video"}
    test = {"client_ref": str(uuid.uuid4()), "test": {"name": "films", "status": "Passed"}, "artifacts": [later]}
    server.post(f"/suite-runs/{expecting('lacking')['id']}/bundle", {"tests": [test]})
    done = send(results, "--run-key", "lacking", "--fail-on", "incomplete")
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "reportd-send: The run is not complete",
        "reportd-send: 1 file did not come",
        "reportd-send:   a.webm of films: it never came",
    ]
    assert send(results, "--run-key", "lacking").returncode == 0


def test_a_part_of_a_run_does_not_answer_for_the_others(send, expecting, results):
    expecting("parts", tests=4, total=2, shard_2="Running")
    done = send(results, "--run-key", "parts", "--fail-on", "incomplete", "--shard", "1/2")
    assert done.returncode == 0 and "parts of the run have finished: ask later" in done.stderr


def test_an_older_server_does_not_know_what_is_missing(send, proxy, results):
    proxy.script = lambda method, path: (404, {"detail": "Not found"}) if path.endswith("completeness") else None
    done = send(results, "--fail-on", "incomplete", REPORTD_URL=proxy.url)
    assert done.returncode == 0 and "it does not say what is missing" in done.stderr
    proxy.script = lambda method, path: (403, {"detail": "no"}) if path.endswith("completeness") else None
    assert send(results, "--fail-on", "incomplete", REPORTD_URL=proxy.url).returncode == 6
