"""What clients send while something fails, and what became of it: batches whose files differ from all others, so that
each can be looked for afterwards, on the disk and in the database."""

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
# What http.client and urllib raise when a server goes away.
GONE = (OSError, http.client.HTTPException)


@cache
def _plain(width: int) -> bytes:
    return png(width, width)


def picture(serial: str, width: int = 40) -> bytes:
    """A PNG of about 3 * width² bytes which its serial makes different from all others."""
    plain, comment = _plain(width), b"Comment\0" + serial.encode()
    chunk = struct.pack(">I", len(comment)) + b"tEXt" + comment + struct.pack(">I", zlib.crc32(b"tEXt" + comment))
    return plain[:-12] + chunk + plain[-12:]


@dataclass(frozen=True)
class Batch:
    """Small as long as nobody asks for its bytes: a test keeps thousands."""

    serial: str
    case: str  # the address of its test case
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
    """Every batch that was ever sent, and what was promised of it."""

    tally: Tally
    serials: Iterator[int] = field(default_factory=itertools.count)
    sent: dict[str, Batch] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)  # artifact id: SHA-256
    open: list[Batch] = field(default_factory=list)  # those without a 201
    statuses: Counter[int] = field(default_factory=Counter)
    retry_after: list[str | None] = field(default_factory=list)  # of the 503s
    failed: Counter[str] = field(default_factory=Counter)  # sentences of `failed` entries
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, server: UpServer, item: Batch) -> bool:
        """Whether it was acknowledged, all of it."""
        try:
            reply = item.send(server)
        except TimeoutError:
            raise AssertionError(f"no reply to {item} for a minute") from None
        except GONE:
            reply = None
        with self._lock:
            self.sent[item.serial] = item
            if reply is not None and self._note(item, reply):
                return True
            self.open.append(item)
        return False

    def _note(self, item: Batch, reply: Reply) -> bool:
        self.statuses[reply.status] += 1
        body = reply.json()
        if reply.status == 503:
            self.retry_after.append(reply.headers["Retry-After"])
        if reply.status in {201, 207}:
            promised = {saved["id"]: saved["checksum"] for saved in body["artifacts"]}
            assert set(promised.values()) <= set(item.checksums()), (item, body)
            self.acknowledged |= promised
            self.tally.add("sent again and known", sum(saved["duplicate"] for saved in body["artifacts"]))
        self.failed.update(entry["error"] for entry in body.get("failed", []))
        return reply.status == 201

    @contextmanager
    def uploading(self, server: UpServer, cases: Sequence[str], clients: int = 4, **shape: Any) -> Iterator[None]:
        """Clients that upload batches meanwhile; every other one sends Idempotency-Keys."""
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
            working = [threads.submit(client, number) for number in range(clients)]
            try:
                yield
            finally:
                stop.set()
        for each in working:
            each.result()

    def send_again(self, server: UpServer) -> None:
        """Those without a 201, until they have one."""
        items, self.open = self.open, []
        self.tally.add("batches re-sent", len(items))
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda item: self._insist(server, item), items))
        assert self.open == []

    def _insist(self, server: UpServer, item: Batch) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.send(server, item):
            with self._lock:
                self.open.remove(item)
            assert time.monotonic() < deadline, (item, self.statuses)
            time.sleep(_PAUSE)

    def download(self, server: UpServer, ids: Sequence[str] | None = None) -> None:
        """Every acknowledged artifact, or those given, downloads with its hash."""

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
        """Each file of each acknowledged batch is one row, and no row is without its bytes."""
        rows = stored(dsn)
        wished = Counter(
            (item.case.rpartition("/")[2], checksum)
            for item in self.sent.values()
            if item not in self.open
            for checksum in item.checksums()
        )
        found = Counter((case, checksum) for case, _, checksum, _, _ in rows)
        assert [key for key, count in found.items() if count > 1] == [], "duplicates"
        assert wished - found == Counter() and (self.open or found == wished)
        assert set(self.acknowledged) <= {row[1] for row in rows}
        assert without_bytes(storage, rows) == []
        self.tally.note("artifacts acknowledged", len(self.acknowledged))
        self.tally.note("batches", len(self.sent))
        self.tally.note("statuses", dict(sorted(self.statuses.items())))


Requests = Mapping[str, tuple[str, str, bytes | None]]  # a name for each: method, path, body


