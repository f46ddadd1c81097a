"""reportd as a systemd service: sockets, notifications, and restarts that lose no request."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from uuid import UUID

import psycopg
import pytest
from aiohttp import web

from server.commands.serve import _finish
from server.commands.systemd import Service
from server.http.accept import Acceptor
from server.limits import Admission
from server.storage.marker import MARKER
from tests.commands.test_serve import receive
from tests.commands.test_workers import workers
from tests.storage.test_marker import database_unavailable
from tests.up_server import CHECKOUT, ENVIRONMENT, PATIENCE, REPORTD, UpServer, end, half_an_upload, wait_for

# Restarts under load. The long form is `RESTARTS=100 pytest tests/commands/test_systemd.py -k lose`.
RESTARTS = int(os.environ.get("RESTARTS", "3"))
CLIENTS = 3  # of each kind
DELAYED_SECONDS = 0.5  # a client that this machine delays for longer between connecting and sending proves nothing

# What systemd does between fork and exec: the sockets become 3, 4, …, and LISTEN_PID is the process's own.
EXEC = """if True:
    import fcntl, os, sys
    descriptors, command = sys.argv[1].split(), sys.argv[2:]
    away = [fcntl.fcntl(int(descriptor), fcntl.F_DUPFD_CLOEXEC, 100) for descriptor in descriptors]
    for number, descriptor in enumerate(away, 3):
        os.dup2(descriptor, number)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ.setdefault("LISTEN_FDS", str(len(descriptors)))
    os.execv(command[0], command)
"""


@dataclass
class Systemd:
    """Stands in for systemd: holds sockets, starts one server at a time on them, and receives its notifications."""

    folder: Path
    dsn: str
    token: str
    sockets: Sequence[socket.socket]
    abstract: bool = False
    received: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # (process id of the sender, variables)

    @contextmanager
    def listening(self) -> Iterator[str]:
        """An address for NOTIFY_SOCKET; its notifications are in `received`."""
        name = f"{self.folder}/notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(f"\0{name}" if self.abstract else name)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

            def receive_all() -> None:
                while (got := sock.recvmsg(4096, 1024))[0] != b"end":
                    lines = dict(line.split("=", 1) for line in got[0].decode().splitlines())
                    self.received.append((int.from_bytes(got[1][0][2][:4], sys.byteorder), lines))

            thread = threading.Thread(target=receive_all)
            thread.start()
            try:
                yield f"@{name}" if self.abstract else name
            finally:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                    last.sendto(b"end", sock.getsockname())
                thread.join()
                Path(name).unlink(missing_ok=True)

    def values(self, key: str) -> list[str]:
        """The values of one variable, in the order of the notifications."""
        return [lines[key] for _, lines in self.received if key in lines]

    def launch(self, *options: str, notify: str, command: Sequence[str] = REPORTD, **environment: str) -> UpServer:
        """Start a server process, without waiting until it is ready."""
        data = self.folder / "data"
        own = {"REPORTD_DATABASE_DSN": self.dsn, "REPORTD_ARTIFACTS_STORAGE_PATH": str(data / "artifacts")}
        own["NOTIFY_SOCKET"] = notify
        descriptors = [sock.fileno() for sock in self.sockets]
        process = execute(descriptors, self.folder, *options, command=command, **own, **environment)
        name = self.sockets[0].getsockname()
        url = f"http://127.0.0.1:{name[1]}" if isinstance(name, tuple) else ""
        return UpServer(data, process, url, self.token, self.folder / "out", self.folder / "log")

    @contextmanager
    def running(self, *options: str, **environment: str) -> Iterator[UpServer]:
        """A server that has sent READY=1."""
        with self.listening() as address:
            server = self.launch(*options, notify=address, **environment)
            try:
                wait_for(lambda: self.values("READY") or server.process.poll() is not None, server.log.read_text)
                assert server.process.poll() is None, server.log.read_text()
                yield server
            finally:
                end(server.process)


def execute(
    descriptors: Sequence[int], folder: Path, *options: str, command: Sequence[str] = REPORTD, **environment: str
) -> subprocess.Popen[bytes]:
    """`reportd serve` with these descriptors; its output and log are appended to files in the folder."""
    with (folder / "out").open("ab") as out, (folder / "log").open("ab") as err:
        return subprocess.Popen(
            [sys.executable, "-c", EXEC, " ".join(map(str, descriptors)), *command, "serve", *options],
            cwd=CHECKOUT,
            env={**ENVIRONMENT, **environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            pass_fds=descriptors,
            start_new_session=True,
        )


@pytest.fixture
def systemd(dsn, make_token) -> Iterator[Callable[..., Systemd]]:
    """systemd(place…, abstract=…): listens on a port (None) or on unix sockets (paths); by default on one port."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reportd-tests-")))

        def make(*places: str | None, abstract: bool = False) -> Systemd:
            sockets = []
            for place in places or [None]:
                sock = socket.socket(socket.AF_UNIX if place else socket.AF_INET)
                stack.enter_context(sock)
                sock.bind(place.format(folder) if place else ("127.0.0.1", 0))
                sock.listen(4096)
                sockets.append(sock)
            return Systemd(folder, dsn, make_token(), sockets, abstract)

        yield make


