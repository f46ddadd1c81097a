"""Clients that upload, read and delete through several hosts during faults, and a record of what was acknowledged.

Each repeats a request until it is acknowledged, as the client of reportd does: with the same Idempotency-Key, through
whichever host answers. So at the end the database has exactly what was acknowledged.
"""

import hashlib
import itertools
import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.clients import BASE, GONE, check, picture, rows_without_file, stored
from tests.chaos.conftest import Tally
from tests.forms import CONTENT_TYPE, a_body, a_field, a_file, batch, single
from tests.up_server import PATIENCE, Reply, UpServer, wait_for

IsRight = Callable[[Reply, bool], bool]  # (the reply, whether the request is a repetition)
_PAUSE = 0.05  # seconds, after a request that failed
_STEPS = 10  # of each result in a bundle


class Mixed:
    """The load on `hosts`, and its record. Every reply that is neither right nor a 503 with Retry-After is an error."""

    def __init__(self, hosts: Sequence[UpServer], tally: Tally, chance: random.Random) -> None:
        self.hosts = list(hosts)
        self.statuses: Counter[str] = Counter()  # by action and status; "-" when the connection broke
        self.kept: dict[str, str] = {}  # id of an artifact: SHA-256
        self.deleted: set[str] = set()
        self._case_runs: set[str] = set()
        self._refs: dict[str, str] = {}  # client_ref of a result: its id
        self._acknowledged: list[float] = []  # the moments of all acknowledged writes
        self._tally, self._random = tally, chance
        self._serials = itertools.count()
        self._lock = threading.Lock()
        self._clients: list[Future[None]] = []
        self.slowest = 0.0  # seconds that a request took
        self.run = self._create_run()
        self._cases = self._create_cases(8)

    @contextmanager
    def running(self, clients: int = 4) -> Iterator[None]:
        """Runs the clients inside the `with` block. At its end, each first gets its last request acknowledged."""
        stop = threading.Event()
        actions = (self._upload, self._batch, self._bundle, self._create_run, self._read, self._read, self._delete)

        def client(number: int) -> None:
            for turn in itertools.count(number):
                if stop.is_set():
                    return
                actions[turn % len(actions)]()

        with ThreadPoolExecutor(clients) as threads:
            self._clients = [threads.submit(client, number) for number in range(clients)]
            try:
                yield
            finally:
                stop.set()
        self._raise_errors()

    def _raise_errors(self) -> None:
        for client in self._clients:
            if client.done():
                client.result()

    def wait_for_writes(self, count: int = 10) -> None:
        """Returns when so many more writes are acknowledged. Raises the error of a client."""
        wanted = len(self._acknowledged) + count

        def are_enough() -> bool:
            self._raise_errors()
            return len(self._acknowledged) >= wanted

        wait_for(are_enough, lambda: str(self.statuses))

    def gap(self, since: float) -> float:
        """The longest time without an acknowledged write from the moment `since` on, in seconds."""
        with self._lock:
            moments = sorted(moment for moment in self._acknowledged if moment > since)
        return max(after - before for before, after in itertools.pairwise([since, *moments]))

    def verify(self, storage: Path, dsn: str) -> None:
        """Asserts that rows and files are exactly what was acknowledged: nothing is lost, nothing is there twice."""
        rows = stored(dsn)
        assert {row[1]: row[2] for row in rows} == self.kept and len(rows) == len(self.kept)
        assert rows_without_file(storage, rows) == []
        with psycopg.connect(dsn, autocommit=True) as connection:
            runs = {str(row[0]) for row in connection.execute("SELECT id FROM suite_runs").fetchall()}
            results = connection.execute(_RESULTS).fetchall()
        assert runs == self._case_runs
        assert {str(ref): str(found) for found, ref, _ in results} == self._refs
        assert {steps for _, _, steps in results} <= {_STEPS}
        check(storage, dsn)
        self._tally.record("writes acknowledged", len(self._acknowledged))
        self._tally.record("artifacts", len(self.kept))
        self._tally.record("deleted", len(self.deleted))
        self._tally.record("runs", len(runs))
        self._tally.record("results of bundles", len(results))
        self._tally.record("replies", dict(sorted(self.statuses.items())))
        self._tally.maximum("slowest request, seconds", self.slowest)

    def read_all(self) -> None:
        """Asserts that each acknowledged artifact can be downloaded."""
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(self._read_one, list(self.kept)))

    def _create_run(self) -> str:
        """A run has no content by which a repetition could be recognised: only its key makes it one."""
        key = str(uuid.uuid4())
        reply = self._repeat("run", "POST", f"{BASE}/suite-runs", b'{"name": "nightly"}', 201, Idempotency_Key=key)
        with self._lock:
            assert reply["id"] not in self._case_runs
            self._case_runs.add(reply["id"])
        return str(reply["id"])

    def _create_cases(self, count: int) -> list[str]:
        body = json.dumps({"test_cases": [{"name": f"case {number}"} for number in range(count)]}).encode()
        path = f"{BASE}/suite-runs/{self.run}/test-cases/bulk"
        made = self._repeat("cases", "POST", path, body, 201, Idempotency_Key=str(uuid.uuid4()))
        return [f"{BASE}/test-case-results/{case['id']}" for case in made["test_cases"]]

    def _pictures(self, count: int) -> list[bytes]:
        return [picture(str(next(self._serials)), self._random.choice((8, 40, 90))) for _ in range(count)]

    def _keep(self, contents: Sequence[bytes], artifacts: Sequence[dict[str, Any]]) -> None:
        sums = [hashlib.sha256(content).hexdigest() for content in contents]
        ids = [saved["id"] for saved in artifacts]
        assert [saved["checksum"] for saved in artifacts] == sums, artifacts
        with self._lock:
            assert not set(ids) & self.kept.keys() and not set(ids) & self.deleted
            self.kept.update(zip(ids, sums, strict=True))

    def _upload(self) -> None:
        (content,) = contents = self._pictures(1)
        key = {"Idempotency_Key": str(uuid.uuid4())} if self._random.random() < 0.5 else {}
        path = f"{self._random.choice(self._cases)}/artifacts"
        self._keep(contents, [self._repeat("upload", "POST", path, single(content), 201, **key)])

    def _batch(self) -> None:
        contents = self._pictures(3)
        key = {"Idempotency_Key": str(uuid.uuid4())} if self._random.random() < 0.5 else {}
        body = batch([(content, f"{number}.png") for number, content in enumerate(contents)])
        path = f"{self._random.choice(self._cases)}/artifacts/batch"
        self._keep(contents, self._repeat("batch", "POST", path, body, 201, **key)["artifacts"])

    def _bundle(self) -> None:
        """Two results with steps and a screenshot each. Its client_refs make a repetition known."""
        contents, refs = self._pictures(2), [str(uuid.uuid4()) for _ in range(2)]
        tests = [
            {
                "client_ref": ref,
                "test": {"name": f"test {ref}", "status": "Passed"},
                "steps": [{"step_number": step, "status": "Passed"} for step in range(_STEPS)],
                "artifacts": [{"file_index": number, "artifact_type": "screenshot", "step_number": 3}],
            }
            for number, ref in enumerate(refs)
        ]
        files = [a_file(content, f"{number}.png", name="files") for number, content in enumerate(contents)]
        body = a_body(a_field("bundle", json.dumps({"tests": tests})), *files)
        reply = self._repeat("bundle", "POST", f"{BASE}/suite-runs/{self.run}/bundle", body, 201)
        self._keep(contents, [each["artifacts"][0] for each in reply["tests"]])
        with self._lock:
            self._refs.update((ref, each["id"]) for ref, each in zip(refs, reply["tests"], strict=True))

    def _any_kept(self) -> str | None:
        with self._lock:
            return self._random.choice(list(self.kept)) if self.kept else None

    def _read(self) -> None:
        if artifact_id := self._any_kept():
            self._read_one(artifact_id)

    def _read_one(self, artifact_id: str) -> None:
        """An acknowledged artifact is there at once, through every host, until it is deleted."""
        checksum = self.kept.get(artifact_id)

        def is_right(reply: Reply, is_repetition: bool) -> bool:
            if reply.status == 200:
                return hashlib.sha256(reply.body).hexdigest() == checksum
            return reply.status == 404 and artifact_id not in self.kept  # deleted meanwhile

        self._until("read", "GET", f"{BASE}/artifacts/{artifact_id}/download", None, is_right)

    def _delete(self) -> None:
        if (artifact_id := self._any_kept()) is None or len(self.kept) < 50:
            return
        with self._lock:
            if self.kept.pop(artifact_id, None) is None:  # by another client
                return
            self.deleted.add(artifact_id)

        def is_right(reply: Reply, is_repetition: bool) -> bool:
            return reply.status == 204 or (reply.status == 404 and is_repetition)

        self._until("delete", "DELETE", f"{BASE}/artifacts/{artifact_id}", None, is_right)

    def _repeat(self, action: str, method: str, path: str, body: bytes, status: int, **headers: str) -> Any:
        """The JSON reply of the first request that got `status`."""
        headers = {"Content_Type": "application/json" if body[:1] == b"{" else CONTENT_TYPE, **headers}
        return self._until(action, method, path, body, lambda reply, _: reply.status == status, **headers).json()

    def _until(
        self, action: str, method: str, path: str, body: bytes | None, is_right: IsRight, **headers: str
    ) -> Reply:
        """Repeats a request, each time through another host, until a reply is right. Only a 503, or a 409 while the
        same request is in progress elsewhere, may come before it."""
        deadline = time.monotonic() + PATIENCE
        first = self._random.randrange(len(self.hosts))
        for number in itertools.count():
            began = time.monotonic()
            try:
                reply = self.hosts[(first + number) % len(self.hosts)].ask(method, path, body, **headers)
            except TimeoutError:
                raise AssertionError(f"no reply to {method} {path} within 60 seconds") from None
            except GONE:
                reply = None
            ended = time.monotonic()
            with self._lock:
                self.slowest = max(self.slowest, ended - began)
                self.statuses[f"{action} {reply.status if reply else '-'}"] += 1
            if reply is not None and is_right(reply, number > 0):
                if action != "read":
                    with self._lock:
                        self._acknowledged.append(ended)
                return reply
            assert reply is None or _may_pass(reply), (method, path, reply.status, reply.body, dict(reply.headers))
            assert ended < deadline, (method, path, self.statuses)
            time.sleep(_PAUSE)
        raise AssertionError("no host")


def _may_pass(reply: Reply) -> bool:
    """Whether a request that got this reply is to be repeated. Replies without an X-Request-Id are HAProxy's own."""
    own = (409, 503) if "X-Request-Id" in reply.headers else (502, 503, 504)
    return reply.status in own and "Retry-After" in reply.headers


def wait_for_removals(dsn: str) -> None:
    """Waits until the files of all deleted artifacts are unlinked: by a server, when it starts or after a DELETE."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        waiting = "SELECT count(*) FROM removed_files WHERE unlinked_at IS NULL"
        wait_for(lambda: connection.execute(waiting).fetchone() == (0,))


_RESULTS = """
    SELECT c.id, client_ref, (SELECT count(*) FROM test_step_results WHERE test_case_result_id = c.id)
    FROM test_case_results c WHERE client_ref IS NOT NULL
"""
