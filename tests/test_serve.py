"""A server that is told to stop finishes what is in progress, and takes nothing new."""

import socket
import time

import pytest

from tests.makers import png
from tests.up_server import multipart, running, wait_for

BASE = "/api/v1/reports"


def receive(sock: socket.socket) -> bytes:
    """Everything until the server closes the connection."""
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """What a client got whose upload was in progress when SIGTERM came, and the server's exit code."""
    data = tmp_path_factory.mktemp("serve") / "data"
    with running(data, "--port", "0") as server:
        run = server.ask_json("POST", f"{BASE}/suite-runs", {"name": "nightly"}, status=201)["id"]
        case = server.ask_json("POST", f"{BASE}/suite-runs/{run}/test-cases", {"name": "x"}, status=201)["id"]
        body, content_type = multipart(("file", "a.png", png(300, 300), "image/png"), ("artifact_type", "screenshot"))
        port = int(server.url.rpartition(":")[2])
        head = (
            f"POST {BASE}/test-case-results/{case}/artifacts HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {server.token}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
            sock.sendall(head.encode() + body[:1000])
            staged = data / "artifacts/.staging"
            time.sleep(0.3)  # the request is in the server's hands by now
            server.process.terminate()
            wait_for(lambda: refuses(port))
            sock.sendall(body[1000:])
            answer = receive(sock)
        yield answer, server.process.wait(60), list(staged.rglob("*")) if staged.exists() else []


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_an_upload_in_progress_is_finished(stopped):
    answer, code, _ = stopped
    assert answer.startswith(b"HTTP/1.1 201 "), answer
    assert code == 0


def test_its_connection_is_closed_and_nothing_stays(stopped):
    answer, _, staged = stopped
    assert b"\r\nConnection: close\r\n" in answer
    assert [path for path in staged if path.is_file()] == []
