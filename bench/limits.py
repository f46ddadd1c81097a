"""Rows about limits: batches per second with fsync, memory, and a database of 10 million steps."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from bench import servers
from bench.full import ARTIFACTS_OF_A_CASE, STEPS_OF_A_CASE, some_cases
from bench.load import Load
from bench.measure import Contenders, Measured, call, fetch, in_turn, make_cases, measure, values_of
from bench.processes import Server, file_system, memory, reset_peak
from bench.results import Row
from bench.run import Run
from bench.writing import add_peer

_ROUNDS = 3  # of a row whose values vary little
_STEADY = 3.0  # seconds without growth after which a peak is final


def durable(run: Run) -> list[Row]:
    """Batches of 10 × 200 KB per second with fsync on a real disk, compared with a floor with the same system calls."""
    unit = "batches per s"
    floor = Row("durable", "durable batches of 10 × 200 KB", unit, "floor", 0.9, False)
    clients = Row("durable", "durable batches of 10 × 200 KB, 8 clients", unit, "1 client", 2.5, False)
    peer = Row("durable", "durable batches of 10 × 200 KB, ours over peer's", unit, "FastAPI peer")
    with ExitStack() as stack:
        folder = stack.enter_context(run.scratch(on_disk=True))
        floor.figure += f", {file_system(folder)}"
        cluster = stack.enter_context(servers.Cluster(folder / "postgres"))
        database = cluster.database("bench")
        settings = {"durability": "full"}
        ours = stack.enter_context(servers.reportd(database, folder / "ours", artifacts=settings))
        limit = stack.enter_context(servers.floor(folder / "floor", database, 10))

        def upload(server: Server, count: int, connections: int = 4) -> Measured:
            paths = [f"{case}/artifacts/batch" for case in make_cases(ours, count, 10)]
            load = Load(server.port, "batch", paths, count, server.token, connections, files=10, size=200_000)
            return measure(server, load)

        def to_floor(count: int) -> Measured:
            return measure(limit, Load(limit.port, "batch", ["/"], count, files=10, size=200_000))

        theirs = add_peer(stack, database, folder, peer, upload, durable=True)
        contenders: Contenders = {
            "ours": partial(upload, ours),
            "floor": to_floor,
            **theirs,
            "1": partial(upload, ours, connections=1),
            "8": partial(upload, ours, connections=8),
        }
        found = in_turn(run.rounds, run.count(120), contenders)
    each = values_of(found, lambda m: m.result.requests / m.result.seconds)
    floor.fill(each["ours"], each["floor"])
    return [floor, clients.fill(each["8"], each["1"]), peer.fill(each["ours"], each.get("peer", ()))]


def at_once(run: Run) -> list[Row]:
    """Peak memory above idle during 64 concurrent uploads of 10 MB."""
    row = Row("memory", "64 uploads of 10 MB at once, peak above idle", "MiB", "", 80)
    count = 8 if run.quick else 64
    return [row.fill([(_growth(run, 10_000_000, count), 0.0) for _ in range(min(run.rounds, _ROUNDS))])]


def huge(run: Run) -> list[Row]:
    """Peak memory above idle during one upload of 5 GB."""
    row = Row("huge", "one upload of 5 GB, growth of memory", "MiB", "", 16)
    size = 200_000_000 if run.quick else 5_000_000_000
    return [row.fill([(_growth(run, size, 1), 0.0) for _ in range(min(run.rounds, _ROUNDS))])]


def _growth(run: Run, size: int, count: int) -> float:
    """Peak memory during the load minus memory before it, in MiB, of a new server that has had one small upload."""
    with ExitStack() as stack:
        folder = stack.enter_context(run.scratch(size * count))
        settings = {"max_file_size": max(size + (1 << 20), 10 << 20)}
        ours = stack.enter_context(servers.reportd(run.database, folder / "ours", artifacts=settings))
        paths = [f"{case}/artifacts" for case in make_cases(ours, count + 1, 10)]
        measure(ours, Load(ours.port, "single", paths[:1], 1, ours.token, size=2_000))
        (pid,) = ours.pids
        reset_peak(pid)
        idle = memory(pid, "VmRSS")
        load = Load(ours.port, "single", paths[1:], count, ours.token, connections=count, size=size, sample=0)
        measure(ours, load)
        return (memory(pid, "VmHWM") - idle) / 2**20


def readers(run: Run) -> list[Row]:
    """Peak memory above idle while 150 clients request a report and read nothing: of an evidence link, and by token."""
    count = 20 if run.quick else 150
    rows = []
    for by_link in (True, False):
        found = [_held_by_readers(run, count, by_link) for _ in range(min(run.rounds, _ROUNDS))]
        figure = f"{count} readers of a report of {found[0][1] / 2**20:.1f} MiB who do not read, peak above idle"
        row = Row("readers", figure, "MiB", "", 64) if by_link else Row("readers", f"{figure}, by token", "MiB", "")
        rows.append(row.fill([(growth, 0.0) for growth, _ in found]))
    return rows


def _held_by_readers(run: Run, count: int, by_link: bool) -> tuple[float, int]:
    """Peak memory during the requests minus memory before them, in MiB, of a new server; the size of the report."""
    with ExitStack() as stack:
        ours, _ = run.ours(stack)
        (case,) = make_cases(ours, 1)
        for first in (0, 1000):  # 2,000 steps of 4 KB
            steps = [{"step_number": first + i, "step_type": "other", "error_message": "e" * 4000} for i in range(1000)]
            call(ours, "POST", f"{case}/steps/bulk", {"steps": steps})
        path, headers = f"{case}/report", f"Host: 127.0.0.1\r\nAuthorization: Bearer {ours.token}\r\n"
        if by_link:
            wanted = {"test_case_result_id": case.rpartition("/")[2]}
            path, headers = call(ours, "POST", "/api/v1/reports/links", wanted)["url"], "Host: 127.0.0.1\r\n"
        size = len(fetch(ours, "GET", path))
        (pid,) = ours.pids
        reset_peak(pid)
        idle = memory(pid, "VmRSS")
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", ours.port))
            client.sendall(f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode())
        peak, since = memory(pid, "VmHWM"), time.monotonic()
        while time.monotonic() - since < _STEADY:
            time.sleep(0.2)
            if (now := memory(pid, "VmHWM")) > peak:
                peak, since = now, time.monotonic()
        return (peak - idle) / 2**20, size


def full(run: Run) -> list[Row]:
    """p50 of inserting and of reading steps with 10 million steps stored, compared with an empty database."""
    stored = f"{run.full_cases * STEPS_OF_A_CASE:,} stored"
    insert = Row("full", f"p50 of 10 steps in one POST, {stored}", "ms", "empty database", 1.3)
    read = Row("full", f"p50 of GET 50 steps, {stored}", "ms", "empty database", 1.3)
    with ExitStack() as stack:
        folder = stack.enter_context(run.scratch())
        empty = stack.enter_context(servers.reportd(run.empty, folder / "empty"))
        filled = stack.enter_context(servers.reportd(run.full, folder / "full"))
        few = make_cases(empty, 20, STEPS_OF_A_CASE)
        batches = [f"{case}/artifacts/batch" for case in few]
        measure(empty, Load(empty.port, "batch", batches, 20, empty.token, files=ARTIFACTS_OF_A_CASE, size=2_000))

        def post(server: Server, count: int) -> Measured:
            paths = [f"{case}/steps" for case in make_cases(server, count)]
            return measure(server, Load(server.port, "steps", paths, count, server.token, 1, steps=10))

        def get(server: Server, cases: Callable[[int], list[str]], count: int) -> Measured:
            paths = [f"{case}/steps" for case in cases(count)]
            return measure(server, Load(server.port, "get", paths, count, server.token, 1))

        random_cases = partial(some_cases, run.full, run.full_cases)
        posts = in_turn(run.rounds, run.count(1000), {"full": partial(post, filled), "empty": partial(post, empty)})
        gets = {"full": partial(get, filled, random_cases), "empty": partial(get, empty, lambda _: few)}
        rows = [(insert, posts), (read, in_turn(run.rounds, run.count(1000), gets))]
    for row, found in rows:
        each = values_of(found, lambda measured: measured.result.p50 * 1000)
        row.fill(each["full"], each["empty"])
    return [insert, read]
