"""Bytes that the server has are not sent again; where they are gone after all, they are."""

import json

import pytest

from tests.images import png
from tests.test_sender import calls, check_complete, resume, spooled

__all__ = ["calls", "spooled"]


@pytest.fixture
def offered(server):
    if "known" not in server.features():
        pytest.skip("the server does not offer it")


def parts(proxy, what):
    return sum(body.count(what) for path, body in proxy.bodies if path.endswith(("/artifacts/batch", "/bundle")))


def test_a_second_run_sends_no_bytes_again(spooled, server, proxy, offered):
    first = resume(spooled(), server, proxy.url)
    proxy.bodies.clear()
    second = resume(spooled(), server, proxy.url)
    assert second.complete and second.run_id != first.run_id and second.files == 8
    assert (parts(proxy, b'"known":true'), parts(proxy, b'name="files"')) == (8, 0)
    check_complete(server, first.run_id)
    check_complete(server, second.run_id)


def gone(proxy):
    """A server that says that it has all bytes, and at a batch that they are gone."""

    def script(method, path):
        if path == "/limits":
            return (200, {"features": ["known"]})
        if path == "/artifacts/missing":
            return (200, {"missing": []})
        body = proxy.body
        if path.endswith("/batch") and b'"known":true' in body:
            failure = {"file_index": None, "file_name": "x", "error": "gone", "code": "content_missing"}
            failed = [{**failure, "known_index": i} for i in range(body.count(b'"known":true'))]
            return (422, {"detail": "None was kept", "artifacts": [], "failed": failed})
        return None

    return script


def test_bytes_that_are_gone_are_sent(record, server, proxy):
    with record(sender="none") as run, run.test("t") as test:
        for i in range(3):
            test.attach(png(i), f"{i}.png")
    proxy.script = gone(proxy)
    receipt = resume(run.spool.folder, server, proxy.url)
    assert receipt.complete and receipt.files == 3
    (asked,) = [json.loads(body)["files"] for path, body in proxy.bodies if path == "/artifacts/missing"]
    assert sorted(file["file_size"] for file in asked) == sorted(len(png(i)) for i in range(3))
    (case,) = server.run(receipt.run_id)["tests"]
    assert sorted(server.bytes_of(artifact) for artifact in case["artifacts"]) == sorted(png(i) for i in range(3))


@pytest.mark.parametrize("answer", [(404, {}), (422, {"detail": "no"}), (200, {"missing": None}), (200, [])])
def test_a_question_without_an_answer_changes_nothing(spooled, server, proxy, answer):
    def script(method, path):
        return (200, {"features": ["known"]}) if path == "/limits" else answer if path == "/artifacts/missing" else None

    proxy.script = script
    receipt = resume(spooled(), server, proxy.url)
    assert receipt.complete
    check_complete(server, receipt.run_id)
