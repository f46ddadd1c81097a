"""`python -m bench cluster`: what a shared folder costs instead of a local disk, and HAProxy in front of a server."""

import argparse
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from bench import results
from bench.load import Load
from bench.measure import make_cases, measure
from bench.processes import BenchError, Server, cpu_seconds, folder
from bench.servers import Cluster, Database, reportd

HEAD = ("request", "through", "wall ms", "×", "reportd CPU ms", "×", "PostgreSQL", "engine CPU ms")
_ARTIFACTS = 10  # of a test case, when they are sent one by one
_ONE = 1  # connection: the time of a request is then the time that its client waits


class Cost(NamedTuple):
    """Milliseconds of a request: for its client, and of CPU. `engine`: the processes of SeaweedFS or of HAProxy."""

    wall: float
    server: float
    postgres: float
    engine: float


class Way(NamedTuple):
    """A way to a server, and the processes beside it whose CPU time counts."""

    name: str
    server: Server
    engines: Sequence[int] = ()


def main(arguments: Sequence[str]) -> int:
    """Measures all ways in turn in each round, and prints the medians and their ratios to the first way."""
    parser = argparse.ArgumentParser(prog="python -m bench cluster", description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--requests", type=int, default=200, help="of a kind in each round (default: %(default)s)")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        place = stack.enter_context(folder(on_disk=True))
        cluster = stack.enter_context(Cluster(place / "postgres"))
        ways, proxied = _ways(stack, cluster, place)
        kinds: list[tuple[str, list[Way], Callable[[Way, int], Cost]]] = [
            ("batch of 10 × 200 KB", ways, _batch),
            ("artifact of 2 KB", ways, _small),
            ("artifact of 2 KB, no fsync", proxied, _small),
            ("GET of a run", proxied, _get),
        ]
        lines = [line for kind in kinds for line in _lines(*kind, options.rounds, options.requests)]
    print(results.table(HEAD, lines))
    return 0


def _ways(stack: ExitStack, cluster: Cluster, place: Path) -> tuple[list[Way], list[Way]]:
    """A server on a local disk and one on a mount of SeaweedFS, both with fsync; a server alone and behind HAProxy."""
    try:
        from tests.cluster.engines import haproxy, host, seaweedfs
        from tests.cluster.programs import LOOPBACK, required

        for program in ("weed", "fusermount3", "haproxy"):
            required(program)
    except ImportError as error:
        raise BenchError(f"{error}: the engines are started by tests/cluster; pip install -e '.[test]'") from None
    except BaseException as error:  # how pytest skips a test
        raise BenchError(f"{error}; see bench/README.md") from None
    (place / "weed").mkdir()
    weed = stack.enter_context(seaweedfs(place / "weed"))
    mount = stack.enter_context(host(place / "host", weed, "bench")).mount
    engines = [weed.master.pid, weed.filer.pid, mount.pid, *(volume.pid for volume in weed.volumes)]

    def server(name: str, **artifacts: Any) -> Server:
        database: Database = cluster.database(name)
        return stack.enter_context(reportd(database, place / name, artifacts=artifacts))

    durable = {"durability": "full", "hard_links": False}
    shared = server("shared", **durable, storage_path=str(mount.outside / "files"))
    ways = [Way("a local disk", server("local", **durable)), Way("SeaweedFS by FUSE", shared, engines)]
    alone = server("alone")
    proxy = stack.enter_context(haproxy(place / "haproxy", {"one": f"{LOOPBACK}:{alone.port}"}))
    proxy.wait_until_up()
    before = replace(alone, port=int(proxy.address.rpartition(":")[2]))
    return ways, [Way("no proxy", alone), Way("HAProxy", before, [proxy.pid])]


def _lines(
    name: str, ways: Sequence[Way], send: Callable[[Way, int], Cost], rounds: int, requests: int
) -> list[tuple[str, ...]]:
    """The lines of the table for a kind of request."""
    for way in ways:
        send(way, max(10, requests // 10))
    found: dict[str, list[Cost]] = {way.name: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            found[way.name].append(send(way, requests))
    medians = {way: Cost(*map(statistics.median, zip(*costs, strict=True))) for way, costs in found.items()}
    first = medians[ways[0].name]
    return [
        (
            *(name, way, f"{cost.wall:.2f}", f"{cost.wall / first.wall:.2f}"),
            *(f"{cost.server:.2f}", f"{cost.server / (first.server or 1):.2f}"),
            *(f"{cost.postgres:.2f}", f"{cost.engine:.2f}" if cost.engine else ""),
        )
        for way, cost in medians.items()
    ]


def _batch(way: Way, count: int) -> Cost:
    paths = [f"{case}/artifacts/batch" for case in make_cases(way.server, count, 10)]
    return _cost(way, Load(way.server.port, "batch", paths, count, way.server.token, _ONE, files=10, size=200_000))


def _small(way: Way, count: int) -> Cost:
    cases = make_cases(way.server, -(-count // _ARTIFACTS), _ARTIFACTS)
    paths = [f"{case}/artifacts" for case in cases]
    return _cost(way, Load(way.server.port, "single", paths, count, way.server.token, _ONE, size=2_000))


def _get(way: Way, count: int) -> Cost:
    (case,) = make_cases(way.server, 1)
    return _cost(way, Load(way.server.port, "get", [case], 10 * count, way.server.token, _ONE))


def _cost(way: Way, load: Load) -> Cost:
    before = sum(map(cpu_seconds, way.engines))
    measured = measure(way.server, load)
    spent = sum(map(cpu_seconds, way.engines)) - before
    requests = measured.result.requests
    return Cost(1e3 * measured.result.seconds / requests, *measured.per_request(), 1e3 * spent / requests)
