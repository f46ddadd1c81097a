"""The sender as a process of its own, and the command that continues it: kills, tokens, certificates, proxies."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from reportd_client import limits
from reportd_client.spool import spools_in

from tests.images import png
from tests.server import API, CLEAN, PATIENCE, Proxy, Reports, free_port, python, wait_until

WORK = """
import os, sys, time, signal
import reportd_client as reportd
with reportd.run(name="nightly", spool={spool!r}) as run:
    for i in range({tests}):
        with run.test(f"test {{i}}", test_id=f"tests/{{i}}") as test, test.step("a") as s:
            s.screenshot({png!r} + bytes([i]))
            {during}
print(run.receipt)
"""
IMAGE = png(1)


def work(tmp_path, during="pass", tests=5):
    return WORK.format(spool=str(tmp_path / "spool"), tests=tests, during=during, png=IMAGE)


def command(*arguments, **environment):
    """`reportd-send` with these settings."""
    code = "from reportd_client.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**CLEAN, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture
def settings(server):
    return {"REPORTD_URL": server.url, "REPORTD_TOKEN": server.token}


def wait_for_senders(folder):
    """Wait until no process sends from this folder."""
    wait_until(lambda: not any(str(folder) in line for line in senders()))


def senders():
    """The sender processes of these tests' spools."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                words = Path(f"/proc/{entry.name}/cmdline").read_bytes()
            except OSError:
                continue
            if b"reportd_client.sender" in words:
                found.append(words.decode())
    return found


def test_a_process_sends_and_ends(tmp_path, server, settings):
    done = python(work(tmp_path), **settings)
    assert "tests=5" in done.stdout and "spool=None" in done.stdout, done.stderr
    run_id = re.search(r"run_id='([^']+)'", done.stdout)[1]
    assert len(server.cases(run_id)) == 5
    assert spools_in(tmp_path / "spool") == []
    assert not any(str(tmp_path) in line for line in senders())


def test_a_killed_test_process_loses_nothing_that_has_ended(tmp_path, server, settings):
    done = python(work(tmp_path, "if i == 3: os.kill(os.getpid(), signal.SIGKILL)"), **settings)
    assert done.returncode == -signal.SIGKILL
    wait_for_senders(tmp_path)
    (folder,) = spools_in(tmp_path / "spool")
    resumed = command("resume", folder, **settings)
    assert resumed.returncode == 0, resumed.stderr
    run_id = resumed.stdout.split("/")[-1].strip()
    assert sorted((t["test_id"], t["status"]) for t in server.cases(run_id)) == [
        *((f"tests/{i}", "Passed") for i in range(3)),
        ("tests/3", "Pending"),
    ]
    again = command("resume", folder, **settings)
    assert again.returncode == 0 and "there is no such folder" in again.stdout


def test_a_killed_sender_is_continued(tmp_path, server, settings):
    find = "subprocess.run(['pgrep', '-f', run.spool.folder.name], capture_output=True).stdout.split()"
    kill = f"if i == 2: import subprocess; assert run.flush({PATIENCE}); [os.kill(int(p), 9) for p in {find}]"
    done = python(work(tmp_path, kill), **settings)
    assert "The sender ended early" in done.stdout, done.stderr
    resumed = command("resume", tmp_path / "spool", **settings)
    run_id = resumed.stdout.split("/")[-1].strip()
    assert sorted(t["test_id"] for t in server.cases(run_id)) == [f"tests/{i}" for i in range(5)]


def test_a_server_that_is_down_throughout(tmp_path, server, settings):
    """Nobody waits for it as long as for one that has answered."""
    down = {**settings, "REPORTD_URL": f"http://127.0.0.1:{free_port()}"}
    done = python(work(tmp_path, tests=2), **down, REPORTD_DRAIN=str(10 * PATIENCE))
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if "reportd-send resume" in line]
    folder = line.split()[-1]
    status = command("status", tmp_path / "spool")
    assert status.stdout.startswith(f"{folder}: nightly, ")
    still_down = command("resume", folder, "--timeout", "1", **down)
    assert still_down.returncode == 5 and "cannot be reached" in still_down.stderr
    resumed = command("resume", folder, **settings)
    assert resumed.returncode == 0 and "2 tests, 2 files (2 new)" in resumed.stdout


