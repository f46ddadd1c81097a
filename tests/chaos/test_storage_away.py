"""The disk of the storage folder fills up, turns read-only, is unmounted or stalls.

Uploads get 507 or 503, requests that need no file succeed, and no partial file stays. When the disk is back, the server
recovers without a restart.
"""

import hashlib
import itertools
import shutil
import time
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest

from tests.chaos.clients import BackgroundClients, Ledger, check, files, make_cases, small_requests, stored
from tests.chaos.mounts import mounted
from tests.up_server import serving, staged, wait_for

MIN_REFUSALS = 12  # refused uploads before the fault ends
SHAPE = {"files": 4, "width": 140}  # of a batch: 60 KB per file
READY = ("GET", "/readyz", None)


@pytest.fixture
def stored_on(tmp_path, dsn, make_token):
    """stored_on(kind, size): a server with its storage folder on a file system of that kind and size in bytes."""
    with ExitStack() as stack:

        def start(kind: str, size: int, reserve: int = 1) -> SimpleNamespace:
            data = tmp_path / "data"
            disk = stack.enter_context(mounted(tmp_path, data / "artifacts", kind, size))
            own = {"REPORTD_ARTIFACTS_FILE_TIMEOUT": "2", "REPORTD_ARTIFACTS_MIN_FREE_BYTES": str(reserve)}
            server = stack.enter_context(serving(data, dsn, make_token(), prefix=disk.prefix, **own))
            stack.callback(disk.thaw)  # before the server ends
            return SimpleNamespace(disk=disk, server=server)

        yield start


def check_no_partial_files(disk, ledger: Ledger, dsn: str) -> int:
    """Asserts that all files are complete and that none is still staged. The number of files without a row."""
    wait_for(lambda: not staged(disk.storage), lambda: str(staged(disk.storage)))
    complete = {checksum for item in ledger.sent.values() for checksum in item.checksums()}
    found = files(disk.storage)
    assert {hashlib.sha256((disk.storage / name).read_bytes()).hexdigest() for name in found} <= complete
    rows = {row[3] for row in stored(dsn)}
    assert rows <= set(found)
    return len(found) - len(rows)


@pytest.mark.parametrize(("kind", "reserve"), [("tmpfs", 1), ("ext4", 1), ("tmpfs", 8 << 20)])
def test_uploads_get_507_while_the_disk_is_full(stored_on, dsn, rows, effort, tally, kind, reserve):
    setup = stored_on(kind, 40 << 20, reserve)
    server, disk = setup.server, setup.disk
    serials = itertools.count()  # shared by all rounds: the Idempotency-Keys must not repeat
    for _ in range(effort.times(1, 15)):
        ledger, cases = Ledger(tally, serials), make_cases(server)
        disk.occupy(effort.random.randint(20 << 20, 30 << 20))
        time.sleep(1.5)  # the server checks free disk space once a second
        others = BackgroundClients(server, {**small_requests(cases), "ready": READY})
        with others.running(), ledger.uploading(server, cases, **SHAPE):
            wait_for(lambda: ledger.statuses[507] >= MIN_REFUSALS, lambda: str(ledger.statuses))  # noqa: B023
            free = shutil.disk_usage(disk.storage).free
        others.check_statuses({200, 201}, ready={200, 503})
        assert free >= reserve // 2, free  # concurrent uploads may each reserve the same free space
        assert set(ledger.statuses) <= {201, 207, 507}, ledger.statuses
        assert set(ledger.failed) == {"Storage is full"}, ledger.failed
        assert check_no_partial_files(disk, ledger, dsn) == 0
        ledger.download(server)
        tally.add("rounds")
        tally.add("small requests", others.statuses.total())
        for status, count in ledger.statuses.items():
            tally.add(str(status), count)
        disk.release()
        began = time.monotonic()
        wait_for(lambda: server.ask("GET", "/readyz").status == 200, server.log.read_text)
        tally.maximum("recovery seconds", time.monotonic() - began)
        ledger.send_again(server)
        ledger.download(server)
        ledger.compare(disk.storage, dsn)
        for row in rows("SELECT id FROM suite_runs"):
            assert server.ask("DELETE", f"/api/v1/reports/suite-runs/{row['id']}").status == 204
        wait_for(lambda: not files(disk.storage), server.log.read_text)


@contextmanager
def read_only(disk):
    disk.allow_writes(False)
    try:
        yield
    finally:
        disk.allow_writes(True)


@contextmanager
def unmounted(disk):
    disk.detach()
    try:
        yield
    finally:
        disk.attach()


@contextmanager
def stalled(disk):
    disk.freeze()
    try:
        yield
    finally:
        disk.thaw()


FAULTS = {"read_only": (read_only, "tmpfs"), "unmounted": (unmounted, "tmpfs"), "stalled": (stalled, "ext4")}


@pytest.mark.parametrize("name", FAULTS)
def test_uploads_get_503_while_the_disk_is_unavailable(stored_on, dsn, effort, tally, name):
    fault, kind = FAULTS[name]
    setup = stored_on(kind, 400 << 20)  # never full
    server, disk, ledger = setup.server, setup.disk, Ledger(tally)
    cases = make_cases(server)
    before = server.send(f"{cases[0]}/artifacts", ("file", "a.txt", b"before", "text/plain"), ("artifact_type", "log"))
    download = ("GET", before["download_url"], None)
    for _ in range(effort.times(1, 15)):
        others = BackgroundClients(server, {**small_requests(cases), "ready": READY, "download": download})
        with others.running():
            with ledger.uploading(server, cases):
                time.sleep(effort.random.uniform(0.1, 0.3))
                with fault(disk):
                    enough = ledger.statuses[503] + MIN_REFUSALS
                    wait_for(lambda: ledger.statuses[503] >= enough, lambda: str(ledger.statuses))  # noqa: B023
                    wait_for(lambda: others.statuses["ready", 503], lambda: str(others.statuses))  # noqa: B023
            began = time.monotonic()
            wait_for(lambda: server.ask("GET", "/readyz").status == 200, server.log.read_text)
            tally.maximum("recovery seconds", time.monotonic() - began)
        others.check_statuses({200, 201}, ready={200, 503}, download={200, 503})
        ledger.send_again(server)
        tally.add("rounds")
        tally.add("small requests", others.statuses.total())
        tally.maximum("slowest small request, seconds", others.slowest)
    assert set(ledger.statuses) <= {201, 503} and all(ledger.retry_after), ledger.statuses
    assert server.ask(*download).body == b"before"
    assert server.ask("DELETE", download[1].removesuffix("/download")).status == 204
    ledger.download(server)
    tally.record("files without a row", check_no_partial_files(disk, ledger, dsn))
    ledger.compare(disk.storage, dsn)
    # Nothing was written into the mount point while the disk was not mounted.
    assert list((server.data / "artifacts").rglob("*")) == []
    check(disk.storage, dsn)
