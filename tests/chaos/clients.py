"""Clients that upload batches during a fault, and a ledger of the replies.

Every file has different content, so that a test can look for each one afterwards, on the disk and in the database.
"""

import hashlib
import http.client
import itertools
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.conftest import Tally
from tests.forms import CONTENT_TYPE, batch
from tests.makers import png
from tests.up_server import PATIENCE, Reply, UpServer, reportd

BASE = "/api/v1/reports"
_PAUSE = 0.05  # seconds, after a request that failed
# The exceptions of http.client and urllib for a server that is down or resets the connection.
GONE = (OSError, http.client.HTTPException)


@cache
def _plain(width: int) -> bytes:
    return png(width, width)


def picture(serial: str, width: int = 40) -> bytes:
    """A PNG of about 3 * width² bytes. The serial, in a tEXt chunk, makes its content unique."""
    plain, comment = _plain(width), b"Comment\0" + serial.encode()
    chunk = struct.pack(">I", len(comment)) + b"tEXt" + comment + struct.pack(">I", zlib.crc32(b"tEXt" + comment))
    return plain[:-12] + chunk + plain[-12:]


@dataclass(frozen=True)
class Batch:
    """A batch upload. The file contents are computed on demand, since a test keeps thousands of these objects."""

    serial: str
    case: str  # the URL path of its test case
    files: int = 3
    width: int = 40
    key: str = ""

    def pictures(self) -> list[bytes]:
        return [picture(f"{self.serial}.{number}", self.width) for number in range(self.files)]

    def checksums(self) -> list[str]:
        return [hashlib.sha256(content).hexdigest() for content in self.pictures()]

    def send(self, server: UpServer) -> Reply:
        body = batch([(content, f"{self.serial}.{number}.png") for number, content in enumerate(self.pictures())])
        headers = {"Idempotency_Key": self.key} if self.key else {}
        return server.ask("POST", f"{self.case}/artifacts/batch", body, Content_Type=CONTENT_TYPE, **headers)


@dataclass
class Ledger:
    """Every batch that was sent, and the artifacts that the server acknowledged."""

    tally: Tally
    serials: Iterator[int] = field(default_factory=itertools.count)
    sent: dict[str, Batch] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)  # artifact id: SHA-256
    open: list[Batch] = field(default_factory=list)  # batches without a 201 so far
    statuses: Counter[int] = field(default_factory=Counter)
    retry_after: list[str | None] = field(default_factory=list)  # of the 503s
    failed: Counter[str] = field(default_factory=Counter)  # the error texts of `failed` entries
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, server: UpServer, item: Batch) -> bool:
        """Sends a batch and records the reply. True when the whole batch was acknowledged (201)."""
        try:
            reply = item.send(server)
        except TimeoutError:
            raise AssertionError(f"no reply to {item} within 60 seconds") from None
        except GONE:
            reply = None
        with self._lock:
            self.sent[item.serial] = item
            if reply is not None and self._record(item, reply):
                return True
            self.open.append(item)
        return False

    def _record(self, item: Batch, reply: Reply) -> bool:
        self.statuses[reply.status] += 1
        if reply.status == 502:  # of a proxy: the server's connection broke
            return False
        body = reply.json()
        if reply.status == 503:
            self.retry_after.append(reply.headers["Retry-After"])
        if reply.status in {201, 207}:
            acknowledged = {saved["id"]: saved["checksum"] for saved in body["artifacts"]}
            assert set(acknowledged.values()) <= set(item.checksums()), (item, body)
            self.acknowledged |= acknowledged
            self.tally.add("duplicates of a re-sent batch", sum(saved["duplicate"] for saved in body["artifacts"]))
        self.failed.update(entry["error"] for entry in body.get("failed", []))
        return reply.status == 201

    @contextmanager
    def uploading(self, server: UpServer, cases: Sequence[str], clients: int = 4, **shape: Any) -> Iterator[None]:
        """Runs clients that upload batches inside the `with` block. Every second client sends Idempotency-Keys."""
        stop = threading.Event()

        def client(number: int) -> None:
            for turn in itertools.count():
                if stop.is_set():
                    return
                serial = str(next(self.serials))
                key = f"key-{serial}" if number % 2 else ""
                if not self.send(server, Batch(serial, cases[(number + turn) % len(cases)], key=key, **shape)):
                    stop.wait(_PAUSE)

        with ThreadPoolExecutor(clients) as threads:
            futures = [threads.submit(client, number) for number in range(clients)]
            try:
                yield
            finally:
                stop.set()
        for future in futures:
            future.result()

    def send_again(self, server: UpServer) -> None:
        """Re-sends each batch without a 201 until it gets one."""
        items, self.open = self.open, []
        self.tally.add("batches re-sent", len(items))
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda item: self._send_until_acknowledged(server, item), items))
        assert self.open == []

    def _send_until_acknowledged(self, server: UpServer, item: Batch) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.send(server, item):
            with self._lock:
                self.open.remove(item)
            assert time.monotonic() < deadline, (item, self.statuses)
            time.sleep(_PAUSE)

    def download(self, server: UpServer, ids: Sequence[str] | None = None) -> None:
        """Asserts that every acknowledged artifact, or each in `ids`, downloads with the right SHA-256."""

        def wrong(artifact_id: str) -> Any:
            reply = server.ask("GET", f"{BASE}/artifacts/{artifact_id}/download")
            right = reply.status == 200 and hashlib.sha256(reply.body).hexdigest() == self.acknowledged[artifact_id]
            return None if right else (artifact_id, reply.status, reply.body[:200])

        ids = list(self.acknowledged) if ids is None else ids
        with ThreadPoolExecutor(4) as threads:
            bad = [found for found in threads.map(wrong, ids) if found]
        assert bad == []
        self.tally.add("downloads", len(ids))

    def compare(self, storage: Path, dsn: str) -> None:
        """Asserts that each file of each batch with a 201 is one row, and that each row has its file on the disk."""
        rows = stored(dsn)
        expected = Counter(
            (item.case.rpartition("/")[2], checksum)
            for item in self.sent.values()
            if item not in self.open
            for checksum in item.checksums()
        )
        found = Counter((case, checksum) for case, _, checksum, _, _ in rows)
        assert [key for key, count in found.items() if count > 1] == [], "duplicates"
        assert expected - found == Counter() and (self.open or found == expected)
        assert set(self.acknowledged) <= {row[1] for row in rows}
        assert rows_without_file(storage, rows) == []
        self.tally.record("artifacts acknowledged", len(self.acknowledged))
        self.tally.record("batches", len(self.sent))
        self.tally.record("statuses", dict(sorted(self.statuses.items())))