def test_a_server_that_is_killed_again_and_again(tmp_path):
    """SIGKILL to the server and its database, while requests are under way: nothing is lost, nothing is doubled."""
    port = free_port()
    reports = Reports(tmp_path / "data", port)
    settings = {"REPORTD_URL": reports.url, "REPORTD_TOKEN": reports.token, "REPORTD_DRAIN": str(5 * PATIENCE)}
    code = work(tmp_path, "time.sleep(0.02)", tests=150)
    process = subprocess.Popen([sys.executable, "-c", code], env={**CLEAN, **settings}, stdout=subprocess.PIPE)
    try:
        wait_until(reports.runs)  # a server that was never there is given up soon
        for _ in range(2):
            time.sleep(1.5)
            os.kill(reports.process.pid, signal.SIGKILL)
            reports.process.wait()
            reports._log.close()
            reports = Reports(tmp_path / "data", port)
        output = process.communicate(timeout=5 * PATIENCE)[0].decode()
        assert "tests=150" in output and "spool=None" in output, output
        (run,) = reports.runs()
        cases = reports.cases(run["id"])
        assert sorted(case["test_id"] for case in cases) == sorted(f"tests/{i}" for i in range(150))
        for case in cases[::10]:
            test = reports.test(case["id"])
            assert (len(test["steps"]), len(test["artifacts"])) == (1, 1)
    finally:
        process.kill()
        process.wait()
        reports.stop()


def test_the_token_is_in_no_process_list_and_no_log(tmp_path, server, settings, proxy):
    go_on = threading.Event()
    proxy.script = lambda method, path: go_on.wait(PATIENCE) and None if path.endswith("/bundle") else None
    code = work(tmp_path).replace("run(name=", f"run(token={server.token!r}, name=")
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; exec(sys.stdin.read())"],
        stdin=subprocess.PIPE,
        env={**CLEAN, "REPORTD_URL": proxy.url, "REPORTD_DRAIN": str(PATIENCE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdin.write(code.encode())
    process.stdin.close()
    process.stdin = None
    records = (tmp_path / "spool").glob
    wait_until(lambda: any(path.endswith("/bundle") for _, path in proxy.seen))
    wait_until(lambda: any(b'"kind":"end"' in path.read_bytes() for path in records("*/w-*")))
    lines = [line for line in senders() if str(tmp_path) in line]
    assert lines and not any(server.token in line for line in lines)
    (folder,) = spools_in(tmp_path / "spool")
    for path in folder.rglob("*"):
        assert not path.is_file() or server.token.encode() not in path.read_bytes()
    go_on.set()
    out, err = process.communicate(timeout=PATIENCE)
    assert b"tests=5" in out and server.token.encode() not in out + err


def test_a_sender_that_cannot_reach_the_end_is_ended(tmp_path, settings, proxy):
    """A server that accepts connections and never answers: nobody waits as long as a request does."""
    over = threading.Event()
    proxy.script = lambda method, path: over.wait(PATIENCE) and "drop"
    started = time.monotonic()
    done = python(work(tmp_path), **{**settings, "REPORTD_URL": proxy.url, "REPORTD_DRAIN": "1"})
    assert done.returncode == 0 and time.monotonic() - started < limits.READ_SECONDS
    assert "reportd-send resume" in done.stderr
    wait_for_senders(tmp_path)
    over.set()


def test_a_token_that_is_wrong(tmp_path, server):
    settings = {"REPORTD_URL": server.url, "REPORTD_TOKEN": "rpd_wrong_token_0123456789"}
    done = python(work(tmp_path), **settings)
    assert done.returncode == 0 and done.stderr.count("does not accept the token rpd_wron…") == 1, done.stderr
    (folder,) = spools_in(tmp_path / "spool")
    resumed = command("resume", folder, **settings)
    assert resumed.returncode == 6 and "rpd_wrong_token" not in resumed.stderr


def test_check(server, settings):
    done = command("check", **settings)
    assert done.returncode == 0
    assert f"Server: {server.url}{API}" in done.stdout and f"Token: {server.token[:8]}…" in done.stdout
    assert "Access: the token is accepted" in done.stdout and "s ahead of the server's" in done.stdout
    assert command("check", **{**settings, "REPORTD_TOKEN": "wrong"}).returncode == 6
    assert command("check").returncode == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"REPORTD_URL": "reports.example.com"}, "REPORTD_URL must be an address"),
        ({"REPORTD_URL": "https://a:b@x"}, "must not contain a password"),
        ({"REPORTD_URL": "http://x", "REPORTD_TOKEN_FILE": "/nowhere"}, "Cannot read REPORTD_TOKEN_FILE"),
        ({"REPORTD_URL": "http://x", "REPORTD_TOKEN": "a b"}, "has characters that no token has"),
        ({"REPORTD_URL": "https://x", "REPORTD_CA_FILE": "/nowhere"}, "REPORTD_CA_FILE (/nowhere) is no file"),
        ({"REPORTD_URL": "https://x", "REPORTD_INSECURE": "perhaps"}, "REPORTD_INSECURE must be 1 or 0"),
        ({"REPORTD_URL": "http://x", "HTTP_PROXY": "socks5://x"}, "is none that reportd-client can use"),
    ],
)
def test_wrong_settings_of_the_command(settings, words):
    done = command("check", **settings)
    assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr


