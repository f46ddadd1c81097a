"""Rows about whole tests of 10 steps and 5 screenshots: by one bundle, by single calls, and a second time."""

import hashlib
import http.client
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench import servers
from bench.bodies import BOUNDARY, MULTIPART, Picture, bundle_json, part, step, whole_test
from bench.load import Load, Result
from bench.measure import Contenders, Measured, in_turn, make_run, measure, values_of
from bench.processes import BenchError, Server
from bench.results import WHOLE, Row
from bench.run import Run
from bench.servers import Database
from bench.writing import add_peer, check_linked, empty

_API = "/api/v1/reports"
_STEPS, _SCREENSHOTS, _SIZE = 10, 5, 100_000
_SENT_TWICE = 150_000  # bytes of each screenshot of a run that is sent twice
_AT_ONCE = 10  # tests of a bundle with new files, of which it has at most 50


def by_bundle(run: Run) -> list[Row]:
    """One whole test by one bundle, compared with the floor."""
    row = Row("bundle", "whole test by one bundle", "CPU s/GB", "floor", part=WHOLE)
    with ExitStack() as stack:
        ours, folder = run.ours(stack)
        limit = stack.enter_context(servers.floor(folder / "floor"))

        def to_floor(count: int) -> Measured:
            measured = measure(limit, _bundles(limit, "/", count))
            empty(folder / "floor")
            return measured

        contenders = {"ours": partial(_send_bundles, run.database, ours), "floor": to_floor}
        found = in_turn(run.rounds, run.count(600), contenders)
    each = values_of(found, Measured.per_gb)
    return [row.fill(each["ours"], each["floor"])]


def in_calls(run: Run) -> list[Row]:
    """One whole test by one bundle, compared with the calls of the specification's client, to reportd and the peer."""
    peer = "FastAPI peer, single calls"
    bundle, calls = "whole test by one bundle", "whole test by single calls"
    rows = {
        "all": Row("whole-test", f"{bundle}, peer's by single calls over ours", "CPU ms", peer, 6, at_most=False),
        "own": Row("whole-test", f"{bundle}, ours by single calls over it", "CPU ms", "reportd, single calls"),
        "unlinked": Row("whole-test", f"{bundle}, peer's by 3 calls over ours", "CPU ms", "FastAPI peer, 3 calls"),
        "both": Row("whole-test", f"{calls}, peer's over ours", "CPU ms", peer),
    }
    for row in rows.values():
        row.inverted, row.part = True, WHOLE
    with ExitStack() as stack:
        ours, folder = run.ours(stack)
        send = partial(_send_singly, run.database, ours)
        contenders: Contenders = {
            "bundle": partial(_send_bundles, run.database, ours),
            "calls": partial(send, ours),
            **add_peer(stack, run.database, folder, rows["all"], send),
        }
        found = in_turn(run.rounds, run.count(200), contenders)
    rows["unlinked"].missing = rows["both"].missing = rows["all"].missing
    each, links = values_of(found, Measured.per_request), values_of(found, _of_links)
    unlinked = [(a - c, b - d) for (a, b), (c, d) in zip(each.get("peer", ()), links.get("peer", ()), strict=True)]
    rows["all"].fill(each["bundle"], each.get("peer", ()))
    rows["own"].fill(each["bundle"], each["calls"])
    rows["unlinked"].fill(each["bundle"], unlinked)
    rows["both"].fill(each["calls"], each.get("peer", ()))
    return list(rows.values())


def twice(run: Run) -> list[Row]:
    """A run that is sent a second time: bytes, and CPU time, including the question which files are missing."""
    sent = Row("second-run", "bytes sent for a second, identical run", "MB", "first run", 0.01)
    cost = Row("second-run", "a test of a second, identical run", "CPU ms", "first run", part=WHOLE)
    tests = 10 if run.quick else 100
    pictures = [Picture(_SENT_TWICE) for _ in range(_SCREENSHOTS * tests)]
    found: dict[str, list[Measured]] = {"first": [], "second": []}
    with ExitStack() as stack:
        ours, _ = run.ours(stack)
        for _ in range(run.rounds + 1):
            serial = time.time_ns() << 20
            files = [picture.file(serial + i) for i, picture in enumerate(pictures)]
            for name, send in {"first": _send_files, "second": _send_known}.items():
                found[name].append(_measured(ours, tests, partial(send, make_run(ours), serial, files)))
    found = {name: measured[1:] for name, measured in found.items()}  # the first round is the warm-up
    each = values_of(found, lambda measured: measured.result.request_bytes / 1e6)
    sent.fill(each["second"], each["first"])
    each = values_of(found, Measured.per_request)
    return [sent, cost.fill(each["second"], each["first"])]


class _Connection(http.client.HTTPConnection):
    """A connection to a server that counts the bytes of its requests."""

    def __init__(self, server: Server) -> None:
        super().__init__("127.0.0.1", server.port, timeout=120)
        self.sent = 0
        self._token = server.token

    def send(self, data: Any) -> None:
        self.sent += len(data)
        super().send(data)

    def post(self, path: str, body: bytes, content_type: str = "application/json") -> Any:
        """The decoded reply. Raises BenchError unless the status is 200 or 201."""
        self.request("POST", path, body, {"Authorization": f"Bearer {self._token}", "Content-Type": content_type})
        reply = self.getresponse()
        content = reply.read()
        if reply.status not in (200, 201):
            raise BenchError(f"POST {path}: status {reply.status}: {content[:500]!r}")
        return json.loads(content)


def _measured(server: Server, tests: int, send: Callable[[_Connection], None]) -> Measured:
    connection, before = _Connection(server), (server.cpu(), server.postgres_cpu())
    send(connection)
    connection.close()
    spent = server.cpu() - before[0], server.postgres_cpu() - before[1]
    return Measured(*spent, Result(requests=tests, request_bytes=connection.sent))


