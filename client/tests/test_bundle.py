"""Tests with everything that belongs to them in one request, where the server offers it."""

import pytest
from reportd_client import limits

from tests.images import fresh
from tests.test_sender import check_complete, patient, resume, spooled

__all__ = ["spooled"]


@pytest.fixture(autouse=True)
def offered(server):
    if "bundle" not in server.features():
        pytest.skip("the server does not offer it")


def requests(proxy, end):
    return [body for path, body in proxy.bodies if path.endswith(end)]


def answering_once(proxy, answer):
    """A script that answers the first bundle itself."""
    return lambda method, path: answer if path.endswith("/bundle") and proxy.number == 1 else None


def test_a_group_is_one_request(spooled, server, proxy):
    receipt = resume(spooled(), server, proxy.url)
    assert receipt.complete and (receipt.tests_new, receipt.files_new) == (4, 8)
    assert len(requests(proxy, "/bundle")) == 1 and receipt.requests <= 6
    assert receipt.run_url == f"{proxy.url}/runs/{receipt.run_id}"
    check_complete(server, receipt.run_id)


@pytest.mark.parametrize("forgets", [False, True])
def test_answers_that_are_lost_double_nothing(spooled, server, proxy, forgets):
    """Each first answer is lost after the server has committed; then all receipts. Also when the server's
    Idempotency-Keys were swept meanwhile."""
    proxy.script, proxy.forgets = lambda method, path: "cut" if proxy.number == 1 else None, forgets
    folder = spooled()
    first = resume(folder, server, proxy.url, keep=True)
    (folder / "receipts.jsonl").unlink()
    second = resume(folder, server, proxy.url)
    assert first.complete and second.complete and (second.tests_new, second.files_new) == (0, 0)
    assert second.run_id == first.run_id
    check_complete(server, first.run_id)


@pytest.mark.parametrize("answer", [413, (422, {"detail": "no"}), (422, {"errors": [None]}), (415, {}), (503, {})])
def test_a_bundle_that_is_refused(spooled, server, proxy, answer):
    proxy.script = answering_once(proxy, answer)
    receipt = resume(spooled(), server, proxy.url)
    assert receipt.complete
    check_complete(server, receipt.run_id)


def test_the_limit_of_a_proxy_is_found_once(record, server, proxy):
    """nginx passes bodies of 1 MB where nobody has said otherwise. Here the limit is 20 kB. The tests are one group:
    while several are on their way, each may meet the limit."""
    limit = 20_000
    images = [fresh() + bytes(2_000) for _ in range(48)]
    with record(sender="none") as run:
        for i in range(16):
            with run.test(f"test {i}") as test:
                for n in range(3):
                    test.attach(images[3 * i + n], f"{n}.png")
                test.console("info", "x" * 3_000)
    refused = []

    def script(method, path):
        if len(proxy.body) > limit:
            refused.append(path)
            return (413, b"<html>413 Request Entity Too Large</html>")
        return None

    proxy.script = script
    receipt = resume(run.spool.folder, server, proxy.url)
    assert receipt.complete and (receipt.tests_new, receipt.files_new) == (16, 48)
    assert 3 <= len(refused) <= 6 and not requests(proxy, "/batch")
    for test in server.run(receipt.run_id)["tests"]:
        assert [file["file_name"] for file in test["artifacts"]] == ["0.png", "1.png", "2.png"]


def whole(proxy):
    return b'"steps"' in proxy.body or b'name="files"' in proxy.body


def test_tests_that_are_refused_as_a_whole_are_sent_alone_and_the_rest_after_them(spooled, server, proxy):
    proxy.script = lambda method, path: 413 if path.endswith("/bundle") and whole(proxy) else None
    receipt = resume(spooled(), server, proxy.url)
    assert receipt.complete and receipt.tests_new == 4
    check_complete(server, receipt.run_id)


@pytest.mark.parametrize(
    ("lost", "forgets"),
    [("/bundle", False), ("/bundle", True), ("/steps/bulk", True), ("/network-logs", True), ("/batch", True)],
)
def test_a_sender_that_ended_after_a_test_was_stored_alone_is_continued(spooled, server, proxy, lost, forgets):
    """Its successor meets a server that takes whole tests: it must not take the rest for stored."""
    folder, proxy.forgets, patience = spooled(1), forgets, patient()

    def script(method, path):
        if path.endswith("/bundle") and whole(proxy):
            return 413
        if not path.endswith(lost):
            return None
        patience.stop.set()
        return "cut"

    proxy.script = script
    first = resume(folder, server, proxy.url, patience=patience)
    assert first.spool is not None and proxy.seen[-1][1].endswith(lost)
    proxy.script = lambda method, path: None
    second = resume(folder, server, proxy.url)
    assert second.complete
    (test,) = server.run(second.run_id)["tests"]
    assert [len(test[name]) for name in ("steps", "artifacts", "checkpoints", "console", "network")] == [2, 2, 1, 2, 1]


