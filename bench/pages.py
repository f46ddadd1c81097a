"""`python -m bench pages`: the time of every page with a million results, and what it asks of PostgreSQL."""

import argparse
import gzip
import http.client
import re
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import quote

from bench import plans, results
from bench.processes import BenchError, Server, folder
from bench.servers import Cluster, Database, reportd
from bench.volume import BYTES_PER_RUN, RUN_OF, addresses, fill
from server.routes import PAGES

GOAL = 200  # milliseconds at p95 on an idle machine
_FEW = 26  # runs of the almost empty database
_API = "/api/v1/reports"


class Page(NamedTuple):
    """A page or a JSON endpoint. `{names}` in the address are those of bench/volume.py."""

    name: str
    address: str
    fragment: bool = False


MEASURED = [
    Page("first page", "/"),
    Page("runs", "/runs"),
    Page("runs of a branch and name", "/runs?branch=main&name=nightly&project=default"),
    Page("runs, rare filter", "/runs?status=Failed&environment=staging&tag=team-3&project=web"),
    Page("runs, nothing fits", "/runs?environment=none&project=default"),
    Page("runs of some days", "/runs?since={two_weeks_ago}"),
    Page("runs, an old page", "/runs?cursor={middle}"),
    Page("run of 500", "/runs/{run}"),
    Page("run of 5,000", "/runs/{large_run}"),
    Page("run of 5,000, failed", "/runs/{large_run}?status=Failed&group=none"),
    Page("run of 5,000, passed", "/runs/{large_run}?status=Passed"),
    Page("run of 5,000, by name", "/runs/{large_run}?q=method+4"),
    Page("run of 5,000, by tag", "/runs/{large_run}?tag=area-3"),
    Page("result of 20 steps", "/results/{steps_20}"),
    Page("result of 200 steps", "/results/{steps_200}"),
    Page("result of 2,000 steps", "/results/{steps_2000}"),
    Page("the same, with green", "/results/{steps_200}?with=green"),
    Page("first difference, 2,000", "/results/{steps_2000}/difference", True),
    Page("result, all logs", "/results/{steps_2000}?log=all"),
    Page("result, a time window", "/results/{steps_2000}?log=all&from=1000&to=60000"),
    Page("comparison of results, 200", "/results/{steps_200}/compare"),
    Page("comparison of results, 2,000", "/results/{steps_2000}/compare"),
    Page("comparison of runs of 500", "/compare?head={run}"),
    Page("comparison of runs of 5,000", "/compare?head={large_run}&base={run}"),
    Page("help", "/help"),
    Page("insights, flaky", "/insights?project=default"),
    Page("insights, slow", "/insights?project=default&show=slow"),
    Page("insights, selectors", "/insights?project=default&show=selectors"),
    Page("insights, trends", "/insights?project=default&show=trends"),
    Page("administration: projects", "/admin/projects"),
    Page("administration: people", "/admin/people"),
    Page("administration: tokens", "/admin/tokens"),
    Page("administration: links", "/admin/links"),
    Page("administration: audit", "/admin/audit"),
    Page("administration: storage", "/admin/storage"),
    Page("administration: webhooks", "/admin/webhooks"),
    Page("step, fragment", "/results/{steps_2000}/steps/1.1601", True),
    Page("step, page", "/results/{steps_2000}/steps/1.40"),
    Page("test", "/tests?id={test}&project=default"),
    Page("test, filtered", "/tests?id={test}&project=default&branch=main&browser=chromium"),
    Page("JSON history", f"{_API}/tests?test_id={{test}}&project=default"),
    Page("JSON errors", f"{_API}/errors"),
    Page("JSON errors of a project", f"{_API}/errors?project=default&since={{two_weeks_ago}}"),
    Page("JSON an error", f"{_API}/errors/{{error}}?project=default"),
    Page("JSON errors of 5,000", f"{_API}/suite-runs/{{large_run}}/errors"),
    Page("JSON search, word", f"{_API}/search?q=timeout+visible"),
    Page("JSON search, part of a word", f"{_API}/search?q=ebabade"),
    Page("JSON search, test", f"{_API}/search?q=method+499"),
    Page("JSON search, selector", f"{_API}/search?q=button&in=selectors"),
    Page("JSON search, nothing", f"{_API}/search?q=zzzzqqq"),
    Page("JSON comparison of 500", f"{_API}/suite-runs/{{run}}/comparison"),
    Page("JSON comparison of 5,000", f"{_API}/suite-runs/{{large_run}}/comparison?base={{run}}"),
    Page("JSON marks of 500", f"{_API}/suite-runs/{{run}}/marks"),
    Page("JSON marks of 5,000", f"{_API}/suite-runs/{{large_run}}/marks"),
    Page("JSON last green", f"{_API}/test-case-results/{{steps_2000}}/last-green"),
    Page("JSON first difference, 2,000", f"{_API}/test-case-results/{{steps_2000}}/first-difference"),
    Page("JSON comparison, 2,000", f"{_API}/test-case-results/{{steps_2000}}/comparison"),
]


