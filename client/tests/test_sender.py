"""Every fault between client and server: nothing is lost, nothing is stored twice, and one line says what happened."""

import json
import os
import shutil
import threading
import time

import pytest
from reportd_client import limits
from reportd_client.sender import plan
from reportd_client.sender.http import Gate, Patience
from reportd_client.sender.main import send

from tests.images import png
from tests.server import API, PATIENCE, free_port, wait_until


@pytest.fixture
def spooled(record):
    """A run that is only written down: 4 tests with 2 steps, 2 files, 3 log entries and a checkpoint each."""

    def make(tests=4, **arguments):
        with record(sender="none", **arguments) as run:
            for i in range(tests):
                with run.test(f"test {i}", test_id=f"tests/{i}") as test:
                    write_everything(test, i)
                    if i == 2:
                        test.set_status("Failed", "boom")
        return run.spool.folder

    return make


def write_everything(test, i):
    with test.step("Open") as s:
        s.screenshot(png(10 * i))
    with test.step("Click") as s:
        s.screenshot(png(10 * i + 1))
        test.console("info", f"a {i}")
    test.console("error", f"b {i}")
    test.network("GET", f"https://x/{i}", status_code=200)
    test.checkpoint("sum", expected=i, actual=i)


def patient():
    """It waits for a slow machine."""
    return Patience(PATIENCE, unreached=PATIENCE)


def resume(folder, server, url=None, token=None, patience=None, **arguments):
    address = (url or server.url) + API
    return send(folder, token or server.token, patience or patient(), url=address, ended=True, **arguments)


def check_complete(server, run_id, tests=4):
    """Everything is there, once."""
    found = server.run(run_id)
    assert found["status"] == "Failed" and found["finished_at"] is not None
    assert sorted(t["test_id"] for t in found["tests"]) == sorted(f"tests/{i}" for i in range(tests))
    for test in found["tests"]:
        i = int(test["test_id"].split("/")[1])
        assert [s["action"] for s in test["steps"]] == ["Open", "Click"]
        assert sorted(a["file_name"] for a in test["artifacts"]) == ["step_001.png", "step_002.png"]
        assert [e["message"] for e in test["console"]] == [f"a {i}", f"b {i}"]
        assert [e["url"] for e in test["network"]] == [f"https://x/{i}"]
        assert [c["expected_value"] for c in test["checkpoints"]] == [str(i)]
        assert all(s["screenshot"]["file_name"] == f"step_{s['step_number']:03}.png" for s in test["steps"])


def test_a_spool_is_sent_and_removed(spooled, server):
    folder = spooled()
    receipt = resume(folder, server)
    assert receipt.complete and (receipt.tests, receipt.files) == (4, 8)
    assert not folder.exists()
    check_complete(server, receipt.run_id)


def test_keep_keeps_the_spool_and_sending_it_again_adds_nothing(spooled, server):
    folder = spooled()
    receipt = resume(folder, server, keep=True)
    again = resume(folder, server)
    assert (again.tests, again.files, again.run_id) == (0, 0, receipt.run_id)
    check_complete(server, receipt.run_id)


@pytest.fixture(params=["bundles", "single calls"])
def calls(request, proxy):
    """With the server as it is, and as one that is older than bundles."""
    proxy.older = request.param == "single calls"


def test_lost_receipts_add_no_row_and_no_file(spooled, server, proxy, calls):
    folder = spooled()
    first = resume(folder, server, proxy.url, keep=True)
    (folder / "receipts.jsonl").unlink()
    second = resume(folder, server, proxy.url)
    assert (second.run_id, second.tests_new, second.files_new) == (first.run_id, 0, 0)
    place = f"{API}/suite-runs" if proxy.older else "/runs"  # an older server has no page of a run
    assert second.run_url == f"{proxy.url}{place}/{first.run_id}"
    check_complete(server, first.run_id)


# --- answers ---


