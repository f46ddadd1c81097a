"""Rows of writing: CPU time of uploads and of steps."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import servers
from bench.load import Load
from bench.measure import Contenders, Measured, figures, in_turn, insert_alone, make_cases, measure
from bench.processes import BenchError, Server
from bench.results import Row
from bench.run import Run
from bench.servers import Database

ARTIFACTS_OF_A_CASE = 10


def batch(run: Run) -> list[Row]:
    """10 × 200 KB in a batch, over the floor, and the FastAPI peer over ours."""
    floor = Row("batch", "batch of 10 × 200 KB", "CPU s/GB", "floor", 1.5)
    peer = _peer("batch", "batch of 10 × 200 KB", "CPU s/GB", 2)
    return _batch(run, floor, peer, 10, 200_000, 240)


def large(run: Run) -> list[Row]:
    """1 × 8 MB, for information."""
    floor = Row("large", "batch of 1 × 8 MB", "CPU s/GB", "floor")
    peer = _peer("large", "batch of 1 × 8 MB", "CPU s/GB", None)
    return _batch(run, floor, peer, 1, 8_000_000, 60)


def _batch(run: Run, floor: Row, peer: Row, files: int, size: int, requests: int) -> list[Row]:
    with ExitStack() as stack:
        ours, folder = run.ours(stack)
        limit = stack.enter_context(servers.floor(folder / "floor"))

        def upload(server: Server, count: int) -> Measured:
            cases = make_cases(ours, count, 10)
            paths = [f"{case}/artifacts/batch" for case in cases]
            load = Load(server.port, "batch", paths, count, server.token, files=files, size=size)
            measured = measure(server, load)
            _must_show(run.database, cases, count * files)
            return measured

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
    each = figures(found, Measured.per_gb)
    return [floor.fill(each["ours"], each["floor"]), peer.fill(each["ours"], each.get("peer", ()))]


def small(run: Run) -> list[Row]:
    """One artifact of 2 KB, over a bare handler with one insert, and the FastAPI peer over ours."""
    bare = Row("small", "one artifact of 2 KB", "CPU ms", "bare handler, one insert", 1.8)
    peer = _peer("small", "one artifact of 2 KB", "CPU ms", 4)
    with ExitStack() as stack:
        ours, folder = run.ours(stack)
        handler = stack.enter_context(servers.bare(run.database))

        def upload(server: Server, count: int) -> Measured:
            cases = make_cases(ours, -(-count // ARTIFACTS_OF_A_CASE), ARTIFACTS_OF_A_CASE)
            paths = [f"{case}/artifacts" for case in cases]
            measured = measure(server, Load(server.port, "single", paths, count, server.token, size=2_000))
            _must_show(run.database, cases, count)
            return measured

        def to_bare(count: int) -> Measured:
            # It is so much faster that it needs more requests for a figure.
            return measure(handler, Load(handler.port, "single", ["/"], count * 4, size=2_000))

        contenders: Contenders = {
            "ours": partial(upload, ours),
            "bare": to_bare,
            **peer_too(stack, run.database, folder, peer, upload),
        }
        found = in_turn(run.rounds, run.count(2000), contenders)
    each = figures(found, Measured.per_request)
    return [bare.fill(each["ours"], each["bare"]), peer.fill(each["ours"], each.get("peer", ()))]


def steps(run: Run) -> list[Row]:
    """10 steps in one POST, the FastAPI peer over ours."""
    peer = _peer("steps", "10 steps in one POST", "CPU ms", 4)
    with ExitStack() as stack:
        ours, folder = run.ours(stack)

        def post(server: Server, count: int) -> Measured:
            paths = [f"{case}/steps" for case in make_cases(ours, count)]
            load = Load(server.port, "steps", paths, count, server.token, steps=10, check_port=ours.port)
            return measure(server, load)

        found = in_turn(
            run.rounds,
            run.count(2000),
            {"ours": partial(post, ours), **peer_too(stack, run.database, folder, peer, post)},
        )
    each = figures(found, Measured.per_request)
    return [peer.fill(each["ours"], each.get("peer", ()))]


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
    each = figures(found, lambda m: 50 * m.result.requests / m.cpu)
    return [row.fill(each["ours"], each["alone"])]


def _peer(name: str, figure: str, unit: str, goal: float | None) -> Row:
    return Row(name, f"{figure}, peer's over ours", unit, "FastAPI peer", goal, at_most=False, inverted=True)


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


def _must_show(database: Database, cases: list[str], artifacts: int) -> None:
    """Raises BenchError unless the steps of these cases show so many artifacts: who saves less does less work."""
    ids = ",".join(case.rpartition("/")[2] for case in cases)
    shown = database.value(
        "SELECT count(*) FROM test_step_results s JOIN test_artifacts a"
        " ON a.id = s.screenshot_artifact_id AND a.step_result_id = s.id"
        f" WHERE s.test_case_result_id = ANY('{{{ids}}}'::uuid[])"
    )
    if shown != artifacts:
        raise BenchError(f"{artifacts} artifacts were sent, {shown} are shown by their steps")


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