def test_more_files_than_a_request_may_have(record, server, proxy):
    with record(sender="none") as run, run.test("t") as test:
        images = [fresh() for _ in range(100)]
        for i in range(120):
            test.attach(images[i % 100], f"{i}.png")
    receipt = resume(run.spool.folder, server, proxy.url)
    (case,) = server.cases(receipt.run_id)
    found = server.get(f"/test-case-results/{case['id']}/artifacts?per_page=500")
    assert receipt.complete and receipt.files == 120 and found["total"] == 120
    assert sum(body.count(b'name="files"') for body in requests(proxy, "/bundle")) == 100
    assert len(requests(proxy, "/bundle")) == 2 and not requests(proxy, "/batch")


def test_fewer_files_where_the_server_says_so(spooled, server, proxy):
    features = ["bundle", "parent_step_number"]
    proxy.script = lambda method, path: (
        (200, {"features": features, "batch_max_files": 3}) if path == "/limits" else None
    )
    receipt = resume(spooled(), server, proxy.url)
    assert receipt.complete
    assert [body.count(b'name="files"') for body in requests(proxy, "/bundle")] == [3, 3, 2]
    check_complete(server, receipt.run_id)


def test_the_same_bytes_are_sent_once(record, server, proxy):
    same = fresh()
    with record(sender="none") as run:
        for i in range(9):
            with run.test(f"test {i}") as test:
                test.attach(same, "same.png")
                test.attach(fresh(), "own.png")
    receipt = resume(run.spool.folder, server, proxy.url)
    assert receipt.complete and receipt.files == 18
    first, second = requests(proxy, "/bundle")
    assert first.count(b'name="files"') + second.count(b'name="files"') == 10
    assert b'"known":true' not in first and second.count(b'"known":true') == 8
    for test in server.run(receipt.run_id)["tests"]:
        assert [artifact["file_name"] for artifact in test["artifacts"]] == ["same.png", "own.png"]


def test_files_of_a_step_keep_their_order(record, server, proxy):
    """Whether the project has their bytes, the group has them already, or neither."""
    there, twice = fresh(), fresh()
    with record() as run, run.test("before") as test:
        test.attach(there, "there.png")
    with record(sender="none") as run, run.test("t") as test:
        test.attach(twice, "0.png")
        with test.step("a") as step:
            for image in (there, fresh(), twice, fresh(), there):
                step.screenshot(image)
    receipt = resume(run.spool.folder, server, proxy.url)
    (found,) = server.run(receipt.run_id)["tests"]
    names = [file["file_name"] for file in found["artifacts"]]
    assert receipt.complete and names == ["0.png", "step_001.png", *(f"step_001_{n}.png" for n in range(2, 6))]
    assert len(requests(proxy, "/bundle")) == 2


def test_bytes_that_are_gone_are_sent(spooled, server, proxy):
    """The server says that it has all bytes. It has not, and says so when they are linked."""
    proxy.script = lambda method, path: (200, {"missing": []}) if path == "/artifacts/missing" else None
    receipt = resume(spooled(), server, proxy.url)
    assert receipt.complete and receipt.files == 8
    check_complete(server, receipt.run_id)


def test_fields_of_files_that_the_server_refuses(record, server, proxy):
    with record(sender="none") as run:
        for i in range(3):
            with run.test(f"test {i}") as test:
                test.attach(fresh(), "a.png")
                test.attach(fresh(), "b.png")
                if i == 1:
                    kept = test._recorder.writer.store(fresh(), True)
                    wrong = {"file_name": "c.png", "artifact_type": "screenshot", "step_number": "one", **kept}
                    test._add("artifacts", wrong)
                    kept = test._recorder.writer.store(fresh(), True)
                    test._add("artifacts", {"file_name": "d.png", "artifact_type": "painting", **kept})
    receipt = resume(run.spool.folder, server, proxy.url)
    found = server.run(receipt.run_id)["tests"]
    assert [len(test["artifacts"]) for test in found] == [2, 3, 2]
    assert sorted(text.partition(": must be")[0] for text in receipt.refused) == [
        "test 1: c.png field step_number",
        "test 1: d.png: artifact_type",
    ]