@pytest.mark.parametrize(
    ("calls", "status"),
    [*(("bundles", status) for status in (408, 409, 429, 500, 502, 503, 504, 507, 524)), ("single calls", 503)],
    indirect=["calls"],
)
def test_answers_of_a_busy_server_are_waited_out(spooled, server, proxy, calls, status):
    busy = {"detail": "busy", "code": "idempotency_in_progress" if status == 409 else "busy"}
    answer = (status, busy, {"Retry-After": "0"})
    proxy.script = lambda method, path: answer if proxy.number == 1 else None
    receipt = resume(spooled(), server, proxy.url)
    assert receipt.complete
    check_complete(server, receipt.run_id)


@pytest.mark.parametrize("action", ["cut", "drop"])
def test_every_answer_is_cut_once(spooled, server, proxy, calls, action):
    """`cut`: the server has committed, and its answer is lost."""
    proxy.script = lambda method, path: action if proxy.number == 1 else None
    receipt = resume(spooled(), server, proxy.url)
    assert receipt.complete
    check_complete(server, receipt.run_id)


def test_retry_after_is_obeyed(spooled, server, proxy):
    times = []

    def script(method, path):
        times.append(time.monotonic())
        return (429, {}, {"Retry-After": "1"}) if len(times) == 1 else None

    proxy.script = script
    assert resume(spooled(1), server, proxy.url).run_id
    assert times[1] - times[0] >= 1


@pytest.mark.parametrize("path", ["/suite-runs", "/bundle", "/steps/bulk", "/console-logs", "/artifacts/batch"])
def test_a_page_of_a_proxy_is_not_taken_for_success(spooled, server, proxy, path):
    """The page where people log in to a network, say. Everything is kept, and sent later."""
    proxy.older = path not in ("/suite-runs", "/bundle")
    proxy.script = lambda method, called: (200, b"<html>Log in</html>") if called.endswith(path) else None
    folder = spooled()
    first = resume(folder, server, proxy.url)
    assert first.spool == folder and "a proxy may have answered" in first.message and not first.refused
    proxy.script = lambda method, called: None
    second = resume(folder, server, proxy.url)
    assert second.complete
    check_complete(server, second.run_id)


@pytest.mark.parametrize(
    ("status", "words", "code"),
    [(401, "does not accept the token", 6), (403, "It needs the role uploader", 6), (307, "redirects to", 1)],
)
def test_what_a_person_must_repair_stops_the_sender_and_keeps_everything(spooled, server, proxy, status, words, code):
    folder = spooled()
    proxy.script = lambda method, path: (status, {"detail": "No"}, {"Location": "https://other"})
    receipt = resume(folder, server, proxy.url)
    assert receipt.code == code and words in receipt.message and f"reportd-send resume {folder}" in receipt.message
    assert server.token not in receipt.message and (server.token[:8] in receipt.message) == (status in (401, 403))
    assert len(proxy.seen) <= limits.REQUESTS
    receipt = resume(folder, server)
    check_complete(server, receipt.run_id)


@pytest.mark.parametrize("at", ["the tests", "what belongs to them"])
def test_a_run_that_was_deleted_meanwhile_is_not_made_again(spooled, server, proxy, calls, at):
    folder = spooled()

    def script(method, path):
        created = path.endswith(("/bundle", "/test-cases/bulk"))
        if path == "/limits" or path == "/suite-runs" or path == "/artifacts/missing":
            return None
        if created and at == "what belongs to them":
            return None if proxy.older else (413 if b'"steps"' in proxy.body else None)
        return (404, {"detail": "Not found", "code": "suite_run_not_found"})

    proxy.script = script
    receipt = resume(folder, server, proxy.url)
    assert "has been deleted" in receipt.message and folder.exists() and receipt.refused == []


def test_a_test_that_was_deleted_meanwhile_costs_no_other(spooled, server, proxy):
    proxy.older, gone = True, []

    def script(method, path):
        if path.endswith("/steps/bulk"):
            gone[:] = gone or [path.split("/")[2]]
        return 404 if gone and gone[0] in path else None

    proxy.script = script
    receipt = resume(spooled(), server, proxy.url)
    assert [text.partition(": ")[2] for text in receipt.refused] == ["test: It has been deleted on the server"]
    assert sorted(len(test["steps"]) for test in server.run(receipt.run_id)["tests"]) == [0, 2, 2, 2]