def ask(name: str | tuple[str, int], path: str = "/healthz") -> bytes:
    """The whole reply, with its headers."""
    with socket.socket(socket.AF_INET if isinstance(name, tuple) else socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(name)
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return receive(sock)


# --- sockets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["1", "2"])
def test_the_server_listens_on_the_sockets_of_systemd_and_leaves_them_open(systemd, count):
    manager = systemd(None, "{}/socket", "\0{}/abstract")
    names = [sock.getsockname() for sock in manager.sockets]
    path, abstract = f"unix:{manager.folder}/socket", f"unix:@{manager.folder}/abstract"
    with manager.running("--workers", count, "--port", "1") as server:
        for name in names:
            assert ask(name).startswith(b"HTTP/1.1 200 ")
        port = f"http://127.0.0.1:{server.port}"
        assert f"reportd is ready at {port}\n" in server.output.read_text()
        line = f"listening on the sockets of systemd: {port}, {path}, {abstract}; [server] host and port are not used\n"
        assert line in server.log.read_text()
        assert end(server.process) == 0
    assert Path(names[1]).exists()
    with manager.running() as server:  # the sockets are still open for the next server
        for name in names:
            assert ask(name).startswith(b"HTTP/1.1 200 ")


def test_a_unix_socket_may_be_the_only_one(systemd):
    manager = systemd("{}/socket")
    with manager.running("--workers", "2") as server:
        assert f"ready at unix:{manager.folder}/socket\n" in server.output.read_text()
        assert ask(f"{manager.folder}/socket", "/api/v1/reports/suite-runs").startswith(b"HTTP/1.1 401 ")
    assert manager.values("STATUS")[0] == f"2 workers serve at unix:{manager.folder}/socket"


def test_wrong_sockets_and_variables_are_reported_in_one_sentence(tmp_path):
    wrong = "File descriptor 3, which systemd passed, is"
    connected, peer = socket.socketpair()
    with socket.socket(type=socket.SOCK_DGRAM) as datagram, connected, peer, (tmp_path / "file").open("w") as file:
        wrongs = [
            ([datagram], {}, f"{wrong} not a stream socket: use ListenStream= in the socket unit."),
            ([connected], {}, f"{wrong} not listening: use Accept=no in the socket unit."),
            ([file], {}, f"{wrong} not a socket: Socket operation on non-socket"),
            ([], {"LISTEN_FDS": "1"}, f"{wrong} not a socket: Bad file descriptor"),
            ([], {"LISTEN_FDS": "x"}, "LISTEN_FDS is x: it must be the number of sockets that systemd passes."),
            ([], {"WATCHDOG_USEC": "-1"}, "WATCHDOG_USEC is -1: it must be a number of microseconds."),
        ]
        started = []
        for number, (passed, environment, sentence) in enumerate(wrongs):
            (folder := tmp_path / str(number)).mkdir()
            started.append((execute([each.fileno() for each in passed], folder, **environment), folder, sentence))
    for process, folder, sentence in started:
        assert process.wait(PATIENCE) == 1
        assert (folder / "log").read_text() == f"reportd: {sentence}\n"


def test_variables_of_another_process_are_ignored_and_all_are_removed(monkeypatch):
    meant = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "WATCHDOG_USEC": "4000000"}
    for pid, seconds in [("1", None), (str(os.getpid()), 2.0), ("", 2.0)]:
        for name, value in {**meant, "NOTIFY_SOCKET": "/nowhere", "WATCHDOG_PID": pid}.items():
            monkeypatch.setenv(name, value)
        service = Service.from_environment()
        assert (service.sockets, service.watchdog) == ([], seconds)
        assert not [name for name in os.environ if name.startswith(("LISTEN_", "NOTIFY_", "WATCHDOG_"))]


