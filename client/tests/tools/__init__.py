"""Test runners of other languages: what package.json names, installed by `make client`, and programs of the system."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server import CLEAN, PATIENCE

MODULES = Path(__file__).parent / "node_modules"
REQUIRED = bool(os.environ.get("REQUIRE_TOOLS"))  # set by .ci/run
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# A runner finds no CI and no colours: some write other reports then.
QUIET = {**{name: value for name, value in CLEAN.items() if name != "CI"}, "NO_COLOR": "1", "FORCE_COLOR": "0"}


def node(folder: Path, script: str, *arguments: str, timeout: float = 5 * PATIENCE, **environment: str):
    """Run a program of package.json in a folder, which gets the modules: node(folder, "jest/bin/jest.js", "--ci").
    Without node or the modules the test is skipped; in CI it fails. Returns the finished process: a runner whose tests
    fail does not exit with 0."""
    if shutil.which("node") is None or not (MODULES / ".bin").exists():
        _missing("Node.js and `make client`")
    link = folder / "node_modules"
    if not link.is_symlink():
        link.symlink_to(MODULES)
    return _run(["node", *([str(MODULES / script)] if script else []), *arguments], folder, timeout, environment)


def program(folder: Path, name: str, *arguments: str, required: bool = False, **environment: str):
    """Run a program of the system in a folder, as node(). Only a `required` one is missed in CI."""
    if shutil.which(name) is None:
        _missing(name, required)
    return _run([name, *arguments], folder, 5 * PATIENCE, environment)


def _run(command, folder, timeout, environment):
    return subprocess.run(
        command,
        cwd=folder,
        env={**QUIET, "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def _missing(what: str, required: bool = True):
    if REQUIRED and required:
        pytest.fail(f"{what} is missing")
    pytest.skip(f"needs {what}")