# --- certificates and proxies ---


def certificate(folder, name="IP:127.0.0.1"):
    """A certificate for this name, signed by itself."""
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    kind = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test")
    files = ("-keyout", "key.pem", "-out", "ca.pem")
    command = ["openssl", "req", *kind, "-addext", f"subjectAltName={name}", *files]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def secure(server, authority):
    """A proxy that is spoken to by https."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "ca.pem", authority / "key.pem")
    with closing(Proxy(server.url, certificate=context)) as proxy:
        yield proxy


def test_a_certificate_of_the_own_authority(secure, authority, settings):
    settings = {**settings, "REPORTD_URL": secure.url}
    refused = command("check", **settings)
    assert refused.returncode == 1 and "Set REPORTD_CA_FILE" in refused.stderr
    for name in ("REPORTD_CA_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        assert command("check", **settings, **{name: str(authority / "ca.pem")}).returncode == 0, name
    insecure = command("check", **settings, REPORTD_INSECURE="1")
    assert insecure.returncode == 0 and "is not checked" in insecure.stderr


def test_a_certificate_of_another_authority_or_for_another_name(secure, authority, settings, tmp_path):
    settings = {**settings, "REPORTD_URL": secure.url}
    other = command("check", **settings, REPORTD_CA_FILE=str(certificate(tmp_path) / "ca.pem"))
    assert other.returncode == 1 and other.stderr.count("\n") == 1
    assert f"{secure.url}/api/v1/reports: its certificate is not accepted (self-signed certificate)" in other.stderr
    settings["REPORTD_URL"] = secure.url.replace("127.0.0.1", "localhost")
    name = command("check", **settings, REPORTD_CA_FILE=str(authority / "ca.pem"))
    assert name.returncode == 1 and name.stderr.count("\n") == 1 and "Hostname mismatch" in name.stderr, name.stderr
    assert secure.seen == []


@pytest.fixture
def forward_proxy(server):
    """An HTTP proxy that wants a password; `seen` has the requests that it got."""
    import http.client
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def is_allowed(self):
            forward.seen.append(self.path)
            if self.headers.get("Proxy-Authorization") == "Basic YW5uYTpwQHNz":  # anna:p@ss
                return True
            self.send_response(407)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False

        def do_CONNECT(self):
            host, _, port = self.path.partition(":")
            if self.is_allowed():
                self.send_response(200)
                self.end_headers()
                with socket.create_connection((host, int(port))) as far:
                    threading.Thread(target=pump, args=(far, self.connection), daemon=True).start()
                    pump(self.connection, far)

        def do_GET(self):
            if not self.is_allowed():
                return
            connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
            connection.request("GET", self.path, headers={"Authorization": self.headers["Authorization"]})
            reply = connection.getresponse()
            data = reply.read()
            self.send_response(reply.status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            connection.close()

        def log_message(self, *arguments):
            pass

    forward = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    forward.seen = []
    threading.Thread(target=forward.serve_forever, args=(0.05,), daemon=True).start()
    yield forward
    forward.shutdown()
    forward.server_close()


def pump(source, target):
    """Pass bytes on until one side has ended."""
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def test_a_proxy_with_a_password(forward_proxy, settings):
    address = f"127.0.0.1:{forward_proxy.server_port}"
    refused = command("check", **settings, HTTP_PROXY=f"http://{address}", http_proxy=f"http://{address}")
    assert refused.returncode == 1 and "The proxy wants a password" in refused.stderr
    passed = command("check", **settings, http_proxy=f"http://anna:p%40ss@{address}")
    assert passed.returncode == 0 and forward_proxy.seen
    forward_proxy.seen.clear()
    direct = command("check", **settings, http_proxy=f"http://{address}", no_proxy="127.0.0.1")
    assert direct.returncode == 0 and forward_proxy.seen == []


def test_a_proxy_with_a_password_before_a_certificate(forward_proxy, secure, authority, settings, server, tmp_path):
    """A tunnel: the proxy sees neither the token nor the report."""
    address, trusted = f"127.0.0.1:{forward_proxy.server_port}", {"REPORTD_CA_FILE": str(authority / "ca.pem")}
    settings = {**settings, "REPORTD_URL": secure.url}
    for login in ("", "anna:wrong@"):
        refused = command("check", **settings, **trusted, https_proxy=f"http://{login}{address}")
        assert refused.returncode == 1 and refused.stderr.count("\n") == 1, refused.stderr
        assert "wants a password" in refused.stderr and "wrong" not in refused.stderr
    through = {"https_proxy": f"http://anna:p%40ss@{address}"}
    untrusted = command("check", **settings, **through)
    assert untrusted.returncode == 1 and "Set REPORTD_CA_FILE" in untrusted.stderr, untrusted.stderr
    forward_proxy.seen.clear()
    done = python(work(tmp_path, tests=2), **settings, **trusted, **through)
    assert "tests=2" in done.stdout and "spool=None" in done.stdout, done.stderr
    assert set(forward_proxy.seen) == {secure.url.removeprefix("https://")}
    forward_proxy.seen.clear()
    assert command("check", **settings, **trusted, **through, no_proxy="127.0.0.1").returncode == 0
    assert forward_proxy.seen == []


def test_the_playwright_reporter_goes_the_same_ways(drive, forward_proxy, secure, authority, server):
    def said(url=secure.url, **environment):
        driver = drive(url, environment=environment)
        driver("test", title="t")
        return driver.finish()[0]

    address, trusted = f"127.0.0.1:{forward_proxy.server_port}", {"REPORTD_CA_FILE": str(authority / "ca.pem")}
    assert "Set REPORTD_CA_FILE to the file" in said()
    assert "its certificate is not accepted" in said(secure.url.replace("127.0.0.1", "localhost"), **trusted)
    assert "is no file of certificates" in said(REPORTD_CA_FILE="/nothing")
    insecure = said(REPORTD_INSECURE="1")
    assert "is not checked" in insecure and "1 test, 0 files (0 new) sent" in insecure
    refused = said(**trusted, https_proxy=f"http://anna:wrong@{address}")
    assert "wants a password" in refused and "anna:wrong" not in refused
    assert "none that reportd-playwright can use" in said(**trusted, https_proxy="socks5://127.0.0.1:1")
    forward_proxy.seen.clear()
    through = {"HTTPS_PROXY": f"http://anna:p%40ss@{address}"}
    assert "1 test, 0 files (0 new) sent" in said(**trusted, **through)
    assert set(forward_proxy.seen) == {secure.url.removeprefix("https://")}
    forward_proxy.seen.clear()
    assert "1 test, 0 files (0 new) sent" in said(**trusted, **through, NO_PROXY="example.com, 127.0.0.1")
    assert forward_proxy.seen == []
    assert "through the proxy" in said(server.url, http_proxy=f"http://127.0.0.1:{free_port()}")


def test_a_proxy_that_is_not_there(settings):
    done = command("check", **settings, http_proxy=f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 5 and "through the proxy" in done.stderr


def test_an_address_where_something_else_listens(tmp_path, settings):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        def talk():
            with suppress(OSError):
                while True:
                    connection, _ = other.accept()
                    with connection, suppress(OSError):  # the other side may have gone
                        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=talk, daemon=True).start()
        done = command("check", **{**settings, "REPORTD_URL": f"http://127.0.0.1:{other.getsockname()[1]}"})
    assert done.returncode == 5 and "cannot be reached" in done.stderr


def test_old_spools_are_named_and_never_deleted(tmp_path, record):
    with record(sender="none") as run, run.test("t"):
        pass
    about = json.loads((run.spool.folder / "run.json").read_text())
    about["created_at"] -= 20 * 86_400_000
    (run.spool.folder / "run.json").write_text(json.dumps(about))
    assert "20.0 days old, older than 14 days" in command("status", tmp_path / "spool").stdout
    assert run.spool.folder.exists()
    assert command("status", tmp_path / "nowhere").stdout == "Nothing is left to send\n"