# --- notifications -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "abstract"), [("1", False), ("2", False), ("2", True)])
def test_the_main_process_notifies_of_start_and_stop_once(systemd, count, abstract):
    manager = systemd(abstract=abstract)
    with manager.running("--workers", count, REPORTD_SERVER_SHUTDOWN_TIMEOUT="7") as server:
        assert end(server.process) == 0
    ready, stopping = [lines for _, lines in manager.received]
    subject = "Serving" if count == "1" else "2 workers serve"
    assert ready == {"READY": "1", "STATUS": f"{subject} at {server.url}"}
    assert re.fullmatch(r"Stopping; (0 )?requests in progress get 7 seconds to finish", stopping.pop("STATUS"))
    assert (stopping.pop("STOPPING"), list(stopping)) == ("1", ["EXTEND_TIMEOUT_USEC"])
    assert int(stopping["EXTEND_TIMEOUT_USEC"]) >= 37e6
    assert {pid for pid, _ in manager.received} == {server.process.pid}


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_server_whose_database_is_away_is_ready_once_it_can_serve(systemd, postgres, dsn, count):
    manager = systemd()
    with ExitStack() as stack:
        with database_unavailable(postgres, dsn):
            address = stack.enter_context(manager.listening())
            server = manager.launch("--workers", count, notify=address)
            stack.callback(end, server.process)
            waits = "The database does not answer. Checking"
            wait_for(lambda: server.log.read_text().count(waits) == int(count), server.log.read_text)
            time.sleep(2.5)  # it checks again every second
            assert server.ask("GET", "/readyz").status == 503 and server.ask("GET", "/healthz").status == 200
            assert manager.values("READY") == [] and server.output.read_text() == ""
            if count == "1":
                assert set(manager.values("STATUS")) == {"Not ready: The database does not answer."}
                assert len(manager.values("EXTEND_TIMEOUT_USEC")) >= 2
        wait_for(lambda: manager.values("READY"), server.log.read_text)
        assert server.output.read_text() == f"reportd is ready at {server.url}\n"
        wait_for(lambda: server.ask("GET", "/readyz").status == 200, server.log.read_text)  # the other worker is later
        log = server.log.read_text()
        assert log.count(waits) == int(count)  # once in each worker
        assert log.count("a clean-up job failed") <= 2 * int(count) and "Traceback" not in log
        assert end(server.process) == 0
    assert manager.values("READY") == ["1"]


def test_a_server_with_another_databases_folder_is_ready_once_it_has_its_own(systemd, postgres, dsn, rows):
    manager, own = systemd(), UUID(int=1)
    rows("INSERT INTO storage_folder (id) VALUES (%s)", own)
    with ExitStack() as stack:
        with database_unavailable(postgres, dsn):
            address = stack.enter_context(manager.listening())
            server = manager.launch(notify=address)
            stack.callback(end, server.process)
            wait_for(lambda: "The database does not answer." in server.log.read_text(), server.log.read_text)
            marker = server.data / "artifacts" / MARKER
            marker.write_text(f"{UUID(int=2)}\n")
        wait_for(lambda: "uploads and downloads are refused" in server.log.read_text(), server.log.read_text)
        time.sleep(3.5)
        assert manager.values("READY") == [] and server.output.read_text() == ""
        marker.write_text(f"{own}\n")
        wait_for(lambda: manager.values("READY"), server.log.read_text)
        assert server.log.read_text().count("uploads and downloads are refused") == 1


def test_it_is_not_ready_when_no_worker_can_start(systemd):
    """gunicorn's own notification would come too early: when it has started, but no worker has."""
    manager = systemd()
    code = """if True:
        import os, sys
        from server.commands import main as cli
        from server.storage.folder import Storage
        master, opened = os.getpid(), Storage.open
        def open(self):
            if os.getpid() != master:
                raise OSError("gone")
            opened(self)
        Storage.open = open
        sys.exit(cli.main(sys.argv[1:]))
    """
    with manager.listening() as address:
        server = manager.launch("--workers", "2", notify=address, command=[sys.executable, "-c", code])
        assert server.process.wait(PATIENCE) == 3
    assert re.search("A worker cannot start: .*: gone", server.log.read_text())
    assert [list(lines) for _, lines in manager.received] == [["STOPPING", "STATUS", "EXTEND_TIMEOUT_USEC"]]


