"""`reportd serve`: graceful shutdown with one worker and with two, start-up errors, and listening addresses."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.up_server import CHECKOUT, PATIENCE, half_an_upload, reportd, serving, wait_for

WAYS = {
    "one worker, SIGTERM": ("1", signal.SIGTERM),
    "one worker, SIGINT": ("1", signal.SIGINT),
    "two workers, SIGTERM": ("2", signal.SIGTERM),
    "two workers, SIGINT": ("2", signal.SIGINT),
}


def receive(sock: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # connected but never accepted; the next attempt is refused
    return False


@pytest.mark.parametrize("way", WAYS)
def test_an_upload_in_progress_is_finished(tmp_path, dsn, make_token, way):
    workers, number = WAYS[way]
    with (
        serving(tmp_path / "data", dsn, make_token(), "--workers", workers) as server,
        half_an_upload(server) as (sock, rest),
    ):
        if number == signal.SIGINT:
            os.killpg(server.process.pid, number)  # like Ctrl-C in a terminal: to the whole process group
        else:
            server.process.send_signal(number)
        wait_for(lambda: refuses(server.port))
        sock.sendall(rest)
        answer = receive(sock)
        assert answer.startswith(b"HTTP/1.1 201 "), answer
        assert b"\r\nConnection: close\r\n" in answer
        assert server.process.wait(PATIENCE) == 0
        assert server.staged() == []
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("way", WAYS)
def test_more_signals_while_the_process_ends_do_not_change_its_exit_code(tmp_path, dsn, make_token, way):
    """Someone presses Ctrl-C twice, or two programs stop it: its end is as regular as with one."""
    workers, number = WAYS[way]
    with serving(tmp_path / "data", dsn, make_token(), "--workers", workers) as server:
        assert insist(server.process, number) == 0
        assert "Traceback" not in server.log.read_text()


def insist(process: subprocess.Popen[bytes], number: int) -> int:
    """Sends the signal every millisecond until the process has ended, and returns its exit code."""

    def has_ended() -> bool:
        process.send_signal(number)
        return process.poll() is not None

    wait_for(has_ended, pause=0.001)
    return process.returncode


def test_a_reply_to_a_slow_client_is_finished(tmp_path, dsn, make_token):
    """The request stays in progress until the client has received the whole reply."""
    with serving(tmp_path / "data", dsn, make_token()) as server:
        run = server.ask_json("POST", "/api/v1/reports/suite-runs", {"name": "x"}, status=201)["id"]
        case = server.ask_json("POST", f"/api/v1/reports/suite-runs/{run}/test-cases", {"name": "x"}, status=201)["id"]
        logs = f"/api/v1/reports/test-case-results/{case}/console-logs"
        for _ in range(2):
            entries = [{"level": "info", "message": "x" * 100_000} for _ in range(100)]
            server.ask_json("POST", logs, {"entries": entries}, status=201)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
            sock.settimeout(PATIENCE)
            sock.connect(("127.0.0.1", server.port))
            head = f"GET {logs}?per_page=500 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n\r\n"
            sock.sendall(head.encode())
            begun = sock.recv(1000)
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: refuses(server.port))
            time.sleep(7)  # longer than _LAST_SECONDS of serve.py, after which a cancelled request is cut off
            answer = begun + receive(sock)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"Transfer-Encoding: chunked" in head and body.endswith(b"\r\n0\r\n\r\n") and len(body) > 20_000_000
        assert server.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_failed_start_prints_one_sentence(tmp_path, dsn, workers):
    own = {"REPORTD_DATABASE_DSN": dsn, "REPORTD_ARTIFACTS_STORAGE_PATH": str(tmp_path / "files")}
    serve = ["serve", "--workers", workers]
    (tmp_path / "file").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        tried = [
            (
                reportd(*serve, "--port", port, **own),
                f"Cannot listen on 127.0.0.1, port {port}: Address already in use. "
                "Choose another port with --port or [server] port.",
            ),
        ]
    for host, reason in {
        "192.0.2.1": "Cannot assign requested address",
        "nowhere.invalid": "",
        "a..b": "",
        "x" * 64: "",
    }.items():
        done = reportd(*serve, "--host", host, "--port", "0", **own)
        tried.append((done, f"Cannot listen on {host}, port 0: {reason}"))
        assert done.stderr.endswith(". Choose another address with --host or [server] host.\n")
    own["REPORTD_ARTIFACTS_STORAGE_PATH"] = str(tmp_path / "file" / "x")
    sentence = f"Cannot use the storage folder {tmp_path}/file/x: Not a directory. Correct [artifacts] storage_path."
    tried.append((reportd(*serve, "--port", "0", **own), sentence))
    for done, sentence in tried:
        assert (done.returncode, done.stdout) == (1, "")
        size, last = done.stderr.splitlines()
        assert " database connections" in size
        assert last.startswith(f"reportd: {sentence}")


def test_a_wrong_number_of_workers_is_refused():
    for number in ("0", "x", "-1", "1.5"):
        done = reportd("serve", "--workers", number)
        assert done.returncode == 2 and "argument --workers: must be 1 or more" in done.stderr
    done = reportd("serve", "--workers", "257")
    assert (done.returncode, done.stderr) == (1, "reportd: server.workers: must be at most 256\n")


def test_the_server_listens_on_every_address_of_a_host_name(tmp_path, dsn, make_token):
    with serving(tmp_path / "data", dsn, make_token(), "--host", "localhost") as server:
        assert server.ask("GET", "/healthz").status == 200
        assert "INFO reportd: 1 worker, 10 database connections\n" in server.log.read_text()


def test_the_command_does_not_import_prometheus_client():
    """At its import it reads once whether several processes share their metrics, which is set later."""
    code = "import sys, server.commands.main; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, timeout=PATIENCE).returncode == 0
