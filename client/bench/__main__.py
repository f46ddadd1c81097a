"""`make bench-client`: what the client costs the tests, and how fast it sends. Prints a table for each goal.

    python -m bench [--tests 1000] [--server PYTHON]

The server runs on the same machine with its defaults (durability = full). Times are medians of 5 unless a row says
otherwise; on a machine that does other work they are larger.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Callable

from reportd_client.mask import Masks
from reportd_client.notes import Notes
from reportd_client.runs import Recorder, make_run
from reportd_client.spool import Spool
from tests.images import _chunk
from tests.server import API, Reports

HERE = Path(__file__).parent.parent
PNG_BYTES = 150_000
ROWS: list[tuple[str, str, str]] = []


def row(what: str, goal: str, measured: str) -> None:
    ROWS.append((what, goal, measured))
    print(f"{what:<66} {goal:<26} {measured}", flush=True)


def picture(number: int) -> bytes:
    """A PNG of about 150 KB with bytes of its own."""
    data = random.Random(number).randbytes(PNG_BYTES - 100)  # noqa: S311
    head = (200).to_bytes(4, "big") + (187).to_bytes(4, "big") + bytes([8, 6, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(data, 0)) + _chunk(b"IEND", b"")


def median(work: Callable[[], float], times: int = 5) -> float:
    return statistics.median(work() for _ in range(times))


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


# --- the start of pytest ---


def imports(module: str) -> float:
    """CPU seconds that importing a module adds to a process that has pytest."""
    code = "import time, pytest, subprocess, json, logging; t = time.process_time(); "
    code += f"import {module}; print(time.process_time() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def start_of_pytest() -> None:
    row(
        "plugin not asked for: CPU added to pytest's start",
        "<= 1 ms",
        milliseconds(median(lambda: imports("reportd_client.pytest_plugin"))),
    )
    both = median(lambda: imports("reportd_client.pytest_plugin.session"))
    row("plugin on: CPU added to pytest's start by imports", "<= 25 ms", milliseconds(both))


# --- on the path of a test ---


def recorder(folder: Path) -> Recorder:
    return Recorder(Spool.create(folder, {"url": None, "run": {"name": "bench"}}), Notes(), Masks())


def one_test(target: Recorder, name: str, pictures: list[bytes]) -> float:
    from reportd_client.tests import Test

    started = time.perf_counter()
    with Test(target, name, None, 1) as test:
        for i in range(10):
            with test.step(f"Click button {i}", selector=f"#button-{i}") as step:
                if i < len(pictures):
                    step.screenshot(pictures[i])
    return time.perf_counter() - started


def on_the_path(folder: Path) -> None:
    target = recorder(folder)
    times = sorted(one_test(target, f"test {i}", []) for i in range(2000))
    row("a test of 10 steps, p50", "<= 0.5 ms", milliseconds(times[1000]))
    row("a test of 10 steps, p99", "<= 2 ms", milliseconds(times[1980]))
    numbers = iter(range(1_000_000))
    with_files = sorted(one_test(target, "t", [picture(next(numbers)) for _ in range(5)]) for _ in range(100))
    row("with 5 screenshots of 150 KB, p50", "<= 5 ms", milliseconds(with_files[50]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(10_000):
        one_test(target, f"test {i}", [])
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    row("growth of the test process over 10,000 tests", "<= 2 MiB", f"{grown:.1f} MiB")


def empty_tests(folder: Path, server: Reports) -> None:
    (folder / "test_empty.py").write_text(
        "import pytest\n@pytest.mark.parametrize('n', range(2000))\ndef test_n(n): pass\n"
    )
    environment = {**os.environ, "REPORTD_TOKEN": server.token}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]

    def run(*arguments: str) -> float:
        started = time.perf_counter()
        subprocess.run([*command, *arguments], env=environment, cwd=folder, check=True, capture_output=True)
        return time.perf_counter() - started

    off = median(run, 3)
    on = median(lambda: run(f"--reportd={server.url}"), 3)
    nowhere = median(lambda: run("--reportd=http://127.0.0.1:1"), 3)
    row(
        "2,000 empty tests, plugin on against off, with the end (of 3)",
        "<= +10 %, <= 0.6 ms each",
        f"{on / off - 1:+.0%}, {(on - off) / 2:.2f} ms each",
    )
    row("server never there: added to the whole session (of 3)", "<= 2 s + the sender's stop", f"{nowhere - off:.1f} s")


# --- sending ---


def spooled(folder: Path, tests: int, key: str) -> Path:
    run = make_run(Notes(), sender="none", spool=folder, url="http://127.0.0.1:1", run_key=key)
    with run:
        for i in range(tests):
            one_test(run.recorder, f"test {i}", [picture(5 * i + n) for n in range(5)])
    assert run.spool is not None
    return run.spool.folder


def sent(folder: Path, server: Reports, keep: bool) -> tuple[float, int, dict[str, object]]:
    """Seconds, peak memory of the sender in MiB, and its receipt; by a process of its own."""
    command = [sys.executable, "-m", "bench.one", str(folder), server.url + API, "keep" if keep else "remove"]
    environment = {**os.environ, "REPORTD_TOKEN": server.token}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=HERE, env=environment)
    seconds, memory, receipt = json.loads(done.stdout)
    return seconds, memory, receipt


def sending(folder: Path, server: Reports, tests: int) -> None:
    size = f"{tests:,} tests x 10 steps x 5 screenshots ({tests * 5 * PNG_BYTES / 1e6:.0f} MB)"
    first = spooled(folder / "first", tests, "bench-1")
    seconds, memory, receipt = sent(first, server, keep=True)
    row(f"{size}: time", "<= 15 s for 1,000", f"{seconds:.1f} s, {receipt['bytes_sent'] / 1e6:.0f} MB")  # type: ignore[operator]
    row("  requests", "<= 1,100 for 1,000", f"{receipt['requests']}")
    row("  memory of the sender", "<= 80 MiB", f"{memory} MiB")
    (first / "receipts.jsonl").unlink()
    seconds, _, again = sent(first, server, keep=False)
    row(
        "the same after lost receipts: new tests, new files",
        "0, 0",
        f"{again['tests_new']}, {again['files_new']} ({seconds:.1f} s)",
    )
    seconds, _, second = sent(spooled(folder / "second", tests, "bench-2"), server, keep=False)
    share = second["bytes_sent"] / receipt["bytes_sent"]  # type: ignore[operator]
    row("a second identical run: bytes sent, time", "<= 1 %, <= 5 s for 1,000", f"{share:.2%}, {seconds:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=1000)
    options = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"commit {commit}, Python {platform.python_version()}, {os.cpu_count()} CPUs, load {load}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start_of_pytest()
        on_the_path(folder / "path")
        server = Reports(folder / "data")
        try:
            empty_tests(folder, server)
            sending(folder, server, options.tests)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