@pytest.mark.parametrize("count", ["1", "2"])
def test_the_watchdog_is_pinged_during_a_stop_too(systemd, count):
    manager = systemd()
    with (
        manager.running("--workers", count, WATCHDOG_USEC="2000000") as server,
        half_an_upload(server) as (sock, rest),
    ):
        wait_for(lambda: len(manager.values("WATCHDOG")) > 2)
        if count == "2":
            old = workers(server)
            os.kill(server.process.pid, signal.SIGHUP)  # gunicorn waits for the old workers in a loop of its own
            wait_for(lambda: len(workers(server)) > 2, server.log.read_text)
            before = len(manager.values("WATCHDOG"))
            wait_for(lambda: len(manager.values("WATCHDOG")) > before + 2)
            assert workers(server) & old
        else:
            server.process.terminate()
            wait_for(lambda: manager.values("STOPPING"))
            before = len(manager.values("WATCHDOG"))
            wait_for(lambda: len(manager.values("WATCHDOG")) > before + 2)
        sock.sendall(rest)
        assert receive(sock).startswith(b"HTTP/1.1 201 ")
        if count == "2":
            server.process.terminate()
        assert server.process.wait(PATIENCE) == 0  # not end(): Python ends at once by a second signal at its very end
    assert "WORKER TIMEOUT" not in server.log.read_text()


async def test_a_blocked_event_loop_sends_no_ping(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"{tmp_path}/notify")
        sock.setblocking(False)

        def pings() -> int:
            count = 0
            with suppress(BlockingIOError):
                while sock.recv(100) == b"WATCHDOG=1":
                    count += 1
            return count

        async with Service(address=f"{tmp_path}/notify", watchdog=0.01).pinging():
            while not pings():
                await asyncio.sleep(0.01)
            time.sleep(0.2)
            assert pings() == 0
            while not pings():
                await asyncio.sleep(0.01)
        pings()
        await asyncio.sleep(0.05)
        assert pings() == 0


async def test_an_unreachable_systemd_is_logged_and_ignored(tmp_path, caplog):
    Service(address=f"{tmp_path}/nobody").ready("Serving")
    assert caplog.messages == ["cannot send READY=1 to systemd: [Errno 2] No such file or directory"]
    Service().ready("Serving")
    assert len(caplog.messages) == 1


# --- stops that lose no request --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_request_during_a_stop_is_answered(systemd, count):
    """On a connection that has had a request before, and on one that has not."""

    def attempt() -> list[bytes]:
        with manager.running("--workers", count) as server, ExitStack() as stack:
            name = ("127.0.0.1", server.port)
            used, fresh = (stack.enter_context(socket.create_connection(name, timeout=PATIENCE)) for _ in range(2))
            used.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert used.recv(65536).startswith(b"HTTP/1.1 200 ")
            # This later connection is answered, so the server has accepted `fresh`, too.
            assert ask(name).startswith(b"HTTP/1.1 200 ")
            server.process.terminate()
            wait_for(lambda: manager.values("STOPPING"))
            manager.received.clear()
            time.sleep(0.2)
            replies = []
            for sock in (used, fresh):
                with suppress(ConnectionError):
                    sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                    replies.append(receive(sock))
            assert server.process.wait(PATIENCE) == 0
            return replies

    manager = systemd()
    for _ in range(5):  # retry: a busy machine may delay this process for longer than the server waits
        replies = attempt()
        if len(replies) == 2 and all(replies):
            break
    assert [b"\r\nConnection: close\r\n" in reply for reply in replies] == [True, True]
    assert all(reply.startswith(b"HTTP/1.1 200 ") for reply in replies)


@pytest.mark.parametrize("turns", [2, 3, 4])
async def test_a_connection_that_is_being_accepted_is_served(turns):
    """asyncio accepts a connection in one iteration of its loop and sets it up in the next. In the first of these cases
    the stop begins in between."""

    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app)
    await runner.setup()
    runner.server.open = 0  # counted by the subclass in protocol.py
    with socket.create_server(("127.0.0.1", 0)) as held:
        listening = held.dup()
        acceptor = Acceptor(runner.server, [listening], 10)
        acceptor.start()
        with socket.create_connection(held.getsockname(), timeout=5) as client:  # loopback: the request arrives at once
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            for _ in range(turns):
                await asyncio.sleep(0)
            await _finish(runner, Admission(1, 1), acceptor, PATIENCE)
            await runner.cleanup()
            assert receive(client).endswith(b"hello")


