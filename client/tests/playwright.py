"""The Playwright reporter, installed from its package, and a process that gives events to it as Playwright does."""

import base64
import json
import re
import subprocess
from pathlib import Path

import pytest
from reportd_client.spool import spools_in

from tests.images import png
from tests.server import CHECKOUT, PATIENCE
from tests.tools import QUIET, node, program

SOURCE = CHECKOUT / "client/js/reportd-playwright"
DRIVER = Path(__file__).parent / "tools/drive_reporter.js"


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """The package as it is installed from what `npm pack` makes, without a registry."""
    folder = tmp_path_factory.mktemp("npm")
    node(folder, "", "--version")  # skips where there is no Node.js
    packed = program(folder, "npm", "pack", "--silent", str(SOURCE), required=True)
    assert packed.returncode == 0, packed.stderr
    (folder / "node_modules").unlink()
    (folder / "package.json").write_text("{}")
    arguments = ("install", "--offline", "--silent", "--no-audit", "--no-fund", packed.stdout.strip())
    installed = program(folder, "npm", *arguments, required=True)
    assert installed.returncode == 0, installed.stderr
    return folder / "node_modules/reportd-playwright"


class Driver:
    """A process that gives events to the reporter."""

    def __init__(self, package, folder, environment, options):
        self.spool = folder / "spool"
        self.process = subprocess.Popen(
            ["node", str(DRIVER), str(package), json.dumps(options)],
            cwd=folder,
            env={**QUIET, "REPORTD_SPOOL": str(self.spool), "REPORTD_DRAIN": str(PATIENCE), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, name, **event):
        """Give an event and wait until it is taken: what was returned, and how long it took."""
        self.process.stdin.write(json.dumps({name: event}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return json.loads(line)

    def finish(self, **result):
        """The end of the run: what the reporter prints, and the milliseconds that its end took."""
        ended = self("end", **result)
        assert ended.get("status") is None  # of which Playwright would make the exit code
        self("exit")
        _, said = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0
        return said, ended["milliseconds"]

    @property
    def folder(self):
        (folder,) = spools_in(self.spool)
        return folder


@pytest.fixture
def drive(package, tmp_path, server):
    """Starts a reporter that has begun a run."""
    started = []

    def start(url=None, titles=(), shard=None, environment=None, **options):
        settings = {"REPORTD_URL": url or server.url, "REPORTD_TOKEN": server.token, "REPORTD_NAME": "shop"}
        settings = {name: value for name, value in {**settings, **(environment or {})}.items() if value is not None}
        driver = Driver(package, tmp_path, settings, options)
        started.append(driver.process)
        driver("begin", titles=list(titles), shard=shard)
        return driver

    yield start
    for process in started:
        process.kill()
        process.communicate()


def attached(data, name="shot", media_type="image/png"):
    return {"name": name, "contentType": media_type, "body": base64.b64encode(data).decode()}


FAILED = {"status": "failed", "errors": [{"message": "TypeError: boom", "stack": "TypeError: boom\n    at x.js:1:1"}]}


def four_tests(driver):
    for i in range(4):
        more, files = FAILED if i == 2 else {}, [attached(png(10 * i)), attached(png(99))]
        driver("test", title=f"t{i}", stdout=[f"a {i}\n"], attachments=files, **more)


def run_id_of(said):
    return re.search(r"/runs/([0-9a-f-]{36})", said)[1]


def check_four(server, run_id):
    """Everything is there, once."""
    run = server.run(run_id)
    assert run["status"] == "Failed" and run["finished_at"] is not None
    assert sorted(test["name"] for test in run["tests"]) == ["t0", "t1", "t2", "t3"]
    for test in run["tests"]:
        assert test["status"] == ("Failed" if test["name"] == "t2" else "Passed")
        assert [entry["message"] for entry in test["console"]] == [f"a {test['name'][1]}"]
        assert [artifact["file_name"] for artifact in test["artifacts"]] == ["shot.png", "shot.png"]
    return run
