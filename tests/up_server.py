"""Runs `reportd up` and `reportd serve` as separate processes, as a user does.

Test files import the fixture `up_server`.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from server.commands.up import postgres
from server.database.embedded import Postgres
from tests.makers import png

CHECKOUT = Path(__file__).parent.parent
REPORTD = [sys.executable, "-m", "server"]
# Without the settings of the shell that runs the tests.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("REPORTD_", "ARTIFACT_"))}
Part = tuple[str, str] | tuple[str, str, bytes, str]  # (name, value) or (name, file name, bytes, type)
PATIENCE = 120.0  # seconds; only a deadline, so that tests also pass on a very busy machine


_SHARED = pytest.StashKey["UpServer"]()


def staged(storage: Path) -> list[Path]:
    """The staged files: those of requests in progress. Unlike glob(), also while a server removes staging folders."""
    top = storage / ".staging"
    return [Path(folder, name) for folder, _, names in os.walk(top) if Path(folder) != top for name in names]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class UpServer:
    """A server that has printed that it is ready. Its stdout is in `output`, its log (stderr) in `log`."""

    data: Path
    process: subprocess.Popen[bytes]
    url: str
    token: str
    output: Path
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def staged(self) -> list[Path]:
        """The staged files of in-flight requests."""
        return staged(self.data / "artifacts")

    @property
    def postgres(self) -> Postgres:
        return postgres(self.data)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Send a request with the token. Headers are given like `Content_Type="…"`; an empty value omits the header."""
        headers = {"Authorization": f"Bearer {self.token}", **headers}
        named = {name.replace("_", "-"): value for name, value in headers.items() if value}
        request = urllib.request.Request(self.url + path, body, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return Reply(reply.status, reply.headers, reply.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return Reply(refused.code, refused.headers, refused.read())

    def ask_json(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """Send and receive JSON. The reply must have this status."""
        sent = None if body is None else json.dumps(body).encode()
        reply = self.ask(method, path, sent, Content_Type="application/json")
        assert reply.status == status, (method, path, reply.status, reply.body)
        return reply.json()

    def send(self, path: str, *parts: Part, status: int = 201) -> Any:
        """Send a multipart form and return the JSON reply. The reply must have this status."""
        body, content_type = multipart(*parts)
        reply = self.ask("POST", path, body, Content_Type=content_type)
        assert reply.status == status, (path, reply.status, reply.body)
        return reply.json()

    def rows(self, query: str, *parameters: Any) -> list[Any]:
        """The rows of a query in the server's database, as tuples."""
        with psycopg.connect(self.postgres.dsn(), autocommit=True) as connection:
            return connection.execute(query, parameters).fetchall()


def multipart(*parts: Part) -> tuple[bytes, str]:
    """The body of a multipart form, and its Content-Type."""
    boundary, body = uuid.uuid4().hex, b""
    for name, value, *file in parts:
        file_name = f'; filename="{value}"\r\nContent-Type: {file[1]}' if file else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file_name}\r\n\r\n'
        body += head.encode() + (file[0] if file else value.encode()) + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def launch(data: Path, *options: str, prefix: Sequence[str] = ()) -> tuple[subprocess.Popen[bytes], Path, Path]:
    """Start `reportd up` on a free port: the process, the file of its stdout and the file of its log."""
    output, log = data.with_name(f"{data.name}.out"), data.with_name(f"{data.name}.log")
    with output.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(
            [*prefix, *REPORTD, "up", "--data", str(data), "--port", "0", *options],
            cwd=CHECKOUT,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,  # a process group of its own, so a test can signal it as a terminal would
        )
    return process, output, log


def start_up(data: Path, *options: str, prefix: Sequence[str] = ()) -> UpServer:
    """Start `reportd up` and return when it is ready. The caller must end or kill the process."""
    process, output, log = launch(data, *options, prefix=prefix)
    try:
        announced = wait_for(lambda: announcement(data, process, log), log.read_text)
        token = (data / "admin-token").read_text().strip()
    except BaseException:
        end(process)
        raise
    return UpServer(data, process, announced["url"], token, output, log)


def announcement(data: Path, process: subprocess.Popen[bytes], log: Path) -> Any:
    """The content of server.json, or None while it is missing or was left by an earlier, killed process."""
    assert process.poll() is None, f"reportd up ended with {process.returncode}: {log.read_text()}"
    with suppress(FileNotFoundError):
        announced = json.loads((data / "server.json").read_text())
        if announced["pid"] == process.pid:
            return announced
    return None


@contextmanager
def serving(
    data: Path, dsn: str, token: str, *options: str, prefix: Sequence[str] = (), **environment: str
) -> Iterator[UpServer]:
    """Run `reportd serve` on an existing database until the block ends. Its storage folder is `data`/artifacts."""
    output, log = data.with_name(f"{data.name}.out"), data.with_name(f"{data.name}.log")
    own = {"REPORTD_DATABASE_DSN": dsn, "REPORTD_ARTIFACTS_STORAGE_PATH": str(data / "artifacts")}
    with output.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(
            [*prefix, *REPORTD, "serve", "--port", "0", *options],
            cwd=CHECKOUT,
            env={**ENVIRONMENT, **own, **environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )

    def ready_line() -> Any:
        assert process.poll() is None, f"reportd serve ended with {process.returncode}: {log.read_text()}"
        return re.search(r"ready at (http://\S+)\n", output.read_text())

    try:
        yield UpServer(data, process, wait_for(ready_line, log.read_text)[1], token, output, log)
    finally:
        end(process)


@contextmanager
def half_an_upload(server: UpServer) -> Iterator[tuple[socket.socket, bytes]]:
    """A connection that has sent the first half of an upload to a new test case, and the bytes still to be sent."""
    base = "/api/v1/reports"
    run = server.ask_json("POST", f"{base}/suite-runs", {"name": "nightly"}, status=201)["id"]
    case = server.ask_json("POST", f"{base}/suite-runs/{run}/test-cases", {"name": "x"}, status=201)["id"]
    picture = png(1700, 1700)  # half of it is more than a window of server/uploads/receive.py, so some of it is staged
    body, content_type = multipart(("file", "a.png", picture, "image/png"), ("artifact_type", "screenshot"))
    head = (
        f"POST {base}/test-case-results/{case}/artifacts HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {server.token}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    half = len(body) // 2
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(head.encode() + body[:half])
        wait_for(lambda: any(path.stat().st_size for path in server.staged()), server.log.read_text)
        yield sock, body[half:]


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """Send the signal if the process still runs, wait for it, and return its exit code. Kill it after PATIENCE."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], Any], explain: Callable[[], str] = str, pause: float = 0.02) -> Any:
    """Wait until the condition is true and return its value. `pause` between two looks, in seconds."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, explain()
        time.sleep(pause)
    return found


@contextmanager
def running(data: Path, *options: str, prefix: Sequence[str] = ()) -> Iterator[UpServer]:
    """Run `reportd up` on a folder until the block ends. Ends the server and its PostgreSQL in any case."""
    server = start_up(data, *options, prefix=prefix)
    try:
        yield server
    finally:
        end(server.process)
        server.postgres.stop()


def reportd(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run any other `reportd` command to its end."""
    return subprocess.run(
        [*REPORTD, *arguments],
        cwd=CHECKOUT,
        env={**ENVIRONMENT, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture(scope="session")
def up_server(request, tmp_path_factory) -> UpServer:
    """One `reportd up`, shared by all tests that leave it running. Its folder has a name that a shell must quote."""
    # pytest creates the fixture once per module that imports it. The stash keeps one server for all of them.
    stash = request.config.stash
    if _SHARED not in stash:
        server = running(tmp_path_factory.mktemp("up") / "it's a folder")
        stash[_SHARED] = server.__enter__()
        request.session.addfinalizer(lambda: server.__exit__(None, None, None))
    return stash[_SHARED]
