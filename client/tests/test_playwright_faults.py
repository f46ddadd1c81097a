"""Every fault between the Playwright reporter and the server: nothing is lost or stored twice, nothing is held up."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from reportd_client import limits
from reportd_client.sender.lock import Lock, Taken
from reportd_client.spool import spools_in

from tests.images import fresh, png
from tests.playwright import FAILED, attached, check_four, four_tests, run_id_of
from tests.server import PATIENCE, Reports, free_port, wait_until


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 507, "cut", "drop"])
def test_each_request_is_repeated(drive, server, proxy, status):
    """Each first one is not answered, or by a server that is busy. `cut`: the server has stored it."""
    busy = {"detail": "busy", "code": "idempotency_in_progress" if status == 409 else "busy"}
    answer = status if isinstance(status, str) else (status, busy)
    proxy.script = lambda method, path: answer if proxy.number == 1 else None
    driver = drive(proxy.url)
    four_tests(driver)
    said, _ = driver.finish()
    assert "refused" not in said
    check_four(server, run_id_of(said))
    seen = Counter(proxy.seen)
    assert {path.rsplit("/", 1)[-1] for _, path in seen} >= {"suite-runs", "limits", "missing", "bundle", "1"}
    assert all(count >= 2 for count in seen.values())


def test_retry_after_is_obeyed(drive, proxy):
    times = []

    def script(method, path):
        times.append(time.monotonic())
        return (429, {}, {"Retry-After": "1"}) if len(times) == 1 else None

    proxy.script = script
    drive(proxy.url).finish()
    assert times[1] - times[0] >= 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, {"detail": "No"}), "does not accept the token rpt_"),
        ((403, {"detail": "No"}), "It needs the role uploader"),
        ((307, {}, {"Location": "https://other"}), "redirects to https://other: set REPORTD_URL"),
        ((407, {}), "The proxy wants a password"),
        ((200, b"<html>Log in</html>"), "a proxy may have answered"),
        ((422, {"detail": "No", "code": "idempotency_key_reused"}), "Please report it"),
        ((404, {"detail": "Not found"}), "refuses the run: Not found"),
    ],
)
def test_what_a_person_must_repair_stops_the_sender_and_keeps_everything(drive, server, proxy, send, answer, words):
    proxy.script = lambda method, path: answer
    driver = drive(proxy.url)
    four_tests(driver)
    said, _ = driver.finish()
    folder = driver.folder
    assert words in said and said.count("\n") == 1 and f"reportd-send resume {folder}" in said
    assert server.token not in said and len(proxy.seen) == 1
    resumed = send("resume", folder)
    assert resumed.returncode == 0, resumed.stderr
    check_four(server, run_id_of(resumed.stdout))


def test_a_run_that_was_deleted_meanwhile_is_not_made_again(drive, proxy):
    proxy.script = lambda method, path: (404, {"detail": "Not found"}) if path.endswith("/bundle") else None
    driver = drive(proxy.url)
    four_tests(driver)
    said, _ = driver.finish()
    assert "The run has been deleted" in said and driver.folder.exists()


def test_an_older_server_gets_it_from_the_command(drive, server, proxy, send):
    proxy.older = True
    driver = drive(proxy.url)
    four_tests(driver)
    said, _ = driver.finish()
    assert "older than reportd-playwright" in said
    check_four(server, run_id_of(send("resume", driver.folder).stdout))


# --- what the server does not take ---


def test_a_wrong_value_costs_itself(drive, server, proxy):
    problems = [
        {"path": "tests[0].test.started_at", "message": "is odd"},
        {"path": "tests[0].console_logs[0].message", "message": "is long"},
        {"path": "tests[1].artifacts[0].checksum", "message": "is short"},
    ]
    bundles = []

    def script(method, path):
        if path.endswith("/bundle"):
            bundles.append(json.loads(body_of(proxy)))
            return (422, {"detail": "Invalid", "errors": problems}) if len(bundles) == 1 else None
        return None

    proxy.script = script
    driver = drive(proxy.url, environment={"LIMITS": '{"GROUP_SECONDS": 60}'})
    for i in range(2):
        driver("test", title=f"t{i}", stdout=["a\n"], attachments=[attached(png(i)), attached(png(9), "other")])
    said, _ = driver.finish()
    first, second = (server.run(run_id_of(said))["tests"][i] for i in (0, 1))
    assert (first["started_at"], first["console"], len(first["artifacts"])) == (None, [], 2)
    assert [artifact["file_name"] for artifact in second["artifacts"]] == ["other.png"] and len(second["console"]) == 1
    assert "3 refused" in said and "t0: console entry: message: is long" in said


def body_of(proxy):
    """The JSON of the request that a script is called for, which may be a part of it."""
    body = proxy.body
    return body if body.startswith(b"{") else body.split(b"\r\n\r\n", 1)[1].split(b"\r\n--", 1)[0]


def test_a_test_that_is_refused_costs_no_other(drive, server, proxy):
    def script(method, path):
        refused = path.endswith("/bundle") and b'"name":"t1"' in proxy.body
        return (400, {"detail": "No t1, please"}) if refused else None

    proxy.script = script
    driver = drive(proxy.url)
    four_tests(driver)
    said, _ = driver.finish()
    assert "fake › fake.spec.js › t1: test: No t1, please" in said and spools_in(driver.spool) == []
    assert sorted(test["name"] for test in server.run(run_id_of(said))["tests"]) == ["t0", "t2", "t3"]


def test_a_proxy_that_takes_only_small_requests(drive, server, proxy):
    """Files follow in requests of their own, and one that is too large is named."""
    proxy.script = lambda method, path: 413 if len(proxy.body) > 20_000 else None
    driver = drive(proxy.url, environment={"LIMITS": '{"GROUP_SECONDS": 60}'})
    files = [attached(b"%d " % i * 3000, f"{i}.txt", "text/plain") for i in range(4)]
    driver("test", title="files", attachments=files)
    driver("test", title="large", attachments=[attached(b"x" * 30_000, "large.txt", "text/plain")])
    said, _ = driver.finish()
    assert "refused: fake › fake.spec.js › large: large.txt: HTTP 413" in said and "1 refused" in said
    found, large = server.run(run_id_of(said))["tests"]
    assert sorted(artifact["file_name"] for artifact in found["artifacts"]) == ["0.txt", "1.txt", "2.txt", "3.txt"]
    assert large["artifacts"] == []


def test_rows_that_no_request_can_have_stay_in_the_spool(drive, server, proxy, send):
    proxy.script = lambda method, path: 413 if len(proxy.body) > 5_000 else None
    driver = drive(proxy.url)
    driver("test", title="t0", stdout=[f"{'x' * 50} {i}\n" for i in range(200)])
    driver("test", title="t1")
    said, _ = driver.finish()
    assert "Too large for a request: 1 test." in said
    resumed = send("resume", driver.folder)
    assert resumed.returncode == 0
    run = server.run(run_id_of(resumed.stdout))
    assert sorted((test["name"], len(test["console"])) for test in run["tests"]) == [("t0", 200), ("t1", 0)]
    assert run["status"] == "Passed"


def test_bytes_that_the_project_has_are_not_sent(drive, server, proxy):
    image = fresh()
    for known in (False, True):
        proxy.bodies.clear()
        driver = drive(proxy.url)
        driver("test", title="t", attachments=[attached(image)])
        said, _ = driver.finish()
        (artifact,) = server.run(run_id_of(said))["tests"][0]["artifacts"]
        assert server.bytes_of(artifact) == image
        assert any(image in body for _, body in proxy.bodies) is not known


def test_bytes_that_are_gone_are_sent_after_all(drive, server, proxy):
    proxy.script = lambda method, path: (200, {"missing": []}) if path == "/artifacts/missing" else None
    driver = drive(proxy.url)
    image = fresh()
    driver("test", title="t", attachments=[attached(image)])
    said, _ = driver.finish()
    (artifact,) = server.run(run_id_of(said))["tests"][0]["artifacts"]
    assert server.bytes_of(artifact) == image and "refused" not in said


def test_a_file_for_which_the_storage_was_full_is_sent_again(drive, server, proxy):
    full = []

    def script(method, path):
        if not path.endswith("/bundle") or full:
            return None
        full.append(path)
        failed = [{"file_index": 0, "file_name": "shot.png", "code": "storage_full", "error": "The storage is full"}]
        (ref,) = [test["client_ref"] for test in json.loads(body_of(proxy))["tests"]]
        test = {"client_ref": ref, "id": ref, "created": True, "artifacts": [], "failed": failed, "complete": False}
        return (207, {"tests": [test], "failed": []})

    proxy.script = script
    driver = drive(proxy.url)
    driver("test", title="t", attachments=[attached(fresh()), attached(b"x", "note", "text/plain")])
    said, _ = driver.finish()
    (test,) = server.run(run_id_of(said))["tests"]
    assert [artifact["file_name"] for artifact in test["artifacts"]] == ["shot.png"] and "refused" not in said


# --- servers that are away, and processes that are killed ---


def test_a_server_that_is_never_there_holds_nothing_up(drive, server, send):
    drain = 600
    driver = drive(f"http://127.0.0.1:{free_port()}", drain=drain)
    four_tests(driver)
    said, milliseconds = driver.finish()
    assert milliseconds < drain * 1000 / 10
    assert "cannot be reached" in said and said.count("\n") == 1
    resumed = send("resume", driver.folder)
    run = check_four(server, run_id_of(resumed.stdout))
    assert run["tests"][0]["started_at"] < run["finished_at"]


@pytest.mark.parametrize("drain", [0, 1])
def test_the_end_is_not_later_than_drain(drive, server, proxy, drain, send):
    """The server answers no bundle for longer than a request waits."""
    over = threading.Event()
    proxy.script = lambda method, path: over.wait(PATIENCE) and "drop" if path.endswith("/bundle") else None
    driver = drive(proxy.url, drain=drain)
    four_tests(driver)
    wait_until(lambda: any(path.endswith("/bundle") for _, path in proxy.seen) or drain == 0)
    said, milliseconds = driver.finish()
    over.set()
    assert milliseconds < limits.READ_SECONDS * 1000
    assert "The time to send was over" in said
    check_four(server, run_id_of(send("resume", driver.folder).stdout))


def test_a_killed_runner_loses_nothing_that_has_ended(drive, server, send):
    driver = drive(titles=["t0", "t1"])
    driver("test", title="t0")
    driver("open", title="t1")
    busy = send("resume", driver.spool)
    assert busy.returncode == 5 and f"is being sent by process {driver.process.pid} of Node.js" in busy.stderr
    folder = driver.folder
    driver.process.send_signal(signal.SIGKILL)
    driver.process.wait()
    resumed = send("resume", folder)
    assert resumed.returncode == 0, resumed.stderr
    tests = server.cases(run_id_of(resumed.stdout))
    assert [(test["name"], test["status"]) for test in tests] == [("t0", "Passed"), ("t1", "Pending")]
    assert not folder.exists()


def test_the_lock_of_a_reporter_that_is_gone_holds_nobody(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    lock = tmp_path / "lock"
    for holder, age, is_held in (
        (f"process {os.getpid()} of Node.js on {platform.node()}", 0, True),
        (f"process {os.getpid()} of Node.js on {platform.node()}", 60, False),
        (f"process {dead.stdout.strip()} of Node.js on {platform.node()}", 0, False),
        ("process 1 of Node.js on another machine", 0, True),
        ("process 1 of Node.js on another machine", 60, False),
        (f"process {os.getpid()}", 0, False),
        ("", 0, False),
    ):
        lock.write_text(f"{holder}\n")
        os.utime(lock, (time.time() - age, time.time() - age))
        if is_held:
            with pytest.raises(Taken, match=f"is being sent by {holder}"):
                Lock(tmp_path)
        else:
            Lock(tmp_path).close()


def test_a_server_that_is_killed_and_comes_back(drive, tmp_path):
    reports = Reports(tmp_path / "data")
    port = int(reports.url.rsplit(":", 1)[1])
    driver = drive(reports.url, drain=60, environment={"REPORTD_TOKEN": reports.token})
    try:
        driver("test", title="t0", stdout=["a 0\n"], attachments=[attached(png(0)), attached(png(1))])
        wait_until(lambda: reports.runs() and reports.cases(reports.runs()[0]["id"]))
        reports.process.kill()
        reports.stop()
        for i in (1, 2, 3):
            more = FAILED if i == 2 else {}
            files = [attached(png(10 * i)), attached(png(1))]
            driver("test", title=f"t{i}", stdout=[f"a {i}\n"], attachments=files, **more)
        reports = Reports(tmp_path / "data", port)
        said, _ = driver.finish()
        check_four(reports, run_id_of(said))
    finally:
        reports.stop()


# --- shards, and a disk that is full ---


def test_shards_meet_in_one_run(drive, server):
    for index in (1, 2):
        shard = {"current": index, "total": 2}
        driver = drive(titles=[f"t{index}"], shard=shard, runKey="playwright-shards")
        driver("test", title=f"t{index}", **(FAILED if index == 1 else {}))
        run_id = run_id_of(driver.finish()[0])
        found = server.get(f"/suite-runs/{run_id}/completeness")
        assert found["shards"]["silent"] == ([2] if index == 1 else [])
        assert server.get(f"/suite-runs/{run_id}")["status"] == ("Running" if index == 1 else "Failed")
    assert found["complete"] is True and found["tests_expected"] == 2
    assert [test["metadata"]["shard"] for test in server.run(run_id)["tests"]] == ["1/2", "2/2"]


def test_a_shard_that_does_not_fit_costs_nothing_else(drive, server):
    for total in (2, 3):
        driver = drive(shard={"current": 1, "total": total}, runKey="playwright-odd-shards")
        driver("test", title="t")
        said, _ = driver.finish()
    assert "refused: shard 1/3: " in said and len(server.run(run_id_of(said))["tests"]) == 2


def test_a_shard_without_a_key_is_a_run_of_its_own(drive, server):
    driver = drive(titles=["t"], shard={"current": 1, "total": 2})
    driver("test", title="t")
    said, _ = driver.finish()
    assert "Shard 1/2 needs a run_key" in said
    assert server.get(f"/suite-runs/{run_id_of(said)}/completeness")["complete"] is True


def test_what_went_wrong_outside_of_tests(drive, server):
    driver = drive(titles=["t"])
    driver("test", title="t")
    driver("error", message="Error: no web server at https://a:hunter2@x", snippet="source")
    said, _ = driver.finish(status="failed")
    run = server.run(run_id_of(said))
    assert run["status"] == "Failed" and [test["status"] for test in run["tests"]] == ["Passed"]
    (error,) = run["metadata"]["errors"]
    assert error.endswith("no web server at https://a:[redacted]@x")
    shards = server.get(f"/suite-runs/{run['id']}/completeness")["shards"]
    assert shards["errors"] == [{"index": 1, "error": error}]


@pytest.mark.parametrize(
    ("low", "kept", "words"),
    [
        ([1e18, 0, 0], 1, "only screenshots of failures are kept"),
        ([1e18, 1e18, 0], 0, "no more files are kept"),
        ([1e18, 1e18, 1e18], 0, "only the results of tests are kept"),
    ],
)
def test_a_full_disk_keeps_verdicts_longest(drive, server, low, kept, words):
    driver = drive(environment={"LIMITS": json.dumps({"LOW_DISK": low})})
    driver("test", title="passes", stdout=["a\n"], attachments=[attached(png(1))])
    driver("test", title="fails", attachments=[attached(png(2))], **FAILED)
    said, _ = driver.finish()
    assert words in said
    passes, fails = sorted(server.run(run_id_of(said))["tests"], key=lambda test: test["name"], reverse=True)
    assert (passes["status"], fails["status"], fails["error_message"]) == ("Passed", "Failed", "boom")
    assert (len(passes["artifacts"]), len(fails["artifacts"])) == (0, kept)
    assert len(passes["console"]) == (0 if "only the results" in words else 1)
