"""The release before, on the schema of this version: while hosts are upgraded one after the other, both serve."""

import subprocess
import sys
from pathlib import Path

import pytest

from server.database import migrate
from tests.up_server import CHECKOUT, ENVIRONMENT

SHORT = tuple(f"tests/api/test_{noun}.py" for noun in ("steps", "checkpoints"))
LONG = ("tests/api", "tests/storage", "tests/commands/test_check.py", "tests/http/test_idempotency.py")
# A plugin of the release's pytest: its databases are then migrated by this version, without --finish.
PLUGIN = """
import os, subprocess, sys
from pathlib import Path
from server.database import migrate

older = migrate.apply

def newer(dsn, *arguments):
    applied = older(dsn, *arguments)
    environ = {**os.environ, "PYTHONPATH": os.environ["NEWER"], "REPORTD_DATABASE_DSN": dsn}
    command = [sys.executable, "-m", "server", "migrate"]
    done = subprocess.run(command, cwd=os.environ["NEWER"], env=environ, capture_output=True, text=True, check=True)
    Path(os.environ["MIGRATED"]).write_text(done.stdout)
    return applied

migrate.apply = newer
"""


def git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"git {arguments[0]}: {done.stderr.decode().strip()}")
    return done.stdout


@pytest.fixture
def release(tmp_path) -> Path:
    """A checkout of the newest release before this version. Skips the test without its commit: in a shallow clone, or
    without git."""
    head = git("rev-parse", "HEAD").decode().strip()
    found = git("log", "--format=%H", "-G^__version__", "--", "server/__init__.py").decode().split()
    releases = [commit for commit in found if commit != head]  # HEAD: this version is just being released
    if not releases:
        pytest.skip("no release in the history")
    tar = git("archive", releases[0])
    subprocess.run(["tar", "-x"], input=tar, cwd=tmp_path, check=True)
    return tmp_path


def test_the_release_before_passes_its_own_tests_on_this_schema(release, effort, tally):
    """Otherwise the first host that is upgraded breaks the others. What an old server uses goes one release later."""
    older = {path.stem for path in (release / "migrations").glob("*.sql")}
    newer = sorted(migrate.needed_versions() - older)
    if not newer:
        pytest.skip("no migration since the release")
    (release / "newer_schema.py").write_text(PLUGIN)
    tests = effort.times(SHORT, LONG)
    files = sorted(str(path) for pattern in tests for path in release.glob(pattern))
    environ = {key: value for key, value in ENVIRONMENT.items() if not key.startswith("PYTEST_")}
    environ |= {"PYTHONPATH": str(release), "NEWER": str(CHECKOUT), "MIGRATED": str(release / "migrated")}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "newer_schema", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=release, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    applied = (release / "migrated").read_text()
    assert [name for name in newer if name not in applied] == []
    tally.add("migrations", len(newer))
    tally.record("tests", done.stdout.splitlines()[-1])