def test_a_used_key_asks_for_a_bug_report(spooled, server, proxy):
    proxy.script = lambda method, path: (422, {"detail": "reused", "code": "idempotency_key_reused"})
    receipt = resume(spooled(), server, proxy.url)
    assert "Please report it" in receipt.message and receipt.spool is not None


@pytest.mark.parametrize("limit", [1, 3])
def test_requests_that_are_too_large_are_halved(spooled, server, proxy, calls, limit):
    def script(method, path):
        body = proxy.body
        if path.endswith(("/bundle", "/test-cases/bulk")) and body.count(b'"test_id"') > limit:
            return 413
        if path.endswith("/batch") and body.count(b'name="files"') > 1:
            return (413, b"<html>413 Request Entity Too Large</html>")
        return None

    proxy.script = script
    receipt = resume(spooled(), server, proxy.url)
    assert receipt.complete
    check_complete(server, receipt.run_id)


def test_a_single_thing_that_is_too_large_is_refused_and_all_else_arrives(spooled, server, proxy, calls):
    proxy.script = lambda method, path: (
        (413, {"detail": "too large"}) if b'name="files"' in proxy.body else 404 if "missing" in path else None
    )
    receipt = resume(spooled(2), server, proxy.url)
    assert sorted(receipt.refused) == [f"tests/{i}: step_{n:03}.png: too large" for i in range(2) for n in (1, 2)]
    assert receipt.spool is None and len(server.cases(receipt.run_id)) == 2
    assert [len(test["steps"]) for test in server.run(receipt.run_id)["tests"]] == [2, 2]


def test_a_field_that_the_server_refuses_is_left_out_and_named(record, server, proxy, calls):
    with record(sender="none") as run:
        for i in range(5):
            with run.test(f"test {i}") as test:
                if i == 2:
                    test._fields["started_at"] = "yesterday"
                test._add("steps", {"step_number": 1, "step_type": "click", "duration_ms": "long" if i == 3 else 7})
                test.network("GET", "https://x")
                test._add("console_logs", {"level": "info", "message": "m", "line_number": {} if i == 4 else 8})
    receipt = resume(run.spool.folder, server, proxy.url)
    found = server.run(receipt.run_id)["tests"]
    assert [[len(test[name]) for name in ("steps", "network", "console")] for test in found] == [[1, 1, 1]] * 5
    assert [test["steps"][0]["duration_ms"] for test in found] == [7, 7, 7, None, 7]
    words = sorted(text.rpartition(": must be")[0] for text in receipt.refused)
    assert words == [
        "test 2: test field started_at",
        "test 3: step field duration_ms",
        "test 4: console entry field line_number",
    ]


def test_a_row_that_cannot_be_repaired_costs_no_other(record, server, proxy, calls):
    with record(sender="none") as run:
        for i in range(5):
            with run.test(f"test {i}") as test:
                test._add("steps", {"step_number": "one" if i == 2 else 1, "step_type": "click", "action": "a"})
                test._add("steps", {"step_number": 2, "step_type": "click", "action": "b"})
    receipt = resume(run.spool.folder, server, proxy.url)
    assert [len(test["steps"]) for test in server.run(receipt.run_id)["tests"]] == [2, 2, 1, 2, 2]
    assert [text.startswith("test 2: step: step_number: must be") for text in receipt.refused] == [True]


def test_many_rows_that_cannot_be_repaired_cost_no_other(record, server, proxy, calls):
    with record(sender="none") as run, run.test("t") as test:
        for i in range(20):
            url = {} if i % 2 else {"url": f"https://x/{i}"}
            test._add("network_logs", {"method": "GET", **url})
            name = {"a": i} if i % 3 == 2 else "n"
            test._add("checkpoints", {"checkpoint_number": i, "name": name, "status": "Passed"})
            test._add("steps", {"step_number": i, "step_type": "click", "duration_ms": i if i % 2 else "long"})
    receipt = resume(run.spool.folder, server, proxy.url)
    (found,) = server.run(receipt.run_id)["tests"]
    assert [entry["url"] for entry in found["network"]] == [f"https://x/{i}" for i in range(0, 20, 2)]
    assert [each["checkpoint_number"] for each in found["checkpoints"]] == [i for i in range(20) if i % 3 != 2]
    assert [step["duration_ms"] for step in found["steps"]] == [i if i % 2 else None for i in range(20)]
    assert receipt.requests < 40 and any("url: is required (and 6 more)" in text for text in receipt.refused)