def _send_files(run: str, serial: int, files: Sequence[bytes], connection: _Connection) -> None:
    """Sends the tests of a run with their files, in bundles of 10."""
    for first in range(0, len(files), _SCREENSHOTS * _AT_ONCE):
        some = files[first : first + _SCREENSHOTS * _AT_ONCE]
        entries = [{"file_index": i} for i in range(len(some))]
        parts = [part(b'name="bundle"', _tests(serial + first, entries))]
        parts += [part(b'name="files"; filename="step_%03d.png"' % (i % _SCREENSHOTS), f) for i, f in enumerate(some)]
        body = b"".join([*parts, b"--" + BOUNDARY + b"--\r\n"])
        _check_complete(connection.post(f"{run}/bundle", body, MULTIPART))


def _send_known(run: str, serial: int, files: Sequence[bytes], connection: _Connection) -> None:
    """Asks which files are missing, and sends the tests of a run without files."""
    content = [{"checksum": hashlib.sha256(file).hexdigest(), "file_size": len(file)} for file in files]
    question = json.dumps({"files": content}, separators=(",", ":")).encode()
    if connection.post(f"{_API}/artifacts/missing", question)["missing"]:
        raise BenchError("files of the first run are missing")
    names = [f"step_{i % _SCREENSHOTS:03d}.png" for i in range(len(files))]
    entries = [{"known": True, **each, "file_name": name} for each, name in zip(content, names, strict=True)]
    _check_complete(connection.post(f"{run}/bundle", _tests(serial, entries)))


def _tests(serial: int, entries: Sequence[dict[str, Any]]) -> bytes:
    """The JSON of a bundle whose tests have these files, 5 each."""
    steps = [step(i) for i in range(_STEPS)]
    files = [{**each, "artifact_type": "screenshot", "step_number": i % _SCREENSHOTS} for i, each in enumerate(entries)]
    groups = [files[i : i + _SCREENSHOTS] for i in range(0, len(files), _SCREENSHOTS)]
    return bundle_json([whole_test(serial + i, steps, group) for i, group in enumerate(groups)])


def _check_complete(reply: Any) -> None:
    if not all(test["complete"] and len(test["artifacts"]) == _SCREENSHOTS for test in reply["tests"]):
        raise BenchError(f"a test of a bundle is not complete: {str(reply)[:500]}")


@dataclass
class _Calls(Measured):
    """The cost of all calls, and that of the calls that link screenshots."""

    links: Measured


def _of_links(measured: Measured) -> tuple[float, float]:
    """CPU milliseconds of the linking calls of a test."""
    if not isinstance(measured, _Calls):
        return 0.0, 0.0
    return measured.links.cpu / measured.result.requests * 1e3, measured.links.postgres / measured.result.requests * 1e3


def _send_bundles(database: Database, ours: Server, count: int) -> Measured:
    path = make_run(ours)
    measured = measure(ours, _bundles(ours, f"{path}/bundle", count))
    check_linked(database, _cases(database, path), count * _SCREENSHOTS)
    return measured


def _bundles(server: Server, path: str, count: int) -> Load:
    return Load(server.port, "bundle", [path], count, server.token, files=_SCREENSHOTS, size=_SIZE, steps=_STEPS)


def _send_singly(database: Database, ours: Server, server: Server, count: int) -> Measured:
    """The calls of each test: its result, its steps, a batch of its screenshots, and a PATCH to link each of them.

    The calls of one kind are sent for all tests before those of the next kind.
    """
    run = make_run(ours)
    load = partial(Load, server.port, requests=count, token=server.token, check_port=ours.port)
    case = json.dumps({"name": "order is saved", "status": "Passed"})
    created = measure(server, load("json", [f"{run}/test-cases"], bodies=[case], sample=0))
    cases = _cases(database, run)
    steps = measure(server, load("steps", [f"{each}/steps" for each in cases], steps=_STEPS))
    batches = [f"{each}/artifacts/batch" for each in cases]
    files = measure(server, load("batch", batches, files=_SCREENSHOTS, size=_SIZE, check_port=server.port))
    check_linked(database, cases, count * _SCREENSHOTS)
    links = _links(database, cases)
    paths, bodies = [f"{_API}/steps/{each}" for each in links], [json.dumps({_SHOWN: each}) for each in links.values()]
    patches = Load(server.port, "json", paths, len(paths), server.token, bodies=bodies, method="PATCH", sample=0)
    linked = measure(server, patches)
    every = [created, steps, files, linked]
    whole = Result(requests=count, request_bytes=sum(each.result.request_bytes for each in every))
    return _Calls(sum(each.cpu for each in every), sum(each.postgres for each in every), whole, linked)


_SHOWN = "screenshot_artifact_id"


def _cases(database: Database, run: str) -> list[str]:
    """URL paths of the test case results of a run."""
    query = f"SELECT array_agg(id) FROM test_case_results WHERE suite_run_id = '{run.rpartition('/')[2]}'"
    return [f"{_API}/test-case-results/{case}" for case in database.value(query)]


def _links(database: Database, cases: Sequence[str]) -> dict[str, str]:
    """The ids of the steps with a screenshot, and of these screenshots."""
    ids = ",".join(case.rpartition("/")[2] for case in cases)
    query = (
        f"SELECT jsonb_object_agg(id, {_SHOWN}) FROM test_step_results"
        f" WHERE {_SHOWN} IS NOT NULL AND test_case_result_id = ANY('{{{ids}}}'::uuid[])"
    )
    return dict(database.value(query))
