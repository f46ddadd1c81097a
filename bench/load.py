"""Sends prebuilt bodies over raw sockets to a server on loopback, a bounded number of them, and checks the replies.

Run as a process of its own, so that its CPU time is not the server's: `python -m bench.load < load.json`.
"""

import hashlib
import json
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass

from bench.bodies import CONTENT_TYPE, Body

TIMEOUT = 60.0


@dataclass
class Load:
    """What to send: `requests` bodies on each of `connections`, round robin over `paths`."""

    port: int
    paths: list[str]
    token: str = ""
    connections: int = 4
    requests: int = 50
    files: int = 10
    size: int = 200_000
    expect: int = 201
    sample: int = 3  # uploads whose files are downloaded again and compared


@dataclass
class Result:
    """What came of it. Times in seconds."""

    requests: int
    request_bytes: int
    seconds: float
    p50: float
    p99: float
    compared: int


def run(load: Load) -> Result:
    """Raises RuntimeError when a reply is not the expected one or a downloaded file differs."""
    times: list[float] = []
    failures: list[BaseException] = []
    compared = [0]
    size = [0]

    def connection(number: int) -> None:
        try:
            _connection(load, number, times, size, compared)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=connection, args=(i,)) for i in range(load.connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    if failures:
        raise RuntimeError(f"{len(failures)} connections failed; the first: {failures[0]!r}") from failures[0]
    times.sort()
    return Result(len(times), size[0], seconds, times[len(times) // 2], times[int(len(times) * 0.99)], compared[0])


def _connection(load: Load, number: int, times: list[float], size: list[int], compared: list[int]) -> None:
    body = Body(load.files, load.size)
    with socket.create_connection(("127.0.0.1", load.port), timeout=TIMEOUT) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(load.requests):
            serial = number * load.requests + i
            content = body.renew(time.time_ns() // 1000 * 100 + serial)
            path = load.paths[serial % len(load.paths)]
            head = (
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {load.token}\r\n"
                f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: {len(content)}\r\n\r\n"
            ).encode()
            started = time.perf_counter()
            sock.sendmsg([head])
            sock.sendall(content)
            status, reply = read_reply(sock)
            times.append(time.perf_counter() - started)
            size[0] += len(head) + len(content)
            if status != load.expect:
                raise RuntimeError(f"status {status}: {reply[:300]!r}")
            if number == 0 and i < load.sample and reply:
                compared[0] += _compare(sock, load, json.loads(reply))


def _compare(sock: socket.socket, load: Load, reply: dict) -> int:
    for artifact in reply["artifacts"]:
        head = f"GET {artifact['download_url']} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {load.token}\r\n\r\n"
        sock.sendall(head.encode())
        status, content = read_reply(sock)
        if status != 200 or hashlib.sha256(content).hexdigest() != artifact["checksum"]:
            raise RuntimeError(f"{artifact['download_url']}: status {status}, or other bytes than were sent")
    return len(reply["artifacts"])


def read_reply(sock: socket.socket) -> tuple[int, bytes]:
    """Status and body of a reply that has a Content-Length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = int(headers.get("content-length", 0))
    parts = [body]
    have = len(body)
    while have < length:
        parts.append(_received(sock))
        have += len(parts[-1])
    return int(lines[0].split()[1]), b"".join(parts)


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(1 << 20)
    if not data:
        raise RuntimeError("the server closed the connection")
    return data


if __name__ == "__main__":
    print(json.dumps(asdict(run(Load(**json.loads(sys.stdin.read()))))))
