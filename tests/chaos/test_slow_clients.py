"""Clients that send one byte a second: they slow nobody down, and are dropped when their time is over."""

import itertools
import selectors
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos.clients import Batch, make_cases, staged
from tests.chaos.processes import settles, sockets_of
from tests.forms import CONTENT_TYPE
from tests.up_server import PATIENCE, UpServer, serving, wait_for


def times(seconds: int, slow: int) -> dict[str, str]:
    """A client that goes on like this is dropped after so many seconds. A third of the slow ones are uploads: more
    than the server takes at once, were they counted."""
    return {
        "REPORTD_SERVER_IDLE_TIMEOUT": str(seconds),
        "REPORTD_SERVER_BODY_TIMEOUT": str(seconds),
        "REPORTD_SERVER_MIN_BODY_RATE": "100",
        "REPORTD_SERVER_MAX_UPLOADS": str(slow // 5),
    }


class Crowd:
    """Connections that each send a byte a second, in a thread of its own. One that is told to come again does so."""

    def __init__(self, server: UpServer, cases: list[str], count: int) -> None:
        self._port, self._openings = server.port, openings(server, cases)
        self._selector = selectors.DefaultSelector()
        self._stop = threading.Event()
        self.refused = 0
        self.quiet = 0  # seconds since one was told to come again
        self.replies: list[bytes] = []  # others than "come again"
        for number in range(count):
            self._begin(self._openings[number % len(self._openings)])
        self.open = count

    @contextmanager
    def creeping(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            for key in list(self._selector.get_map().values()):
                key.fileobj.close()
            self._selector.close()

    def _begin(self, opening: bytes) -> None:
        sock = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
        sock.sendall(opening)
        sock.setblocking(False)
        self._selector.register(sock, selectors.EVENT_READ, opening)

    def _run(self) -> None:
        while self.open and not self._stop.wait(1):
            self.quiet += 1
            for key, _ in self._selector.select(0):
                self._read(key)
            for key in list(self._selector.get_map().values()):
                try:
                    key.fileobj.send(b" ")
                except OSError:
                    self._drop(key)

    def _read(self, key: selectors.SelectorKey) -> None:
        try:
            said = key.fileobj.recv(1 << 16)
        except OSError:
            said = b""
        if said.startswith(b"HTTP/1.1 503 "):
            self.refused += 1
            self.quiet = 0
            self._selector.unregister(key.fileobj)
            key.fileobj.close()
            self._begin(key.data)
        elif said:
            self.replies.append(said)
        else:
            self._drop(key)

    def _drop(self, key: selectors.SelectorKey) -> None:
        self._selector.unregister(key.fileobj)
        key.fileobj.close()
        self.open -= 1


def openings(server: UpServer, cases: list[str]) -> list[bytes]:
    """How slow requests begin: a head that does not end, a JSON body, a file."""
    head = f"Host: x\r\nAuthorization: Bearer {server.token}\r\n"
    boundary = CONTENT_TYPE.partition("=")[2]
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
    upload = f"{head}Content-Type: {CONTENT_TYPE}\r\nContent-Length: 1000000\r\n\r\n{part}"
    texts = [
        f"POST {cases[0]}/steps HTTP/1.1\r\n{head}X-Slow: ",
        f"POST {cases[0]}/steps HTTP/1.1\r\n{head}Content-Length: 1000000\r\n\r\n",
        f"POST {cases[0]}/artifacts/batch HTTP/1.1\r\n{upload}",
    ]
    return [text.encode() for text in texts]


def load(server: UpServer, cases: list[str], requests: int, serials: Iterator[int]) -> float:
    """The median seconds of uploads and reads, one after the other."""
    times = []
    for number in range(requests):
        item = Batch(f"load-{next(serials)}", cases[number % len(cases)])
        began = time.perf_counter()
        reply = item.send(server)
        assert reply.status == 201, reply.body
        assert server.ask("GET", f"{item.case}/steps").status == 200
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def test_clients_that_send_a_byte_a_second(tmp_path, dsn, make_token, effort, tally):
    count, requests, serials = effort.times(150, 500), effort.times(40, 100), itertools.count()
    with serving(tmp_path / "data", dsn, make_token(), **times(effort.times(12, 30), count)) as server:
        cases = make_cases(server)
        load(server, cases, 20, serials)
        # Several times, and the best counts: others use this machine, too.
        ratios: list[float] = []
        for number in range(effort.times(3, 10)):
            alone = load(server, cases, requests, serials)
            crowd = Crowd(server, cases, count)
            with crowd.creeping():
                wait_for(lambda: crowd.quiet > 2)  # noqa: B023 - all of them are in
                crowded = load(server, cases, requests, serials)
                if crowd.open == count:
                    ratios.append(crowded / alone)
                tally.add("slow connections", count)
                tally.add("told to come again", crowd.refused)
            if number + 1 >= effort.times(1, 10) and min(ratios, default=9) <= 2:
                break
        tally.note("median beside them, as a multiple", [round(ratio, 2) for ratio in ratios])
        assert min(ratios) <= 2, ratios
        settles(lambda: sockets_of(server.port), 0)
        assert staged(server.data / "artifacts") == []


def test_clients_that_send_a_byte_a_second_are_dropped(tmp_path, dsn, make_token, effort, tally):
    count = effort.times(90, 500)
    with serving(tmp_path / "data", dsn, make_token(), **times(effort.times(4, 20), count)) as server:
        crowd = Crowd(server, make_cases(server), count)
        began = time.monotonic()
        with crowd.creeping():
            wait_for(lambda: not crowd.open, lambda: f"{crowd.open} are still there; replies: {crowd.replies[:3]}")
        tally.note("seconds", round(time.monotonic() - began, 1))
        tally.note("connections", count)
        assert {reply.split()[1] for reply in crowd.replies} == {b"408"}, crowd.replies[:5]
        settles(lambda: sockets_of(server.port), 0)
        assert staged(server.data / "artifacts") == []
