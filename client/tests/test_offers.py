"""Servers of other versions: what they do not have is left out and said once, what they would refuse is not sent."""

import pytest

from tests.images import png
from tests.test_sender import resume

NESTING = "The server is older than this client: it does not store which steps are inside of others"


@pytest.fixture
def spool_with(record):
    """A spool with nested steps, and a file of 3 MiB."""

    def make():
        with record(sender="none") as run:
            for i in range(2):
                with run.test(f"test {i}") as test, test.step("outer"), test.step("inner") as step:
                    step.screenshot(png(i))
                    test.attach(b"x" * (3 << 20), "large.txt")
        return run.spool.folder

    return make


def answering(proxy, answer):
    proxy.script = lambda method, path: answer if path == "/limits" else None


def test_a_server_without_limits_gets_everything_and_the_nesting_is_said_once(spool_with, server, proxy):
    answering(proxy, (404, {"detail": "Not found", "code": "route_not_found"}))
    receipt = resume(spool_with(), server, proxy.url)
    assert receipt.complete and receipt.notes == [NESTING]
    for test in server.run(receipt.run_id)["tests"]:
        assert [step["action"] for step in test["steps"]] == ["outer", "inner"] and len(test["artifacts"]) == 2


def test_a_server_that_stores_nesting_is_not_talked_about(spool_with, server, proxy):
    answering(proxy, (200, {"features": ["parent_step_number"], "max_file_size": 10 << 20}))
    assert resume(spool_with(), server, proxy.url).notes == []


@pytest.mark.parametrize("features", [["bundle", "parent_step_number"], ["parent_step_number"]])
def test_parents_are_sent(spool_with, server, proxy, features):
    answering(proxy, (200, {"features": features}))
    receipt = resume(spool_with(), server, proxy.url)
    steps = [test["steps"] for test in server.run(receipt.run_id)["tests"]]
    assert [[step["parent_step_number"] for step in some] for some in steps] == [[None, 1]] * 2


def test_files_that_are_too_large_are_not_sent(spool_with, server, proxy):
    answering(proxy, (200, {"features": [], "max_file_size": 2 << 20}))
    receipt = resume(spool_with(), server, proxy.url)
    assert receipt.refused == [f"test {i}: large.txt: File size exceeds maximum allowed (2MB)" for i in range(2)]
    assert sum(len(body) for _, body in proxy.bodies) < 1 << 20


@pytest.mark.parametrize("value", [{}, [], {"features": 5, "max_file_size": "x"}, {"features": [1, None]}, b"<html>"])
def test_odd_limits_are_no_limits(spool_with, server, proxy, value):
    answering(proxy, (200, value))
    assert resume(spool_with(), server, proxy.url).complete