@pytest.mark.parametrize("change", ["cut", "removed"])
def test_a_file_that_cannot_be_sent_any_more_costs_no_other(spooled, server, proxy, change):
    folder, changed = spooled(), []

    def script(method, path):
        if path == "/artifacts/missing" and not changed:
            changed.append(max((folder / "files").iterdir()))
            changed[0].unlink() if change == "removed" else changed[0].write_bytes(b"x")
            return 404  # nothing is known
        return None

    proxy.script = script
    receipt = resume(folder, server, proxy.url)
    words = "Cannot be read: No such file" if change == "removed" else "Its bytes have changed"
    assert len(receipt.refused) == 1 and words in receipt.refused[0]
    assert receipt.spool is None and receipt.files == 7 and len(server.cases(receipt.run_id)) == 4


def test_a_test_of_the_largest_size_is_one_request(record, server, proxy):
    with record(sender="none") as run, run.test("large") as test:
        for i in range(limits.MAX_STEPS):
            test._add("steps", {"step_number": i, "step_type": "click", "action": "a"})
        for i in range(limits.MAX_CONSOLE - 10):  # the last ones say what was cut
            test.console("info", f"line {i}")
    receipt = resume(run.spool.folder, server, proxy.url)
    (case,) = server.cases(receipt.run_id)
    assert receipt.complete and len(requests(proxy, "/bundle")) == 1
    assert server.get(f"/test-case-results/{case['id']}/console-logs")["total"] == limits.MAX_CONSOLE - 10


def test_a_killed_sender_repeats_the_request_that_was_under_way(spooled, server, proxy):
    """The server has stored it, and stores nothing twice."""
    folder, patience = spooled(), patient()

    def script(method, path):
        if not path.endswith("/bundle"):
            return None
        patience.stop.set()
        return "cut"

    proxy.script = script
    first = resume(folder, server, proxy.url, patience=patience)
    proxy.script = lambda method, path: None
    second = resume(folder, server, proxy.url)
    assert first.spool is not None and second.complete and (second.tests_new, second.files_new) == (0, 0)
    assert len(requests(proxy, "/bundle")) == 2
    check_complete(server, second.run_id)


def test_the_json_of_a_bundle_has_no_half_characters(record, server, proxy):
    with record(sender="none") as run, run.test("t") as test:
        test.attach(fresh(), "a.png")
        test.console("info", "half \ud83d of it")
    receipt = resume(run.spool.folder, server, proxy.url)
    (found,) = server.run(receipt.run_id)["tests"]
    assert receipt.complete and found["console"][0]["message"] == "half \ufffd of it"
    assert b"\xef\xbf\xbd of it" in requests(proxy, "/bundle")[0]


def test_500_tests_with_a_wrong_field_and_a_wrong_file(record, server, proxy):
    """The first bundle stores nothing and names the field; the second stores all but the file."""
    with record(sender="none", drain=60) as run:
        for i in range(limits.GROUP_TESTS):
            with run.test(f"test {i}") as test, test.step("a"):
                if i == 321:
                    test._add("steps", {"step_number": 2, "step_type": "click", "duration_ms": "long"})
                if i == 400:
                    test.attach(b"\x7fELF\0\0\1\2", "program.bin")
                    test.attach(fresh(), "a.png")
    stored = []

    def script(method, path):
        if path.endswith("/bundle"):
            stored.append(server.get(path.replace("/bundle", "/test-cases"))["total"])

    proxy.script = script
    first = resume(run.spool.folder, server, proxy.url, keep=True)
    assert stored == [0, 0] and (first.tests_new, first.files) == (limits.GROUP_TESTS, 1)
    words = sorted(text.split(": ")[:2] for text in first.refused)
    assert words == [["test 321", "step field duration_ms"], ["test 400", "program.bin"]]
    ids = {case["test_id"]: case["id"] for case in server.cases(first.run_id)}
    (run.spool.folder / "receipts.jsonl").unlink()
    second = resume(run.spool.folder, server, proxy.url)
    assert (second.tests_new, second.files_new) == (0, 0)
    assert {case["test_id"]: case["id"] for case in server.cases(first.run_id)} == ids and len(ids) == 500