def test_a_field_that_is_wrong_everywhere_costs_few_requests(record, server, proxy, calls):
    with record(sender="none") as run:
        for i in range(40):
            with run.test(f"test {i}") as test:
                test._fields["started_at"] = f"yesterday at {i}"
                for number in range(50 if i == 0 else 0):
                    test._add("steps", {"step_number": number, "step_type": "click", "duration_ms": "long"})
    receipt = resume(run.spool.folder, server, proxy.url)
    cases = server.cases(receipt.run_id)
    assert len(cases) == 40 and len(server.test(cases[0]["id"])["steps"]) == 50
    assert sum(": test field started_at: must be" in text for text in receipt.refused) == 40
    assert any("step field duration_ms" in text and "(and 46 more)" in text for text in receipt.refused)
    assert receipt.requests < 120


def test_a_test_that_cannot_be_repaired_costs_no_other(record, server, proxy, calls):
    with record(sender="none") as run:
        for i in range(5):
            with run.test(f"test {i}") as test:
                if i == 3:
                    test._fields["name"] = {"a": 1}
                test.network("GET", "https://x")
    receipt = resume(run.spool.folder, server, proxy.url)
    assert [case["name"] for case in server.cases(receipt.run_id)] == ["test 0", "test 1", "test 2", "test 4"]
    assert len(receipt.refused) == 1 and receipt.refused[0].startswith("test 3: test: "), receipt.refused


def test_files_that_the_server_refuses_are_named_and_the_others_arrive(record, server, proxy, calls):
    with record(sender="none") as run, run.test("t") as test:
        test.attach(b"\x7fELF\0\0\1\2", "program.bin")
        test.attach(b"", "empty.txt")
        test.attach(b"hello", "hello.txt")
        test.attach("/nowhere/x.log")
        test.attach("/tmp")
    receipt = resume(run.spool.folder, server, proxy.url)
    assert receipt.spool is None and len(receipt.refused) == 4, receipt.refused
    assert any(text.startswith("t: program.bin: File type not allowed") for text in receipt.refused)
    assert any(text == "t: x.log: No such file" for text in receipt.refused)
    assert any(text == "t: tmp: Not a regular file" for text in receipt.refused)
    (found,) = server.run(receipt.run_id)["tests"]
    assert [artifact["file_name"] for artifact in found["artifacts"]] == ["hello.txt"]


def test_files_that_met_a_full_storage_are_sent_later(spooled, server, proxy, calls, monkeypatch):
    """A full storage refuses the files of a request with 507, and of a bundle some of them with 207."""
    import reportd_client.sender.files as module

    monkeypatch.setattr(module, "_WAIT", 0.05)
    first = []

    def script(method, path):
        if path.endswith("/batch") and path not in first:
            first.append(path)
            failure = {"file_index": 0, "file_name": "x", "error": "Storage is full", "code": "storage_full"}
            return (507, {"detail": "Storage is full", "failed": [failure, {**failure, "file_index": 1}]})
        if path.endswith("/bundle") and not first:
            first.append(path)
            body, boundary = proxy.body, proxy.body.partition(b"\r\n")[0]
            value = json.loads(body.split(b"\r\n\r\n", 1)[1].split(b"\r\n" + boundary)[0])
            tests = []
            for test in value["tests"]:
                files = test.pop("artifacts")
                tests.append({"client_ref": test["client_ref"], "created": True, "artifacts": []})
                tests[-1]["failed"] = [{**file, "file_name": "x", "code": "storage_full"} for file in files]
            made = server.post(path, value)["tests"]
            return (207, {"tests": [{**test, "id": one["id"]} for test, one in zip(tests, made)]})
        return None

    proxy.script = script
    receipt = resume(spooled(), server, proxy.url)
    assert receipt.complete and receipt.files == 8
    check_complete(server, receipt.run_id)


