"""The row about the event loop: the longest piece of work on it, which tests/http/test_event_loop.py measures."""

import importlib.util
import re
import subprocess

from bench.processes import CHECKOUT, ENVIRONMENT, BenchError, python
from bench.results import Row
from bench.run import Run

_TESTS = "tests/http/test_event_loop.py"
_QUICK = ("-k", "test_no_reply_blocks_the_event_loop and small")
_LINE = re.compile(r"^ *([\d.]+) ms \([\d.]+ x\)  (.*?): ", re.MULTILINE)  # of line() there
_FAILED = 1  # pytest's exit code when a test failed: the value is then above the goal
_TIMEOUT = 600.0  # seconds


def longest(run: Run) -> list[Row]:
    """Longest single piece of work on the event loop, of all endpoints with their worst bodies and replies."""
    row = Row("loop", "longest piece of work on the event loop", "CPU ms", "", 20)
    needed = ("pytest", "pytest_aiohttp")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        row.missing = f"not installed: {', '.join(missing)}; see bench/README.md"
        return [row]
    command = python("pytest", "-s", "-q", "-p", "no:cacheprovider", _TESTS, *(_QUICK if run.quick else ()))
    done = subprocess.run(command, cwd=CHECKOUT, env=ENVIRONMENT, capture_output=True, text=True, timeout=_TIMEOUT)
    found = longest_of(done.stdout)
    if done.returncode not in (0, _FAILED) or not found:
        raise BenchError(f"{_TESTS} ended with exit code {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    what, milliseconds = max(found.items(), key=lambda item: item[1])
    row.figure += f": {what}, of {len(found)} bodies and replies"
    return [row.fill([(milliseconds, 0.0)])]


def longest_of(output: str) -> dict[str, float]:
    """Milliseconds of each body or reply: of its attempts the shortest, as what blocks the loop does so each time."""
    found: dict[str, float] = {}
    for milliseconds, name in _LINE.findall(output):
        found[name] = min(float(milliseconds), found.get(name, float("inf")))
    return found