Requests = Mapping[str, tuple[str, str, bytes | None]]  # name: (method, path, body)


def small_requests(cases: Sequence[str]) -> Requests:
    """Requests that need the database but no file."""
    return {
        "steps": ("GET", f"{cases[0]}/steps", None),
        "artifacts": ("GET", f"{cases[0]}/artifacts", None),
        "log": ("POST", f"{cases[0]}/console-logs", b'{"entries": [{"level": "info", "message": "x"}]}'),
        "run": ("POST", f"{BASE}/suite-runs", b'{"name": "x"}'),
    }


class BackgroundClients:
    """Clients that do not upload: each repeats one of `requests` while the test goes on."""

    def __init__(self, server: UpServer, requests: Requests) -> None:
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.slowest = 0.0  # seconds
        self._errors: list[object] = []
        self._server, self._requests = server, requests
        self._stop = threading.Event()

    def count(self, status: int) -> int:
        return sum(count for (_, found), count in list(self.statuses.items()) if found == status)

    def _repeat(self, name: str) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                reply = self._server.ask(*self._requests[name])
            except GONE as error:  # includes the timeout of 60 seconds
                self._errors.append((name, error, time.monotonic() - began))
                return
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.statuses[name, reply.status] += 1
            if reply.status == 503 and "Retry-After" not in reply.headers:
                self._errors.append((name, reply))
            self._stop.wait(0.02)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Runs the clients inside the `with` block."""
        with ThreadPoolExecutor(len(self._requests)) as threads:
            futures = [threads.submit(self._repeat, name) for name in self._requests]
            try:
                yield
            finally:
                self._stop.set()
        for future in futures:
            future.result()

    def check_statuses(self, allowed: set[int], **by_name: set[int]) -> None:
        """Asserts that each request got replies, and only with `allowed` statuses. `by_name` overrides those."""
        assert self._errors == []
        assert {name for name, _ in self.statuses} == set(self._requests)
        bad = {key: count for key, count in self.statuses.items() if key[1] not in by_name.get(key[0], allowed)}
        assert not bad, self.statuses


def stored(dsn: str) -> list[tuple[str, str, str, str, int]]:
    """The rows of all artifacts: test case, id, checksum, path below the storage folder, size."""
    columns = "test_case_result_id::text, id::text, checksum, storage_path, file_size"
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(f"SELECT {columns} FROM test_artifacts").fetchall()


def rows_without_file(storage: Path, rows: Sequence[tuple[str, str, str, str, int]]) -> list[Any]:
    """The rows whose file is missing or does not match the stored checksum."""

    def bad(row: tuple[str, str, str, str, int]) -> bool:
        try:
            return hashlib.sha256((storage / row[3]).read_bytes()).hexdigest() != row[2]
        except FileNotFoundError:
            return True

    return [row for row in rows if bad(row)]


def files(storage: Path) -> list[str]:
    """The paths of all artifact files, relative to the storage folder."""
    found = (path.relative_to(storage) for path in storage.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if not path.parts[0].startswith("."))


def make_cases(server: UpServer, count: int = 8) -> list[str]:
    """Creates a run with test cases; the URL paths of the test cases."""
    run = server.ask_json("POST", f"{BASE}/suite-runs", {"name": "nightly"}, status=201)["id"]
    body = {"test_cases": [{"name": f"case {number}"} for number in range(count)]}
    made = server.ask_json("POST", f"{BASE}/suite-runs/{run}/test-cases/bulk", body, status=201)
    return [f"{BASE}/test-case-results/{case['id']}" for case in made["test_cases"]]


def call_at_once(*functions: Callable[[], Any]) -> list[Any]:
    """Calls the functions in threads, all at the same moment; their results."""
    barrier = threading.Barrier(len(functions))

    def begin(function: Callable[[], Any]) -> Any:
        barrier.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as threads:
        return list(threads.map(begin, functions))


def check(storage: Path, dsn: str) -> None:
    """Asserts that `reportd check` finds nothing after a repair. The grace period is 0 s, since nobody uploads now."""
    own = {"REPORTD_DATABASE_DSN": dsn, "REPORTD_ARTIFACTS_STORAGE_PATH": str(storage)}
    repaired = reportd("check", "--repair", "--verify-hashes", "--grace", "0s", **own)
    assert repaired.returncode in {0, 1}, repaired
    clean = reportd("check", "--verify-hashes", "--grace", "0s", **own)
    assert clean.returncode == 0, (repaired, clean)
    assert sorted(row[3] for row in stored(dsn)) == files(storage)
