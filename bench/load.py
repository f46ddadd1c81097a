"""Load generator: sends a fixed number of prebuilt requests over raw sockets to a server on loopback.

`python -m bench.load` runs as a separate process, so that its CPU time is not counted as the server's. Protocol on
standard input and output: it reads a Load as one line of JSON and prints "ready" when all connections are open. On "go"
it sends the requests, checks the status of each reply, and prints a Result. On "check" it compares stored data with
what it sent. One thread and one selector: 256 connections cost no more than 4.
"""

import json
import re
import selectors
import socket
import sys
import time
from dataclasses import asdict, dataclass, field

from bench.bodies import Attachment, Body, Bundle, Login, Prepared, Steps, Upload
from bench.check import Sample, check

_IDLE_TIMEOUT = 60.0  # seconds without progress after which a load fails
_TIMEOUT = 300.0  # seconds that a load may take
_MAX_PIECES = 64  # buffers in one sendmsg call
_MAX_HEAD = 8192
_ERROR_BYTES = 600  # bytes of a wrong reply in the error message
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Load:
    """What to send: `requests` requests in all over `connections` connections, to the `paths` in turn."""

    port: int
    kind: str  # batch, single, bundle, attachment, steps, json, login or get
    paths: list[str]
    requests: int
    token: str = ""
    connections: int = 4
    files: int = 1
    size: int = 0
    steps: int = 0
    sample: int = 3  # how many of the first requests "check" verifies
    check_port: int = 0  # the port of the server that "check" asks; 0: the same server
    digest: str = ""  # the expected SHA-256 of the reply to a GET; empty: not checked
    cookie: str = ""  # a session cookie, sent instead of the token
    headers: str = ""  # further header lines, each with \r\n at its end
    bodies: list[str] = field(default_factory=list)  # of json: the body for each path
    method: str = "POST"  # of a request with a body
    name: str = ""  # of the user who logs in
    password: str = ""


@dataclass
class Result:
    """The result of a load. Times in seconds; `busy` is the CPU use of the generator as a share of one core."""

    requests: int
    request_bytes: int = 0
    reply_bytes: int = 0
    seconds: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    busy: float = 0.0


