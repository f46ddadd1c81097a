"""One measurement: runs a load in a separate process and reads the CPU time that the server spent on it."""

import json
import subprocess
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from bench.load import Load, Result
from bench.processes import ENVIRONMENT, BenchError, Server, process, python

CASES_PER_REQUEST = 1000

Contenders = Mapping[str, Callable[[int], "Measured"]]


@dataclass
class Measured:
    """CPU seconds of a server and of its PostgreSQL during a load, and the result of the load."""

    cpu: float
    postgres: float
    result: Result

    def per_gb(self) -> tuple[float, float]:
        """CPU seconds per 10⁹ bytes of requests: (server, PostgreSQL)."""
        return self.cpu / self.result.request_bytes * 1e9, self.postgres / self.result.request_bytes * 1e9

    def per_request(self) -> tuple[float, float]:
        """CPU milliseconds per request: (server, PostgreSQL)."""
        return self.cpu / self.result.requests * 1e3, self.postgres / self.result.requests * 1e3


def measure(server: Server, load: Load) -> Measured:
    """Runs one load. Raises BenchError for a wrong or missing reply, or a stored file with wrong bytes."""
    with process(f"the load on {server.name}", python("bench.load")) as running:
        _send_line(running, json.dumps(asdict(load)))
        if _read_line(running, server, load) != "ready":
            raise BenchError(f"the load on {server.name} did not start")
        before = server.cpu(), server.postgres_cpu()
        _send_line(running, "go")
        result = Result(**json.loads(_read_line(running, server, load)))
        measured = Measured(server.cpu() - before[0], server.postgres_cpu() - before[1], result)
        if load.sample:
            _send_line(running, "check")
            _read_line(running, server, load)
    return measured


def in_turn(rounds: int, requests: int, contenders: Contenders) -> dict[str, list[Measured]]:
    """Runs the contenders in turn in each round, so that machine load affects all alike. Warms up with 10 % first."""
    for run in contenders.values():
        run(min(requests, max(10, requests // 10)))
    found: dict[str, list[Measured]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            found[name].append(run(requests))
    return found


def values_of(
    found: Mapping[str, list[Measured]], value: Callable[[Measured], float | tuple[float, float]]
) -> dict[str, list[tuple[float, float]]]:
    """The value of each contender and round, in the form of Row.fill: (server, PostgreSQL or 0.0)."""
    plain = {name: [value(measured) for measured in each] for name, each in found.items()}
    return {name: [v if isinstance(v, tuple) else (v, 0.0) for v in each] for name, each in plain.items()}


def insert_alone(dsn: str, steps: int, cases: list[str]) -> Measured:
    """Measures the script insert.py: it inserts steps for all cases but the first, without a server."""
    command = python("bench.insert", dsn, str(steps))
    done = subprocess.run(
        command, input=json.dumps(cases), capture_output=True, text=True, env=ENVIRONMENT, timeout=300
    )
    if done.returncode:
        raise BenchError(f"bench.insert ended with {done.returncode}: {done.stderr[-2000:]}")
    return Measured(float(done.stdout), 0.0, Result(requests=len(cases) - 1))


def make_run(server: Server) -> str:
    """Creates a suite run in reportd; its URL path."""
    return f"/api/v1/reports/suite-runs/{call(server, 'POST', '/api/v1/reports/suite-runs', {'name': 'bench'})['id']}"


def make_cases(server: Server, count: int, steps: int = 0) -> list[str]:
    """Creates test case results in reportd, each with `steps` steps; their URL paths."""
    run = make_run(server)
    paths: list[str] = []
    while len(paths) < count:
        body = {"test_cases": [{"name": f"case {i}"} for i in range(min(count - len(paths), CASES_PER_REQUEST))]}
        made = call(server, "POST", f"{run}/test-cases/bulk", body)
        paths += [f"/api/v1/reports/test-case-results/{case['id']}" for case in made["test_cases"]]
    if steps:
        targets = [f"{path}/steps" for path in paths]
        measure(server, Load(server.port, "steps", targets, count, server.token, steps=steps, sample=1))
    return paths


def call(server: Server, method: str, path: str, body: Any = None) -> Any:
    """Sends one request; the decoded JSON of the reply."""
    return json.loads(fetch(server, method, path, body) or b"null")


def fetch(server: Server, method: str, path: str, body: Any = None) -> bytes:
    """Sends one request; the body of the reply."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
    request.add_header("Authorization", f"Bearer {server.token}")
    try:
        with urllib.request.urlopen(request, json.dumps(body).encode() if body is not None else None) as reply:
            return bytes(reply.read())
    except OSError as error:
        raise BenchError(f"{server.name}: {method} {path}: {error}") from None


def _send_line(running: subprocess.Popen[str], line: str) -> None:
    assert running.stdin
    with suppress(BrokenPipeError):  # it has ended; its error output is read next
        running.stdin.write(line + "\n")
        running.stdin.flush()


def _read_line(running: subprocess.Popen[str], server: Server, load: Load) -> str:
    assert running.stdout
    line = running.stdout.readline().strip()
    if not line:
        running.wait(60)
        raise BenchError(f"{load.requests} × {load.kind} to {server.name} failed")
    return line