@dataclass
class Cost:
    """What one page cost on one database: milliseconds for the client, and CPU milliseconds of a request."""

    times: list[float]
    server: float
    postgres: float
    body: bytes

    @property
    def cpu(self) -> float:
        return self.server + self.postgres

    @property
    def p50(self) -> float:
        return statistics.median(self.times)

    @property
    def p95(self) -> float:
        return sorted(self.times)[-(-len(self.times) * 95 // 100) - 1]


@dataclass
class Found:
    """All about a page: its cost on the large and on the almost empty database, and its statements with their plans."""

    page: Page
    cost: Cost
    small: Cost
    statements: list[tuple[plans.Statement, plans.Plan]] = field(default_factory=list)

    def cells(self) -> tuple[str, ...]:
        """The cells of the table."""
        cost = self.cost
        sizes = f"{len(cost.body) / 1000:.0f}", f"{len(gzip.compress(cost.body, 5)) / 1000:.1f}"
        times = f"{cost.p50:.1f}", f"{cost.p95:.1f}", f"{cost.p50 / self.small.p50:.2f}"
        cpu = f"{cost.server:.1f}", f"{cost.postgres:.1f}", f"{cost.cpu / (self.small.cpu or 1):.2f}"
        verdict = "scans" if any(plan.scans for _, plan in self.statements) else "slow" if cost.p95 > GOAL else ""
        return self.page.name, *times, *cpu, *sizes, str(len(self.statements)), verdict


HEAD = ("page", "p50 ms", "p95 ms", "× small", "CPU ms", "PostgreSQL", "× small", "kB", "gzip kB", "statements", "")


def main(arguments: Sequence[str]) -> int:
    """Fills, measures and prints. Exit code 1 when a page reads a large table from beginning to end."""
    options = _parser().parse_args(arguments)
    wanted = [page for page in MEASURED if not options.only or any(word in page.name for word in options.only)]
    with ExitStack() as stack:
        place = stack.enter_context(_place(options.keep, options.runs))
        cluster = stack.enter_context(Cluster(place / "postgres"))
        large, small = (_filled(cluster, runs) for runs in (options.runs, _FEW))
        with _server(large, place) as one, _server(small, place) as other:
            pairs = [(one, addresses(large)), (other, addresses(small))]
            found = []
            for page in wanted:
                print(page.name, file=sys.stderr, flush=True)
                found.append(measured(page, pairs, options.rounds))
        _add_plans(found, cluster, large, place)
    print(results.table(HEAD, [each.cells() for each in found]))
    print(*_details(found), *_not_measured(), sep="\n")
    return int(any(plan.scans for each in found for _, plan in each.statements))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench pages", description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000, help=f"runs of {RUN_OF} results (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=30, help="requests of each page (default: %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="measure only pages with such a word in their names")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the databases there, and use those of before")
    return parser


@contextmanager
def _place(kept: Path | None, runs: int) -> Iterator[Path]:
    """The folder of the databases. Without `kept`, it is temporary."""
    if kept is None:
        with folder((runs + 2 * _FEW) * BYTES_PER_RUN) as place:
            yield place
        return
    kept.mkdir(0o755, parents=True, exist_ok=True)
    yield kept.resolve()


def _filled(cluster: Cluster, runs: int) -> Database:
    """The database with `runs` runs, filled unless it was kept."""
    database = cluster.database(f"runs{runs}")
    if not database.value("SELECT count(*) FROM suite_runs"):
        print(f"filling a database with {runs:,} runs", file=sys.stderr, flush=True)
        seconds = fill(database, runs)
        size = database.value("SELECT pg_database_size(current_database())") / 1e9
        print(f"filled in {seconds:.0f} s, {size:.1f} GB", file=sys.stderr, flush=True)
    return database


@contextmanager
def _server(database: Database, place: Path) -> Iterator[Server]:
    with TemporaryDirectory(dir=place) as files, reportd(database, Path(files)) as server:
        yield server


def measured(page: Page, pairs: Sequence[tuple[Server, dict[str, str]]], rounds: int) -> Found:
    """Asks both servers for the page in turn, after three requests that are not counted."""
    for server, values in pairs:
        _ask(server, page, values, 3)
    large, small = (_ask(server, page, values, rounds) for server, values in pairs)
    return Found(page, large, small)


def _ask(server: Server, page: Page, values: dict[str, str], rounds: int) -> Cost:
    """Asks for the page over one connection. Raises BenchError for any status but 200."""
    address = page.address.format_map({name: quote(value, safe="") for name, value in values.items()})
    headers = {"Authorization": f"Bearer {server.token}", "Accept": "text/html", "Accept-Encoding": "gzip"}
    headers |= {"X-Fragment": "1"} if page.fragment else {}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    times, body, before = [], b"", (server.cpu(), server.postgres_cpu())
    for _ in range(rounds):
        started = time.perf_counter()
        connection.request("GET", address, headers=headers)
        reply = connection.getresponse()
        body = reply.read()
        times.append((time.perf_counter() - started) * 1e3)
        if reply.status != 200:
            raise BenchError(f"GET {address}: status {reply.status}: {body[:500]!r}")
    spent = (server.cpu() - before[0]) / rounds * 1e3, (server.postgres_cpu() - before[1]) / rounds * 1e3
    connection.close()
    return Cost(times, *spent, gzip.decompress(body) if reply.headers["Content-Encoding"] else body)


def _add_plans(found: Sequence[Found], cluster: Cluster, database: Database, place: Path) -> None:
    """Asks once more for each page, of a server whose statements PostgreSQL logs, and explains each statement."""
    known: dict[plans.Statement, plans.Plan] = {}
    values = addresses(database)
    with plans.traced(database), _server(database, place) as server:
        for each in found:
            _ask(server, each.page, values, 1)  # opens the connections of the pool, and looks the token up
            start = cluster.log.stat().st_size
            _ask(server, each.page, values, 1)
            each.statements = [(statement, plans.Plan(set())) for statement in plans.statements(cluster.log, start)]
    for each in found:
        for statement, _ in each.statements:
            if statement not in known:
                known[statement] = plans.explain(database, statement)
        each.statements = [(statement, known[statement]) for statement, _ in each.statements]


def _details(found: Sequence[Found]) -> Iterator[str]:
    """The scans of large tables, and for each page its slowest statement."""
    yield "\nThe slowest statement of each page: milliseconds and 8 KiB pages read, with the slower plan\n"
    for each in found:
        if each.statements:
            statement, plan = max(each.statements, key=lambda pair: pair[1].milliseconds)
            yield f"{each.page.name:30} {plan.milliseconds:7.1f} {plan.buffers:7} {statement.name}"
    yield ""
    for each in found:
        for statement, plan in each.statements:
            for scan in sorted(plan.scans):
                yield f"{each.page.name}: reads all of {scan}: {statement.name}"


def _not_measured() -> Iterator[str]:
    """The pages of the server that are not in the table."""
    for route in PAGES:
        pattern = re.sub(r"\{[^}]*\}", r"[^/?]+", route.path) + r"(\?.*)?"
        if route.method == "GET" and not any(re.fullmatch(pattern, page.address) for page in MEASURED):
            yield f"not measured: {route.path}"
