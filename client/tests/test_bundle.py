"""Tests with everything that belongs to them in one request, where the server offers it."""

import json

import pytest

from tests.images import png
from tests.test_sender import check_complete, resume, spooled

__all__ = ["spooled"]


@pytest.fixture(autouse=True)
def offered(server):
    if "bundle" not in server.features():
        pytest.skip("the server does not offer it")


def answering_once(answer):
    """A script that answers the first bundle itself."""
    given = []

    def script(method, path):
        if path.endswith("/bundle") and not given:
            given.append(path)
            return answer
        return None

    return script


def test_a_group_is_one_request(spooled, server, proxy):
    receipt = resume(spooled(), server, proxy.url)
    assert receipt.complete and (receipt.tests_new, receipt.files_new) == (4, 8)
    assert [path.rpartition("/")[2] for _, path in proxy.seen].count("bundle") == 1 and receipt.requests <= 6
    check_complete(server, receipt.run_id)


def test_lost_receipts_add_no_row_and_no_file(spooled, server, proxy):
    folder = spooled()
    first = resume(folder, server, proxy.url, keep=True)
    (folder / "receipts.jsonl").unlink()
    second = resume(folder, server, proxy.url)
    assert (second.run_id, second.tests_new, second.files_new) == (first.run_id, 0, 0)
    check_complete(server, first.run_id)


def test_a_second_run_sends_no_bytes_again(spooled, server, proxy):
    resume(spooled(), server, proxy.url)
    proxy.bodies.clear()
    second = resume(spooled(), server, proxy.url)
    (bundle,) = [body for path, body in proxy.bodies if path.endswith("/bundle")]
    assert sum(test["artifacts"][0]["known"] for test in json.loads(bundle)["tests"]) == 4
    check_complete(server, second.run_id)


@pytest.mark.parametrize("answer", ["cut", 413, (422, {"detail": "no"}), (503, {}, {"Retry-After": "0"})])
def test_a_bundle_that_is_refused_or_lost(spooled, server, proxy, answer):
    proxy.script = answering_once(answer)
    receipt = resume(spooled(), server, proxy.url)
    assert receipt.complete
    check_complete(server, receipt.run_id)


def test_bundles_that_are_always_refused_go_in_the_old_way(spooled, server, proxy):
    proxy.script = lambda method, path: 413 if path.endswith("/bundle") else None
    receipt = resume(spooled(), server, proxy.url)
    assert receipt.complete
    check_complete(server, receipt.run_id)


def test_a_wrong_field_is_left_out_and_named(record, server, proxy):
    with record(sender="none") as run:
        for i in range(3):
            with run.test(f"test {i}") as test, test.step("a"):
                if i == 1:
                    test._fields["started_at"] = "yesterday"
    receipt = resume(run.spool.folder, server, proxy.url)
    assert len(server.cases(receipt.run_id)) == 3 and len(receipt.refused) == 1
    assert receipt.refused[0].startswith("test 1: test field started_at")


def test_more_files_than_a_request_may_have(record, server, proxy):
    with record(sender="none") as run, run.test("t") as test:
        for i in range(120):
            test.attach(png(i % 100), f"{i}.png")
    receipt = resume(run.spool.folder, server, proxy.url)
    (case,) = server.cases(receipt.run_id)
    found = server.get(f"/test-case-results/{case['id']}/artifacts?per_page=500")
    assert receipt.complete and found["total"] == 120
