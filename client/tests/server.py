"""A real server for the tests, started as a user does, and a proxy before it that does what a script says.

The server is that of the checkout, run by the interpreter REPORTD_SERVER_PYTHON: the client's environment has none of
its packages.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent.parent
PYTHON = os.environ.get("REPORTD_SERVER_PYTHON") or str(CHECKOUT / ".venv/bin/python")
API = "/api/v1/reports"
PATIENCE = 120.0


class Reports:
    """A running server: `url`, `token`, and reads of what it has."""

    def __init__(self, data: Path, port: int = 0) -> None:
        self.data = data
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("REPORTD_", "ARTIFACT_"))}
        command = [PYTHON, "-m", "server", "up", "--data", str(data), "--port", str(port)]
        self._log = (data.parent / f"{data.name}.log").open("ab")
        (data / "server.json").unlink(missing_ok=True)  # of a server that was killed: it would pass for the new one
        self.process = subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        wait_until(lambda: (data / "server.json").exists() or self.process.poll() is not None)
        assert self.process.poll() is None, (data.parent / f"{data.name}.log").read_text()
        self.url = json.loads((data / "server.json").read_text())["url"]
        self.token = (data / "admin-token").read_text().strip()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        self._log.close()

    def get(self, path: str):
        return self.json(API + path)

    def json(self, path: str):
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)

    def post(self, path: str, value, method: str = "POST"):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = json.dumps(value).encode()
        request = urllib.request.Request(self.url + API + path, data, headers, method=method)
        with urllib.request.urlopen(request) as reply:
            return json.loads(reply.read() or b"null")

    def features(self):
        """What GET /limits names; an older server does not have it."""
        try:
            return self.get("/limits")["features"]
        except urllib.error.HTTPError:
            return []

    def runs(self):
        return self.get("/suite-runs?limit=100")["items"]

    def run(self, run_id=None):
        """The one run of this name, with its tests, each with everything that belongs to it."""
        run = self.get(f"/suite-runs/{run_id}")
        run["tests"] = [self.test(case["id"]) for case in self.cases(run_id)]
        return run

    def cases(self, run_id):
        return self.get(f"/suite-runs/{run_id}/test-cases?per_page=500")["items"]

    def test(self, case_id):
        report = self.get(f"/test-case-results/{case_id}/report")
        test = report["test_case_result"]
        test.update({name: report[name] for name in ("steps", "artifacts", "checkpoints")})
        for name in ("console", "network"):
            test[name] = self.get(f"/test-case-results/{case_id}/{name}-logs?per_page=500")["items"]
        return test

    def bytes_of(self, artifact) -> bytes:
        path = f"{self.url}{API}/artifacts/{artifact['id']}/download"
        request = urllib.request.Request(path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request) as reply:
            return reply.read()


class Proxy:
    """Passes requests on to a server. `script` decides about each: it gets (method, path) and returns None to pass it
    on, a status (with an optional body and headers) to answer itself, `cut` to pass it on and drop the answer, `drop`
    to close the connection without an answer. `seen` has every request. Requests come in parallel: a script finds the
    body of its own in `body`, while the last of `bodies` may be that of another; and in `number` which one it is of the
    requests with its method and path, from 1.

    `older`: the server is one without /limits and what it names. `forgets`: it has no Idempotency-Keys any more, as
    after they were swept. `certificate`: it is spoken to by https."""

    def __init__(self, target: str, port: int = 0, certificate: ssl.SSLContext | None = None) -> None:
        self.target, self.script, self.seen = target, lambda method, path: None, []
        self.bodies: list[tuple[str, bytes]] = []
        self._here = threading.local()
        self._counting, self._counts = threading.Lock(), Counter[tuple[str, str]]()
        self.delay = 0.0
        self.older = self.forgets = False
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                with suppress(OSError):
                    proxy.handle(self)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self._server.server_port}"
        if certificate:
            self._server.socket = certificate.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def body(self) -> bytes:
        """Of the request that the script is called for."""
        return self._here.body

    @property
    def number(self) -> int:
        """Of the request that the script is called for."""
        return self._here.number

    def handle(self, request) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(length)
        if len(body) < length:  # the client has broken off: so does the proxy
            request.close_connection = True
            return
        path = request.path.removeprefix(API)
        self.seen.append((request.command, path))
        self.bodies.append((path, body))
        with self._counting:
            self._counts[request.command, path] += 1
            self._here.body, self._here.number = body, self._counts[request.command, path]
        time.sleep(self.delay)
        action = 404 if self.older and path == "/limits" else self.script(request.command, path)
        if action == "drop":
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
            return
        if action is not None and action != "cut":
            status, value, headers = (*action, {}, {})[:3] if isinstance(action, tuple) else (action, {}, {})
            _reply(request, status, value if isinstance(value, bytes) else json.dumps(value).encode(), headers)
            return
        connection = http.client.HTTPConnection(self.target.removeprefix("http://"), timeout=60)
        try:
            removed = ("host", "connection", *(["idempotency-key"] if self.forgets else []))
            headers = {k: v for k, v in request.headers.items() if k.lower() not in removed}
            connection.request(request.command, request.path, body, headers)
            reply = connection.getresponse()
            data = reply.read()
        except OSError:
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
            return
        finally:
            connection.close()
        if action == "cut":
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
            return
        passed = ("content-type", "retry-after", "idempotent-replayed")
        kept = {k: v for k, v in reply.getheaders() if k.lower() in passed}
        _reply(request, reply.status, data, kept)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _reply(request, status, data, headers) -> None:
    request.send_response(status)
    for name, value in {"Content-Type": "application/json", **headers}.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)


def wait_until(condition, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


_HELD = []


def free_port() -> int:
    """A port on which nobody listens. It stays reserved while this process runs: nobody gets it by chance. A server of
    the test can still listen on it, since both sockets have SO_REUSEADDR and only one of them listens."""
    _HELD.append(socket.socket())
    _HELD[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _HELD[-1].bind(("127.0.0.1", 0))
    return _HELD[-1].getsockname()[1]


PACKAGE = str(CHECKOUT / "client")
_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("REPORTD_") and k not in _CERTIFICATES}


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process with these settings."""
    return subprocess.run(
        [sys.executable, "-c", code], env={**CLEAN, **environment}, capture_output=True, text=True, timeout=PATIENCE
    )