@dataclass
class Client:
    """Sends requests until `stop` is set, and collects failures."""

    name: tuple[str, int]
    token: str
    stop: threading.Event
    random: Random
    failures: list[str] = field(default_factory=list)
    answered: int = 0
    retried: int = 0

    def reached(self, goal: int) -> bool:
        return self.answered >= goal or bool(self.failures)

    def run(self, work: Callable[[], None]) -> None:
        try:
            while not self.stop.is_set():
                work()
        except Exception as error:
            self.failures.append(repr(error))

    def post(self) -> None:
        """POST on a new connection, at once or a little later. It is never retried: without a reply it is lost."""
        body = json.dumps({"name": "nightly"})
        with socket.create_connection(self.name, timeout=PATIENCE) as sock:
            connected = time.monotonic()
            self.stop.wait(self.random.choice([0.0, self.random.uniform(0, DELAYED_SECONDS / 2)]))
            sock.sendall(self._head("POST", "/api/v1/reports/suite-runs", len(body)) + body.encode())
            delayed = time.monotonic() - connected > DELAYED_SECONDS
            try:
                reply = _reply(sock)
            except OSError as error:
                reply = repr(error).encode()
        if reply.startswith(b"HTTP/1.1 201 "):
            self.answered += 1
        elif not delayed:
            self.failures.append(f"a new connection: {reply!r}")

    def get_now_and_then(self) -> None:
        """GETs with pauses about as long as a stopping server waits for requests."""
        self.get_again_and_again(lambda: self.random.uniform(0.8, 1.2))

    def get_again_and_again(self, pause: Callable[[], float] = float) -> None:
        """GETs on one connection while the server keeps it open. A request on a used connection that closes before the
        first byte of a reply is retried on a new one (RFC 9112, 9.3.1)."""
        with socket.create_connection(self.name, timeout=PATIENCE) as sock:
            used = False
            while not self.stop.is_set():
                try:
                    sock.sendall(self._head("GET", "/healthz"))
                    reply = _reply(sock)
                except OSError as error:
                    reply = b""
                    result = repr(error)
                else:
                    result = repr(reply)
                if not reply and used:
                    self.retried += 1
                    return
                if not reply.startswith(b"HTTP/1.1 200 "):
                    self.failures.append(f"a kept connection, used: {used}: {result}")
                    return
                self.answered += 1
                used = True
                self.stop.wait(pause())
                if b"\r\nConnection: close\r\n" in reply:
                    assert not sock.recv(1)
                    return

    def _head(self, method: str, path: str, length: int = 0) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self.token}"]
        return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def _reply(sock: socket.socket) -> bytes:
    """One complete reply; empty when the connection closes before its first byte."""
    got = b""
    while data := sock.recv(65536):
        got += data
        head, ended, body = got.partition(b"\r\n\r\n")
        if ended:
            length = re.search(rb"\r\nContent-Length: (\d+)", head)
            assert length, head
            if len(body) >= int(length[1]):
                return got
    assert not got, f"cut: {got!r}"
    return got


@pytest.mark.parametrize("count", ["1", "2"])
def test_restarts_lose_no_request(systemd, count, dsn):
    manager = systemd()
    stop = threading.Event()
    name = manager.sockets[0].getsockname()
    clients = [Client(name, manager.token, stop, Random(seed)) for seed in range(3 * CLIENTS)]
    threads = []
    for number, client in enumerate(clients):
        work = [client.post, client.get_again_and_again, client.get_now_and_then][number % 3]
        threads.append(threading.Thread(target=client.run, args=(work,)))
    try:
        for round_ in range(RESTARTS + 1):
            with manager.running("--workers", count) as server:
                if not round_:
                    for thread in threads:
                        thread.start()
                goals = [client.answered + 1 for client in clients]  # each is answered by this server
                wait_for(lambda goals=goals: all(map(Client.reached, clients, goals)), server.log.read_text)
                if round_ == RESTARTS:
                    stop.set()
                    for thread in threads:
                        thread.join()
                assert end(server.process) == 0
            manager.received.clear()
            if any(client.failures for client in clients):
                break
    finally:
        stop.set()
    assert [failure for client in clients for failure in client.failures] == []
    with psycopg.connect(dsn) as connection:
        (saved,) = connection.execute("SELECT count(*) FROM suite_runs").fetchone()
    assert saved == sum(client.answered for client in clients[::3])
    answered, retried = (sum(getattr(client, name) for client in clients) for name in ("answered", "retried"))
    print(f"{RESTARTS} restarts, {answered} requests answered, {retried} of them sent again")
    assert "Traceback" not in server.log.read_text()
