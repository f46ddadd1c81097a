"""Rows of writing: CPU time of uploads and of steps."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import servers
from bench.load import Load
from bench.measure import Contenders, Measured, in_turn, insert_alone, make_cases, measure
from bench.processes import Server
from bench.results import Row
from bench.run import Run
from bench.servers import Database

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
        ours, folder = run.ours(stack)
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
            **peer_too(stack, run.database, folder, peer, upload),
        }
        found = in_turn(run.rounds, run.count(requests), contenders)
    figures = {name: [measured.per_gb() for measured in values] for name, values in found.items()}
    return [floor.fill(figures["ours"], figures["floor"]), peer.fill(figures["ours"], figures.get("peer", ()))]


def small(run: Run) -> list[Row]:
    """One artifact of 2 KB, over a bare handler with one insert, and the FastAPI peer over ours."""
    bare = Row("small", "one artifact of 2 KB", "CPU ms", "bare handler, one insert", 1.8)
    peer = Row("small", "one artifact of 2 KB, peer's over ours", "CPU ms", "FastAPI peer", 4, False, True)
    with ExitStack() as stack:
        ours, folder = run.ours(stack)
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
            **peer_too(stack, run.database, folder, peer, upload),
        }
        found = in_turn(run.rounds, run.count(2000), contenders)
    figures = {name: [measured.per_request() for measured in values] for name, values in found.items()}
    return [bare.fill(figures["ours"], figures["bare"]), peer.fill(figures["ours"], figures.get("peer", ()))]


def steps(run: Run) -> list[Row]:
    """10 steps in one POST, the FastAPI peer over ours."""
    peer = Row("steps", "10 steps in one POST, peer's over ours", "CPU ms", "FastAPI peer", 4, False, True)
    with ExitStack() as stack:
        ours, folder = run.ours(stack)

        def post(server: Server, count: int) -> Measured:
            paths = [f"{case}/steps" for case in make_cases(ours, count)]
            return measure(server, Load(server.port, "steps", paths, count, server.token, steps=10))

        found = in_turn(
            run.rounds,
            run.count(2000),
            {"ours": partial(post, ours), **peer_too(stack, run.database, folder, peer, post)},
        )
    figures = {name: [measured.per_request() for measured in values] for name, values in found.items()}
    return [peer.fill(figures["ours"], figures.get("peer", ()))]


def steps50(run: Run) -> list[Row]:
    """50 steps in one POST, over the same insert without a server."""
    row = Row("steps-50", "50 steps in one POST", "rows per CPU s", "asyncpg alone", 0.5, False)
    with ExitStack() as stack:
        ours, _ = run.ours(stack)

        def post(count: int) -> Measured:
            paths = [f"{case}/steps" for case in make_cases(ours, count)]
            return measure(ours, Load(ours.port, "steps", paths, count, ours.token, steps=50))

        def alone(count: int) -> Measured:
            cases = [path.rpartition("/")[2] for path in make_cases(ours, count + 1)]
            return insert_alone(run.database.dsn, 50, cases)

        found = in_turn(run.rounds, run.count(1000), {"ours": post, "alone": alone})
    figures = {name: [(50 * m.result.requests / m.cpu, 0.0) for m in values] for name, values in found.items()}
    return [row.fill(figures["ours"], figures["alone"])]


def peer_too(
    stack: ExitStack,
    database: Database,
    folder: Path,
    row: Row,
    act: Callable[[Server, int], Measured],
    durable: bool = False,
) -> Contenders:
    """The peer as one more contender, or why it is none in its row."""
    row.missing = servers.no_peer()
    if row.missing:
        return {}
    return {"peer": partial(act, stack.enter_context(servers.peer(database, folder / "peer", durable)))}


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
