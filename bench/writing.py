"""Rows about writes: CPU time of uploads and of steps."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import servers
from bench.load import Load
from bench.measure import Contenders, Measured, in_turn, insert_alone, make_cases, measure, values_of
from bench.processes import BenchError, Server
from bench.results import POSTGRES, WHOLE, Row
from bench.run import Run
from bench.servers import Database

ARTIFACTS_OF_A_CASE = 10


def batch(run: Run) -> list[Row]:
    """A batch of 10 × 200 KB, compared with the floor and with the FastAPI peer."""
    floor = Row("batch", "batch of 10 × 200 KB", "CPU s/GB", "floor", 2, part=WHOLE)
    peer = _peer_row("batch", "batch of 10 × 200 KB", "CPU s/GB", 2.5)
    return _batch(run, floor, peer, 10, 200_000, 240)


def large(run: Run) -> list[Row]:
    """A batch of 1 × 8 MB, compared with the floor and with the FastAPI peer; no goal."""
    floor = Row("large", "batch of 1 × 8 MB", "CPU s/GB", "floor", part=WHOLE)
    peer = _peer_row("large", "batch of 1 × 8 MB", "CPU s/GB", None)
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
            check_linked(run.database, cases, count * files)
            return measured

        def to_floor(count: int) -> Measured:
            measured = measure(limit, Load(limit.port, "batch", ["/"], count, files=files, size=size))
            empty(folder / "floor")
            return measured

        contenders: Contenders = {
            "ours": partial(upload, ours),
            "floor": to_floor,
            **add_peer(stack, run.database, folder, peer, upload),
        }
        found = in_turn(run.rounds, run.count(requests), contenders)
    each = values_of(found, Measured.per_gb)
    return [floor.fill(each["ours"], each["floor"]), peer.fill(each["ours"], each.get("peer", ()))]


def small(run: Run) -> list[Row]:
    """One artifact of 2 KB, compared with a bare handler with one insert and with the FastAPI peer."""
    bare = Row("small", "one artifact of 2 KB, server", "CPU ms", "bare handler, one insert", 4)
    postgres = Row("small", "one artifact of 2 KB, PostgreSQL", "CPU ms", "bare handler, one insert", 6, part=POSTGRES)
    peer = _peer_row("small", "one artifact of 2 KB", "CPU ms", 4)
    with ExitStack() as stack:
        ours, folder = run.ours(stack)
        handler = stack.enter_context(servers.bare(run.database))

        def upload(server: Server, count: int) -> Measured:
            cases = make_cases(ours, -(-count // ARTIFACTS_OF_A_CASE), ARTIFACTS_OF_A_CASE)
            paths = [f"{case}/artifacts" for case in cases]
            measured = measure(server, Load(server.port, "single", paths, count, server.token, size=2_000))
            check_linked(run.database, cases, count)
            return measured

        def to_bare(count: int) -> Measured:
            # It is much faster and needs more requests, since CPU time is counted in steps of 10 ms.
            return measure(handler, Load(handler.port, "single", ["/"], count * 4, size=2_000))

        contenders: Contenders = {
            "ours": partial(upload, ours),
            "bare": to_bare,
            **add_peer(stack, run.database, folder, peer, upload),
        }
        found = in_turn(run.rounds, run.count(1500), contenders)
    each = values_of(found, Measured.per_request)
    for row in (bare, postgres):
        row.fill(each["ours"], each["bare"])
    return [bare, postgres, peer.fill(each["ours"], each.get("peer", ()))]


def steps(run: Run) -> list[Row]:
    """10 steps in one POST, compared with the FastAPI peer."""
    peer = _peer_row("steps", "10 steps in one POST", "CPU ms", 5)
    with ExitStack() as stack:
        ours, folder = run.ours(stack)

        def post(server: Server, count: int) -> Measured:
            paths = [f"{case}/steps" for case in make_cases(ours, count)]
            load = Load(server.port, "steps", paths, count, server.token, steps=10, check_port=ours.port)
            return measure(server, load)

        found = in_turn(
            run.rounds,
            run.count(1500),
            {"ours": partial(post, ours), **add_peer(stack, run.database, folder, peer, post)},
        )
    each = values_of(found, Measured.per_request)
    return [peer.fill(each["ours"], each.get("peer", ()))]


def steps50(run: Run) -> list[Row]:
    """50 steps in one POST, compared with the same insert by a script without a server."""
    row = Row("steps-50", "50 steps in one POST", "rows per CPU s", "asyncpg alone", 0.6, False)
    with ExitStack() as stack:
        ours, _ = run.ours(stack)

        def post(count: int) -> Measured:
            paths = [f"{case}/steps" for case in make_cases(ours, count)]
            return measure(ours, Load(ours.port, "steps", paths, count, ours.token, steps=50))

        def alone(count: int) -> Measured:
            cases = [path.rpartition("/")[2] for path in make_cases(ours, count + 1)]
            return insert_alone(run.database.dsn, 50, cases)

        found = in_turn(run.rounds, run.count(1000), {"ours": post, "alone": alone})
    each = values_of(found, lambda m: 50 * m.result.requests / m.cpu)
    return [row.fill(each["ours"], each["alone"])]


def _peer_row(name: str, figure: str, unit: str, goal: float | None) -> Row:
    return Row(name, f"{figure}, peer's over ours", unit, "FastAPI peer", goal, False, True, WHOLE)


def add_peer(
    stack: ExitStack,
    database: Database,
    folder: Path,
    row: Row,
    send: Callable[[Server, int], Measured],
    durable: bool = False,
) -> Contenders:
    """Adds the peer as a contender. When it is not available, sets `missing` in its row and returns no contender."""
    row.missing = servers.why_no_peer()
    if row.missing:
        return {}
    return {"peer": partial(send, stack.enter_context(servers.peer(database, folder / "peer", durable)))}


def check_linked(database: Database, cases: list[str], artifacts: int) -> None:
    """Raises BenchError unless `artifacts` artifacts are linked to the steps of these cases.

    Otherwise a server that does not link them would look faster.
    """
    ids = ",".join(case.rpartition("/")[2] for case in cases)
    linked = database.value(
        "SELECT count(*) FROM test_step_results s JOIN test_artifacts a"
        " ON a.id = s.screenshot_artifact_id AND a.step_result_id = s.id"
        f" WHERE s.test_case_result_id = ANY('{{{ids}}}'::uuid[])"
    )
    if linked != artifacts:
        raise BenchError(f"{artifacts} artifacts were sent, but {linked} are linked to their steps")


def empty(folder: Path) -> None:
    """Removes the files of a folder."""
    for path in folder.iterdir():
        path.unlink()
