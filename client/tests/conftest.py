"""Fixtures: one real server for all tests, a proxy before it, and an environment without the settings of the shell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import reportd_client as reportd
from reportd_client import limits
from reportd_client.notes import Notes
from reportd_client.runs import make_run
from reportd_client.sender.http import Patience

from tests.server import PATIENCE, PYTHON, Proxy, Reports
from tests.test_process import command

pytest_plugins = ["pytester", "tests.playwright"]

_CI = (
    "CI",
    "GITHUB_",
    "GITLAB_",
    "JENKINS_",
    "TF_BUILD",
    "CIRCLE",
    "BUILDKITE",
    "TEAMCITY_",
    "BITBUCKET_",
    "DRONE",
    "TRAVIS",
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("REPORTD_", *_CI)) and name != "REPORTD_SERVER_PYTHON":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    if not Path(PYTHON).exists():
        pytest.fail(f"There is no {PYTHON}: set REPORTD_SERVER_PYTHON to an environment that has the server")
    reports = Reports(tmp_path_factory.mktemp("reportd") / "data")
    yield reports
    reports.stop()


@pytest.fixture
def proxy(server):
    proxy = Proxy(server.url)
    yield proxy
    proxy.close()


@pytest.fixture
def quick(monkeypatch):
    """Short waits, for senders that run as a thread of the test."""
    monkeypatch.setattr(limits, "FIRST_RETRY", 0.02)
    monkeypatch.setattr(limits, "LAST_RETRY", 0.1)
    monkeypatch.setattr(limits, "GROUP_SECONDS", 0.1)


@pytest.fixture
def impatient(monkeypatch):
    """Commands give up after the first request that would be repeated, whatever the time."""

    class Impatient(Patience):
        def over(self):
            return self.stop.is_set()

        def sleep(self, seconds):
            self.stop.set()
            self.check()

    for name in ("check", "finish"):
        monkeypatch.setattr(f"reportd_client.commands.{name}.Patience", Impatient)


@pytest.fixture
def said():
    """The sentences that a run says."""
    return []


@pytest.fixture
def record(tmp_path, server, said, quick):
    """Makes a run with a sender in a thread, or without one (`sender="none"`); the run is `with record(...) as run`."""

    def make(url=None, **arguments):
        usual = {"sender": "thread", "spool": tmp_path / "spool", "token": server.token, "drain": PATIENCE}
        return make_run(Notes(say=said.append), url=url or server.url, **{**usual, **arguments})

    return make


@pytest.fixture
def failing():
    """A test that raises inside of steps."""

    def run_it(run: reportd.Run) -> None:
        with (
            pytest.raises(ZeroDivisionError),
            run.test("divides", test_id="tests/divides") as test,
            test.step("Divide"),
        ):
            1 / 0  # noqa: B018

    return run_it


@pytest.fixture
def send(server, tmp_path):
    """Runs `reportd-send` with these arguments."""

    def run(*arguments, **environment):
        settings = {"REPORTD_URL": server.url, "REPORTD_TOKEN": server.token, "REPORTD_SPOOL": str(tmp_path / "spool")}
        return command(*arguments, **{**settings, **environment})

    return run