@pytest.mark.parametrize("what", ["/suite-runs", "/bundle", "/bulk"])
def test_an_answer_of_something_else_stops_the_sender_and_keeps_everything(spooled, server, proxy, what):
    proxy.older = what == "/bulk"
    proxy.script = lambda method, path: (200, b"<html>Sign in</html>") if path.endswith(what) else None
    folder = spooled()
    receipt = resume(folder, server, proxy.url)
    assert "a proxy may have" in receipt.message and folder.exists()
    check_complete(server, resume(folder, server).run_id)


# --- files that change ---


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "out" / "trace.log"
    path.parent.mkdir()
    path.write_bytes(b"evidence\n" * 200_000)
    return path


@pytest.mark.parametrize("change", ["deleted", "replaced", "folder removed"])
def test_a_linked_file_arrives_as_it_was(record, server, large, change):
    content = large.read_bytes()
    with record(sender="none") as run, run.test("t") as test:
        test.attach(large)
        if change == "folder removed":
            shutil.rmtree(large.parent)
        elif change == "replaced":
            (large.parent / "new").write_bytes(b"other")
            (large.parent / "new").replace(large)
        else:
            large.unlink()
    receipt = resume(run.spool.folder, server)
    (found,) = server.run(receipt.run_id)["tests"]
    assert server.bytes_of(found["artifacts"][0]) == content