class _Connection:
    """A keep-alive connection that sends one request at a time."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=_IDLE_TIMEOUT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.number = -1
        self.started = 0.0
        self.views: list[memoryview] = []
        self.head = b""
        self.left = 0
        self.received = 0
        self.kept: list[bytes] | None = None

    def begin(self, number: int, pieces: list[bytes], keep: bool) -> None:
        self.number, self.head, self.left, self.received = number, b"", 0, 0
        self.kept = [] if keep else None
        self.views = [memoryview(piece) for piece in pieces if piece]
        self.views.reverse()  # sent from the end, since popping from a list is cheap there
        self.started = time.perf_counter()

    def write(self) -> bool:
        """Sends as much as the socket accepts. True when the request is sent completely."""
        views = self.views
        while views:
            try:
                sent = self.sock.sendmsg(views[: -_MAX_PIECES - 1 : -1])
            except BlockingIOError:
                return False
            while views and sent >= len(views[-1]):
                sent -= len(views.pop())
            if sent:
                views[-1] = views[-1][sent:]
        return True

    def read(self, buffer: bytearray) -> bool:
        """Receives available data. True when the reply is complete."""
        size = self.sock.recv_into(buffer)
        if not size:
            raise RuntimeError("the server closed the connection")
        start = 0
        if not self.left:
            before = len(self.head)
            self.head += memoryview(buffer)[: min(size, _MAX_HEAD)]
            end = self.head.find(b"\r\n\r\n")
            if end < 0 and len(self.head) < _MAX_HEAD:
                return False
            length = _LENGTH.search(self.head, 0, end + 2)
            if length is None:
                raise RuntimeError(f"a reply without a Content-Length: {self.head[:300]!r}")
            self.left, start = int(length[1]), end + 4 - before
        elif len(self.head) < _ERROR_BYTES:
            self.head += memoryview(buffer)[: min(size, _ERROR_BYTES)]
        self.left -= size - start
        self.received += size
        if self.kept is not None:
            self.kept.append(bytes(memoryview(buffer)[start:size]))
        return self.left <= 0


class _Run:
    def __init__(self, load: Load) -> None:
        self.load = load
        self.body = _body(load)
        self.connections = [_Connection(load.port) for _ in range(min(load.connections, load.requests))]
        self.selector = selectors.DefaultSelector()
        for connection in self.connections:
            self.selector.register(connection.sock, selectors.EVENT_READ, connection)
        self.serial = time.time_ns() << 20
        self.begun = self.sent = self.received = 0
        self.times: list[float] = []
        self.samples: list[Sample] = []
        self.buffer = bytearray(1 << 18)

    def go(self) -> Result:
        """Sends all requests. Raises RuntimeError for a wrong reply or a timeout, OSError for a lost connection."""
        started, busy = time.perf_counter(), time.process_time()
        for connection in self.connections:
            self._begin(connection)
        while len(self.times) < self.load.requests:
            events = self.selector.select(_IDLE_TIMEOUT)
            if not events or time.perf_counter() - started > _TIMEOUT:
                raise RuntimeError("timeout: the server stopped replying, or the load took too long")
            for key, mask in events:
                self._progress(key.data, mask)
        seconds = time.perf_counter() - started
        self.times.sort()
        p50, p99 = self.times[len(self.times) // 2], self.times[int(len(self.times) * 0.99)]
        busy = (time.process_time() - busy) / seconds
        return Result(len(self.times), self.sent, self.received, seconds, p50, p99, busy)

    def _begin(self, connection: _Connection) -> None:
        load, number = self.load, self.begun
        if number == load.requests:
            return
        self.begun += 1
        turn, path = divmod(number, len(load.paths))
        pieces = self.body.pieces(self.serial + number, turn, path) if self.body else []
        head = f"Host: 127.0.0.1\r\n{load.headers}"
        if load.cookie:
            head += f"Cookie: {load.cookie}\r\n"
        elif load.token:
            head += f"Authorization: Bearer {load.token}\r\n"
        if self.body:
            head += f"Content-Type: {self.body.content_type}\r\nContent-Length: {sum(map(len, pieces))}\r\n"
        method = load.method if self.body else "GET"
        pieces.insert(0, f"{method} {load.paths[path]} HTTP/1.1\r\n{head}\r\n".encode())
        self.sent += sum(map(len, pieces))
        connection.begin(number, pieces, number < load.sample)
        if not connection.write():
            self.selector.modify(connection.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)

    def _progress(self, connection: _Connection, mask: int) -> None:
        if mask & selectors.EVENT_WRITE and connection.write():
            self.selector.modify(connection.sock, selectors.EVENT_READ, connection)
        if mask & selectors.EVENT_READ and connection.read(self.buffer):
            self.times.append(time.perf_counter() - connection.started)
            self.received += connection.received
            self._check_status(connection)
            self._begin(connection)

    def _check_status(self, connection: _Connection) -> None:
        status = int(connection.head[9:12])
        if status not in (200, 201):
            raise RuntimeError(f"status {status}: {connection.head[:_ERROR_BYTES].decode('latin-1')}")
        if connection.kept is not None:
            path = self.load.paths[connection.number % len(self.load.paths)]
            self.samples.append(Sample(path, self.serial + connection.number, b"".join(connection.kept)))


def _body(load: Load) -> Body | None:
    """What the requests carry; None: nothing."""
    match load.kind:
        case "get":
            return None
        case "steps":
            return Steps(load.steps)
        case "json":
            return Prepared(load.bodies)
        case "login":
            return Login(load.name, load.password)
        case "attachment":
            return Attachment(load.files, load.size)
        case "bundle":
            return Bundle(load.files, load.size, load.steps)
        case _:
            return Upload(load.files, load.size, single=load.kind == "single")


def main() -> None:
    """Runs the protocol of the module. Exceptions of _Run end the process with their text on stderr."""
    load = Load(**json.loads(sys.stdin.readline()))
    run = _Run(load)
    print("ready", flush=True)
    for line in sys.stdin:
        if line == "go\n":
            print(json.dumps(asdict(run.go())), flush=True)
        elif line == "check\n":
            print(check(load.check_port or load.port, load.token, load.digest, run.body, run.samples), flush=True)


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
