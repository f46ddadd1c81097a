"""The examples of the documentation run, and its tables name every option, setting and exit code."""

import re
import subprocess
import sys

import pytest
from reportd_client import limits
from reportd_client.pytest_plugin import _OPTIONS
from reportd_client.receipt import EXIT

from tests.server import CHECKOUT, CLEAN, PATIENCE

PAGE = (CHECKOUT / "docs/python.md").read_text("utf-8")
README = (CHECKOUT / "client/README.md").read_text("utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", PAGE + README, re.DOTALL))
def test_examples_run(code, server, tmp_path):
    environment = {**CLEAN, "REPORTD_URL": server.url, "REPORTD_TOKEN": server.token, "REPORTD_STRICT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert "print(run.receipt)" not in code or ("tests=1" in done.stdout and "refused=[]" in done.stdout)


def test_every_option_and_setting_is_described():
    for name, _, _ in _OPTIONS:
        assert f"--reportd-{name}" in PAGE and f"reportd_{name.replace('-', '_')}" in PAGE
    used = set()
    for path in (CHECKOUT / "client/reportd_client").rglob("*.py"):
        used |= set(re.findall(r"REPORTD_[A-Z_]+[A-Z]", path.read_text("utf-8")))
    assert used - set(re.findall(r"REPORTD_[A-Z_]+[A-Z]", PAGE)) == set()
    assert all(f"; {code.value} " in PAGE for code in EXIT)


def test_the_limits_are_those_of_the_code():
    for number in (limits.MAX_STEPS, limits.MAX_CONSOLE, limits.MAX_NETWORK, limits.MAX_FILES, limits.MAX_OUTPUT_LINES):
        assert f"{number:,}" in PAGE
    assert f"{limits.LOW_DISK[0] >> 20} MiB" in PAGE and f"{limits.MAX_TEST_BYTES >> 20} MiB" in PAGE