def small_requests(cases: Sequence[str]) -> Requests:
    """What needs the database and no file."""
    return {
        "steps": ("GET", f"{cases[0]}/steps", None),
        "artifacts": ("GET", f"{cases[0]}/artifacts", None),
        "log": ("POST", f"{cases[0]}/console-logs", b'{"entries": [{"level": "info", "message": "x"}]}'),
        "run": ("POST", f"{BASE}/suite-runs", b'{"name": "x"}'),
    }


class Others:
    """Clients that do something else than uploading meanwhile, each its own request again and again."""

    def __init__(self, server: UpServer, requests: Requests) -> None:
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.slowest = 0.0  # seconds
        self._wrong: list[object] = []
        self._server, self._requests = server, requests
        self._stop = threading.Event()

    def count(self, status: int) -> int:
        return sum(count for (_, found), count in list(self.statuses.items()) if found == status)

    def _ask(self, name: str) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                reply = self._server.ask(*self._requests[name])
            except GONE as error:  # also when nothing came for a minute
                self._wrong.append((name, error, time.monotonic() - began))
                return
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.statuses[name, reply.status] += 1
            if reply.status == 503 and "Retry-After" not in reply.headers:
                self._wrong.append((name, reply))
            self._stop.wait(0.02)

    @contextmanager
    def asking(self) -> Iterator[None]:
        with ThreadPoolExecutor(len(self._requests)) as threads:
            working = [threads.submit(self._ask, name) for name in self._requests]
            try:
                yield
            finally:
                self._stop.set()
        for each in working:
            each.result()

    def judge(self, allowed: set[int], **of: set[int]) -> None:
        """Each had replies, and none but with these statuses; `of` are those of single requests."""
        assert self._wrong == []
        assert {name for name, _ in self.statuses} == set(self._requests)
        bad = {key: count for key, count in self.statuses.items() if key[1] not in of.get(key[0], allowed)}
        assert not bad, self.statuses


def stored(dsn: str) -> list[tuple[str, str, str, str, int]]:
    """The rows of all artifacts: test case, id, checksum, path below the storage folder, size."""
    columns = "test_case_result_id::text, id::text, checksum, storage_path, file_size"
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(f"SELECT {columns} FROM test_artifacts").fetchall()


def without_bytes(storage: Path, rows: Sequence[tuple[str, str, str, str, int]]) -> list[Any]:
    """The rows whose file is missing, or other bytes than they say."""

    def bad(row: tuple[str, str, str, str, int]) -> bool:
        try:
            return hashlib.sha256((storage / row[3]).read_bytes()).hexdigest() != row[2]
        except FileNotFoundError:
            return True

    return [row for row in rows if bad(row)]


def files(storage: Path) -> list[str]:
    """The names that artifacts have on the disk."""
    found = (path.relative_to(storage) for path in storage.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if not path.parts[0].startswith("."))


def staged(storage: Path) -> list[Path]:
    """The files of requests in progress."""
    return [path for path in (storage / ".staging").glob("*/*/*") if path.is_file()]


def make_cases(server: UpServer, count: int = 8) -> list[str]:
    """The addresses of new test cases, in a run of their own."""
    run = server.ask_json("POST", f"{BASE}/suite-runs", {"name": "nightly"}, status=201)["id"]
    body = {"test_cases": [{"name": f"case {number}"} for number in range(count)]}
    made = server.ask_json("POST", f"{BASE}/suite-runs/{run}/test-cases/bulk", body, status=201)
    return [f"{BASE}/test-case-results/{case['id']}" for case in made["test_cases"]]


def together(*works: Callable[[], Any]) -> list[Any]:
    """What each of them returns, begun at the same moment."""
    barrier = threading.Barrier(len(works))

    def begin(work: Callable[[], Any]) -> Any:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(begin, works))


def check(storage: Path, dsn: str) -> None:
    """`reportd check`, after a repair, finds nothing, whatever was killed. Without a grace period: nobody uploads."""
    own = {"REPORTD_DATABASE_DSN": dsn, "REPORTD_ARTIFACTS_STORAGE_PATH": str(storage)}
    repaired = reportd("check", "--repair", "--verify-hashes", "--grace", "0s", **own)
    assert repaired.returncode in {0, 1}, repaired
    clean = reportd("check", "--verify-hashes", "--grace", "0s", **own)
    assert clean.returncode == 0, (repaired, clean)
    assert sorted(row[3] for row in stored(dsn)) == files(storage)
