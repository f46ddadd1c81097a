"""Starts what is measured, and reads how much CPU time it took."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """A running server: where it listens, its own process and PostgreSQL's postmaster, if it has one."""

    port: int
    pid: int
    token: str = ""
    postgres_pid: int = 0

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One JSON call."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, json.dumps(body).encode() if body is not None else None) as reply:
            return json.loads(reply.read() or b"null")

    def make_cases(self, count: int) -> list[str]:
        """Addresses of new test case results."""
        run = self.call("POST", "/api/v1/reports/suite-runs", {"name": "bench"})["id"]
        body = {"test_cases": [{"name": f"case {i}"} for i in range(count)]}
        made = self.call("POST", f"/api/v1/reports/suite-runs/{run}/test-cases/bulk", body)["test_cases"]
        return [f"/api/v1/reports/test-case-results/{case['id']}" for case in made]


def cpu_seconds(pid: int, children: bool = False) -> float:
    """User and system time that a process has used, with `children` also that of its live and ended ones."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    total = sum(map(int, fields[11:15] if children else fields[11:13])) / _TICKS
    if children:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += sum(cpu_seconds(int(child)) for child in (thread / "children").read_text().split())
    return total


@contextmanager
def reportd(folder: Path, durability: str = "none") -> Iterator[Server]:
    """`reportd up` with everything on; without fsync where the table says so."""
    config = folder / "bench.toml"
    config.write_text(f'[artifacts]\ndurability = "{durability}"\n[log]\nlevel = "warning"\n')
    command = [sys.executable, "-m", "server", "up", "--data", str(folder / "data"), "--port", "0"]
    process = subprocess.Popen([*command, "--config", str(config)], stdout=subprocess.DEVNULL)
    try:
        announced = _await(folder / "data/server.json", process)
        token = (folder / "data/admin-token").read_text().strip()
        postgres = int((folder / "data/postgres/data/postmaster.pid").read_text().split()[0])
        yield Server(int(announced["url"].rpartition(":")[2]), process.pid, token, postgres)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextmanager
def floor(folder: Path) -> Iterator[Server]:
    """The physical limit; see floor.py."""
    command = [sys.executable, "-m", "bench.floor", str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    try:
        yield Server(int(process.stdout.readline()), process.pid)
    finally:
        process.stdin.close()
        process.wait(60)


def _await(path: Path, process: subprocess.Popen[bytes]) -> Any:
    for _ in range(600):
        if path.exists():
            return json.loads(path.read_text())
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        time.sleep(0.1)
    raise RuntimeError("the server did not start within 60 s")
