"""Clients that disconnect at any byte of an upload leave no rows, files, file descriptors or memory behind."""

import random
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.clients import Batch, files, make_cases
from tests.chaos.processes import descriptors, memory, sockets_of, wait_until_at_most
from tests.forms import CONTENT_TYPE, batch
from tests.up_server import PATIENCE, UpServer, serving, staged, wait_for

AT_ONCE = 50
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with RST
SLACK = 12 << 20  # bytes by which memory may vary without a leak


def disconnect(server: UpServer, case: str, number: int, chance: random.Random) -> str:
    """Begins an upload and disconnects before its last byte: "reset" (RST) or "closed" (FIN)."""
    pictures = Batch(f"gone-{number}", case, files=chance.randint(1, 6), width=chance.choice([20, 100, 400])).pictures()
    body = batch([(content, f"{index}.png") for index, content in enumerate(pictures)])
    head = (
        f"POST {case}/artifacts/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n"
        f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    # Half of the clients disconnect in the first 2,000 bytes: in the request head or the headers of the first part.
    request = head + body
    offset = chance.randrange(min(chance.choice([2000, len(request)]), len(request)))
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as sock:
        sock.sendall(request[:offset])
        time.sleep(chance.choice([0, 0, 0.01, 0.1]))
        resets = chance.random() < 0.5
        if resets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    return "reset" if resets else "closed"


def test_clients_that_vanish_leave_nothing(tmp_path, dsn, make_token, rows, effort, tally):
    count = effort.times(100, 1000)
    with serving(tmp_path / "data", dsn, make_token()) as server:
        storage, pid, cases = server.data / "artifacts", server.process.pid, make_cases(server)

        def crowd() -> int:
            """Memory in bytes after `count` clients, once the server has cleaned up after them."""
            chances = [random.Random(effort.random.random()) for _ in range(count)]
            with ThreadPoolExecutor(AT_ONCE) as threads:
                results = threads.map(lambda n: disconnect(server, cases[n % len(cases)], n, chances[n]), range(count))
                for result in results:
                    tally.add(result)
            wait_until_at_most(lambda: sockets_of(server.port), 0)
            wait_for(lambda: not staged(storage), lambda: str(staged(storage)))
            return memory(pid)

        # The first crowds fill caches and fragment the heap, which is reused. Only a leak grows with each crowd.
        first = [crowd() for _ in range(effort.times(1, 3))]
        opened = descriptors(pid)
        levels = [crowd() for _ in range(effort.times(2, 3))]
        tally.record("MiB after each crowd", [level >> 20 for level in (*first, *levels)])
        wait_for(lambda: len(descriptors(pid)) <= len(opened), lambda: str(descriptors(pid)))
        assert rows("SELECT FROM test_artifacts") == [] and files(storage) == []
        assert min(levels) <= max(first) + SLACK, (first, levels)
        assert server.ask("GET", "/readyz").status == 200
        tally.record("file descriptors", len(opened))
