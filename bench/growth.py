"""The growth table: uploads with more connections, workers, files per batch, larger files, a larger database."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace

from bench import servers
from bench.load import Load
from bench.measure import Measured, make_cases, measure
from bench.results import Point
from bench.run import Run
from bench.servers import Database

_ROUNDS = 3
_BYTES = 320_000_000  # of requests in a round, approximately
_MAX_REQUESTS = 1600  # in a round
_CONNECTIONS = (1, 4, 64, 256)
_SIZES = {"2 KB": 2_000, "200 KB": 200_000, "2 MB": 2_000_000, "10 MB": 10_000_000}
_BATCH = Load(0, "batch", [], 0, files=10, size=200_000)

Settings = Mapping[str, Mapping[str, object]]
DEFAULTS: Settings = {}


def growth(run: Run) -> Iterator[Point]:
    """Yields each point as soon as it is measured."""
    for workers in (1, 2):
        series = f"connections, {workers} worker" + "s" * (workers > 1)
        for connections in _CONNECTIONS[: 2 if run.quick else None]:
            if workers > 1 and not servers.has_setting("server", "workers"):
                yield Point(series, str(connections), missing="this reportd has no [server] workers")
                continue
            settings: Settings = {"server": {"workers": workers}} if workers > 1 else {}
            yield _point(run, Point(series, str(connections)), replace(_BATCH, connections=connections), settings)
    for files in (1, 10, 50):
        yield _point(run, Point("files of 200 KB in a batch", str(files)), replace(_BATCH, files=files))
    for name, size in _SIZES.items():
        yield _point(run, Point("size of a single file", name), replace(_BATCH, kind="single", files=1, size=size))
    full = run.full  # filled before both measurements, so that both have the same free memory
    yield _point(run, Point("database", "empty"), _BATCH, database=lambda: run.empty)
    yield _point(run, Point("database", f"{run.full_cases * 50:,} steps"), _BATCH, database=lambda: full)


def _point(
    run: Run, point: Point, load: Load, settings: Settings = DEFAULTS, database: Callable[[], Database] | None = None
) -> Point:
    """Measures one point with a new server."""
    requests = min(_MAX_REQUESTS, max(_BYTES // (load.files * load.size), 2 * load.connections))
    requests = max(load.connections, run.count(requests))
    rounds = 1 if run.quick else _ROUNDS
    endpoint = "artifacts/batch" if load.kind == "batch" else "artifacts"
    found: list[Measured] = []
    with ExitStack() as stack:
        folder = stack.enter_context(run.scratch())
        used = database() if database else run.database
        ours = stack.enter_context(servers.reportd(used, folder / "ours", **settings))
        for count in [max(load.connections, requests // 10)] + [requests] * rounds:
            paths = [f"{case}/{endpoint}" for case in make_cases(ours, count, max(10, load.files))]
            sent = replace(load, port=ours.port, token=ours.token, paths=paths, requests=count)
            found.append(measure(ours, sent))
    return _with_medians(point, found[1:])


def _with_medians(point: Point, found: list[Measured]) -> Point:
    """The point with the medians of all rounds."""

    def median(value: Callable[[Measured], float]) -> float:
        return statistics.median(map(value, found))

    return replace(
        point,
        mbs=median(lambda m: m.result.request_bytes / m.result.seconds / 1e6),
        per_gb=median(lambda m: m.per_gb()[0]),
        postgres_per_gb=median(lambda m: m.per_gb()[1]),
        p50=median(lambda m: m.result.p50 * 1000),
        p99=median(lambda m: m.result.p99 * 1000),
        busy=median(lambda m: m.result.busy),
    )
