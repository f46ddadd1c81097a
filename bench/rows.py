"""The rows of "the figures to reach" that compare CPU time. Each is measured in turn with what it is compared with."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import servers
from bench.load import Load
from bench.measure import Contenders, Measured, fetch, in_turn, insert_alone, make_cases, measure
from bench.processes import Server
from bench.results import Row
from bench.run import Run

ARTIFACTS_OF_A_CASE = 10


def batch(run: Run) -> list[Row]:
    """10 × 200 KB in a batch, over the floor, and the FastAPI peer over ours."""
    floor = Row("batch", "batch of 10 × 200 KB", "CPU s/GB", "floor", 1.5)
    peer = Row("batch", "batch of 10 × 200 KB, peer's over ours", "CPU s/GB", "FastAPI peer", 2, False, True)
    return _batch(run, floor, peer, 10, 200_000, 240)


def large(run: Run) -> list[Row]:
    """1 × 8 MB, for information."""
    floor = Row("large", "batch of 1 × 8 MB", "CPU s/GB", "floor")
    peer = Row("large", "batch of 1 × 8 MB, peer's over ours", "CPU s/GB", "FastAPI peer", inverted=True)
    return _batch(run, floor, peer, 1, 8_000_000, 60)


def _batch(run: Run, floor: Row, peer: Row, files: int, size: int, requests: int) -> list[Row]:
    with ExitStack() as stack:
        ours, folder = _ours(run, stack)
        limit = stack.enter_context(servers.floor(folder / "floor"))

        def upload(server: Server, count: int) -> Measured:
            paths = [f"{case}/artifacts/batch" for case in make_cases(ours, count, 10)]
            return measure(server, Load(server.port, "batch", paths, count, server.token, files=files, size=size))

        def to_floor(count: int) -> Measured:
            measured = measure(limit, Load(limit.port, "batch", ["/"], count, files=files, size=size))
            _empty(folder / "floor")
            return measured

        contenders: Contenders = {
            "ours": partial(upload, ours),
            "floor": to_floor,
            **_peer(run, stack, folder, peer, upload),
        }
        found = in_turn(run.rounds, run.count(requests), contenders)
    figures = {name: [measured.per_gb() for measured in values] for name, values in found.items()}
    return [floor.fill(figures["ours"], figures["floor"]), peer.fill(figures["ours"], figures.get("peer", ()))]


def small(run: Run) -> list[Row]:
    """One artifact of 2 KB, over a bare handler with one insert, and the FastAPI peer over ours."""
    bare = Row("small", "one artifact of 2 KB", "CPU ms", "bare handler, one insert", 1.8)
    peer = Row("small", "one artifact of 2 KB, peer's over ours", "CPU ms", "FastAPI peer", 4, False, True)
    with ExitStack() as stack:
        ours, folder = _ours(run, stack)
        handler = stack.enter_context(servers.bare(run.database))

        def upload(server: Server, count: int) -> Measured:
            cases = make_cases(ours, -(-count // ARTIFACTS_OF_A_CASE), ARTIFACTS_OF_A_CASE)
            paths = [f"{case}/artifacts" for case in cases]
            return measure(server, Load(server.port, "single", paths, count, server.token, size=2_000))

        def to_bare(count: int) -> Measured:
            return measure(handler, Load(handler.port, "single", ["/"], count, size=2_000))

        contenders: Contenders = {
            "ours": partial(upload, ours),
            "bare": to_bare,
            **_peer(run, stack, folder, peer, upload),
        }
        found = in_turn(run.rounds, run.count(2000), contenders)
    figures = {name: [measured.per_request() for measured in values] for name, values in found.items()}
    return [bare.fill(figures["ours"], figures["bare"]), peer.fill(figures["ours"], figures.get("peer", ()))]


def steps(run: Run) -> list[Row]:
    """10 steps in one POST, the FastAPI peer over ours."""
    peer = Row("steps", "10 steps in one POST, peer's over ours", "CPU ms", "FastAPI peer", 4, False, True)
    with ExitStack() as stack:
        ours, folder = _ours(run, stack)

        def post(server: Server, count: int) -> Measured:
            paths = [f"{case}/steps" for case in make_cases(ours, count)]
            return measure(server, Load(server.port, "steps", paths, count, server.token, steps=10))

        found = in_turn(
            run.rounds, run.count(2000), {"ours": partial(post, ours), **_peer(run, stack, folder, peer, post)}
        )
    figures = {name: [measured.per_request() for measured in values] for name, values in found.items()}
    return [peer.fill(figures["ours"], figures.get("peer", ()))]


def steps50(run: Run) -> list[Row]:
    """50 steps in one POST, over the same insert without a server."""
    row = Row("steps-50", "50 steps in one POST", "rows per CPU s", "asyncpg alone", 0.5, False)
    with ExitStack() as stack:
        ours, _ = _ours(run, stack)

        def post(count: int) -> Measured:
            paths = [f"{case}/steps" for case in make_cases(ours, count)]
            return measure(ours, Load(ours.port, "steps", paths, count, ours.token, steps=50))

        def alone(count: int) -> Measured:
            cases = [path.rpartition("/")[2] for path in make_cases(ours, count + 1)]
            return insert_alone(run.database.dsn, 50, cases)

        found = in_turn(run.rounds, run.count(1000), {"ours": post, "alone": alone})
    figures = {name: [(50 * m.result.requests / m.cpu, 0.0) for m in values] for name, values in found.items()}
    return [row.fill(figures["ours"], figures["alone"])]


def read_steps(run: Run) -> list[Row]:
    """GET of 50 steps with their screenshots, over a bare handler that returns the same bytes."""
    row = Row("read-steps", "GET 50 steps, screenshots", "requests per CPU s", "bare handler, same bytes", 0.25, False)
    with ExitStack() as stack:
        ours, folder = _ours(run, stack)
        cases = make_cases(ours, 20, 50)
        batches = [f"{case}/artifacts/batch" for case in cases]
        measure(ours, Load(ours.port, "batch", batches, len(batches), ours.token, files=50, size=2_000))
        paths = [f"{case}/steps" for case in cases]
        same = folder / "steps.json"
        same.write_bytes(fetch(ours, "GET", paths[0]))
        handler = stack.enter_context(servers.bare(run.database, same))

        def read(server: Server, factor: int, count: int) -> Measured:
            return measure(server, Load(server.port, "get", paths, count * factor, server.token))

        # The handler is so much faster that it needs more requests for a figure.
        contenders = {"ours": partial(read, ours, 1), "bare": partial(read, handler, 10)}
        found = in_turn(run.rounds, run.count(1500), contenders)
    figures = {name: [(m.result.requests / m.cpu, 0.0) for m in values] for name, values in found.items()}
    return [row.fill(figures["ours"], figures["bare"])]


def _ours(run: Run, stack: ExitStack) -> tuple[Server, Path]:
    """Our server for a row, and the row's folder."""
    folder = stack.enter_context(run.scratch())
    return stack.enter_context(servers.reportd(run.database, folder / "ours")), folder


def _peer(run: Run, stack: ExitStack, folder: Path, row: Row, act: Callable[[Server, int], Measured]) -> Contenders:
    """The peer as one more contender, or why it is none in its row."""
    row.missing = servers.no_peer()
    if row.missing:
        return {}
    return {"peer": partial(act, stack.enter_context(servers.peer(run.database, folder / "peer")))}


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