@pytest.mark.parametrize("change", ["grown", "cut", "rewritten"])
def test_a_linked_file_that_was_written_to_is_named(record, server, large, change):
    with record(sender="none") as run, run.test("t") as test:
        test.attach(large)
        test.attach(b"hello", "hello.txt")
        size = large.stat().st_size
        time.sleep(0.02)  # more than the clock tick of the file system
        with large.open("r+b") as stream:
            stream.seek(0, os.SEEK_END if change == "grown" else os.SEEK_SET)
            stream.write(b"other")
            if change == "cut":
                stream.truncate(size // 2)
    receipt = resume(run.spool.folder, server)
    assert receipt.refused == ["t: trace.log: Its bytes have changed since it was attached"]
    (found,) = server.run(receipt.run_id)["tests"]
    assert [artifact["file_name"] for artifact in found["artifacts"]] == ["hello.txt"]


# --- time ---


def test_a_server_that_was_never_there_is_given_up_soon(record, server, said):
    drain = 600
    with record(url=f"http://127.0.0.1:{free_port()}", drain=drain) as run, run.test("t"):
        started = time.monotonic()
    assert 1 < time.monotonic() - started < drain / 10
    assert run.receipt.spool == run.spool.folder and not run.receipt.complete
    assert "cannot be reached" in said[0] and f"reportd-send resume {run.spool.folder}" in said[0]
    receipt = resume(run.spool.folder, server)
    assert receipt.complete and len(server.cases(receipt.run_id)) == 1


def test_a_server_that_has_gone_is_given_up_after_drain(record, proxy, server):
    drain = 1.5
    with record(url=proxy.url, drain=drain) as run:
        with run.test("first"):
            pass
        assert run.flush(PATIENCE)
        proxy.script = lambda method, path: "drop"
        with run.test("second"):
            pass
        started = time.monotonic()
    assert drain <= time.monotonic() - started < PATIENCE
    assert run.receipt.spool is not None
    receipt = resume(run.spool.folder, server)
    assert len(server.cases(receipt.run_id)) == 2


def test_a_slow_server_holds_no_test_up(record, proxy):
    """The server answers nothing before all tests have ended."""
    go_on, answered = threading.Event(), []
    proxy.script = lambda method, path: answered.append(go_on.wait(PATIENCE))
    with record(url=proxy.url) as run:
        for i in range(30):
            with run.test(f"t{i}") as test, test.step("a") as s:
                s.screenshot(png(i))
        wait_until(lambda: proxy.seen)
        go_on.set()
    assert run.receipt.complete and answered and all(answered)


def test_failed_tests_go_first(record, server, monkeypatch):
    monkeypatch.setattr(limits, "GROUP_SECONDS", 10 * PATIENCE)
    with record() as run:
        with run.test("passes"):
            pass
        with run.test("fails") as test:
            test.set_status("Failed", "x")
        assert run.flush(PATIENCE)  # although the group is not full and its time not over
    assert run.receipt.complete


def test_four_requests_are_under_way_and_two_when_the_server_is_busy(spooled, server, proxy, monkeypatch):
    monkeypatch.setattr(plan, "_MOST", (1, *plan._MOST[1:]))
    four = threading.Barrier(4)

    def script(method, path):
        if path.endswith("/bundle"):
            four.wait(PATIENCE)  # broken unless four of them are under way

    proxy.script = script
    assert resume(spooled(12), server, proxy.url).complete
    gate = Gate()
    gate.answered(busy=True)
    assert gate._limit == 2
    for _ in range(limits.GOOD_REPLIES):
        gate.answered(busy=False)
    assert gate._limit == 4


def test_large_groups_wait_for_each_other(monkeypatch):
    monkeypatch.setattr(limits, "LOADED_BYTES", 100)
    room, inside, most = plan.Room(), [], []

    def work(size):
        with room.taken_by([plan.Waiting("ref", "t", 1, size=size)]):
            inside.append(size)
            most.append(sum(inside))
            time.sleep(0.01)
            inside.remove(size)

    threads = [threading.Thread(target=work, args=(size,)) for size in (60, 300, 40, 60, 20, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(most) == 6 and max(most) == 300 and sorted(most)[-2] <= 100


# --- two senders, and torn records ---


def test_two_senders_of_one_spool(spooled, server, proxy):
    folder, receipts = spooled(), []
    go_on = threading.Event()
    proxy.script = lambda method, path: go_on.wait(PATIENCE) and None
    first = threading.Thread(target=lambda: receipts.append(resume(folder, server, proxy.url)))
    first.start()
    wait_until(lambda: proxy.seen)
    second = resume(folder, server)
    assert second.message == f"{folder} is being sent by process {os.getpid()}" and second.code == 5
    go_on.set()
    first.join()
    assert receipts[0].complete
    check_complete(server, receipts[0].run_id)
    assert resume(folder, server).code in (0, 5)  # nothing is left


def test_torn_records_are_named_and_the_others_arrive(spooled, server):
    folder = spooled()
    (file,) = folder.glob("w-*.jsonl")
    with file.open("ab") as stream:
        stream.write(b'00000000 17 {"kind": "torn"}\n0123 99 {"kind": "te')
    receipt = resume(folder, server)
    check_complete(server, receipt.run_id)
    assert receipt.refused == ["2 records: torn by a process that was killed, or by a full disk"]


def test_a_test_that_did_not_end_is_pending(record, server):
    with record(sender="none") as run:
        test = run.test("hangs", test_id="tests/hangs")
        test.__enter__()
        with test.step("Open"):
            pass
    receipt = resume(run.spool.folder, server)
    (found,) = server.run(receipt.run_id)["tests"]
    assert (found["status"], found["error_message"]) == ("Pending", "The test did not finish")
    assert [step["action"] for step in found["steps"]] == ["Open"]
    test.__exit__(None, None, None)


def test_a_torn_receipt_is_no_receipt(spooled, server):
    folder = spooled()
    receipt = resume(folder, server, keep=True)
    path = folder / "receipts.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-3]) + lines[-3][: len(lines[-3]) // 2])
    resume(folder, server)
    check_complete(server, receipt.run_id)


@pytest.mark.parametrize("cut", range(0, 100, 9))
def test_a_sender_that_was_killed_at_any_time_is_continued(spooled, server, cut):
    """The receipts end anywhere: what the server has and the receipts do not is not stored twice."""
    folder = spooled(3)
    first = resume(folder, server, keep=True)
    path = folder / "receipts.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * cut // 100])
    second = resume(folder, server)
    assert second.run_id == first.run_id
    assert len(server.cases(first.run_id)) == 3
    for case in server.cases(first.run_id):
        test = server.test(case["id"])
        assert (len(test["steps"]), len(test["console"]), len(test["artifacts"])) == (2, 2, 2)
