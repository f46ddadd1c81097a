"""The storage folder's disk fills up, turns read-only, goes away or stalls. Uploads are told so, everything else goes
on, no part of a file stays, and when the disk is back the server is as before, without a restart."""

import hashlib
import itertools
import shutil
import time
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest

from tests.chaos.clients import Ledger, Others, check, files, make_cases, small_requests, staged, stored
from tests.chaos.mounts import mounted
from tests.up_server import serving, wait_for

ENOUGH = 12  # refusals, to go on with the next thing
SHAPE = {"files": 4, "width": 140}  # of a batch: 60 KB each
READY = ("GET", "/readyz", None)


@pytest.fixture
def stored_on(tmp_path, dsn, make_token):
    """stored_on(kind, size): a server with its storage on a file system of that kind, of so many bytes."""
    with ExitStack() as stack:

        def start(kind: str, size: int, reserve: int = 1) -> SimpleNamespace:
            data = tmp_path / "data"
            disk = stack.enter_context(mounted(tmp_path, data / "artifacts", kind, size))
            own = {"REPORTD_ARTIFACTS_FILE_TIMEOUT": "2", "REPORTD_ARTIFACTS_MIN_FREE_BYTES": str(reserve)}
            server = stack.enter_context(serving(data, dsn, make_token(), prefix=disk.prefix, **own))
            stack.callback(disk.thaw)  # before the server ends
            return SimpleNamespace(disk=disk, server=server)

        yield start


def no_part_stays(disk, ledger: Ledger, dsn: str) -> int:
    """What lies there is whole, and nothing of requests that are over. The number of files without a row."""
    wait_for(lambda: not staged(disk.storage), lambda: str(staged(disk.storage)))
    whole = {checksum for item in ledger.sent.values() for checksum in item.checksums()}
    found = files(disk.storage)
    assert {hashlib.sha256((disk.storage / name).read_bytes()).hexdigest() for name in found} <= whole
    rows = {row[3] for row in stored(dsn)}
    assert rows <= set(found)
    return len(found) - len(rows)


@pytest.mark.parametrize(("kind", "reserve"), [("tmpfs", 1), ("ext4", 1), ("tmpfs", 8 << 20)])
def test_a_disk_that_is_full(stored_on, dsn, rows, effort, tally, kind, reserve):
    there = stored_on(kind, 40 << 20, reserve)
    server, disk = there.server, there.disk
    serials = itertools.count()  # Idempotency-Keys are made of them
    for _ in range(effort.times(1, 15)):
        ledger, cases = Ledger(tally, serials), make_cases(server)
        disk.use_up(effort.random.randint(20 << 20, 30 << 20))
        time.sleep(1.5)  # somebody else took that: the server looks once a second
        others = Others(server, {**small_requests(cases), "ready": READY})
        with others.asking(), ledger.uploading(server, cases, **SHAPE):
            wait_for(lambda: ledger.statuses[507] >= ENOUGH, lambda: str(ledger.statuses))  # noqa: B023
            free = shutil.disk_usage(disk.storage).free
        others.judge({200, 201}, ready={200, 503})
        assert free >= reserve // 2, free  # uploads at the same moment may each see room for themselves
        assert set(ledger.statuses) <= {201, 207, 507}, ledger.statuses
        assert set(ledger.failed) == {"Storage is full"}, ledger.failed
        assert no_part_stays(disk, ledger, dsn) == 0
        ledger.download(server)
        tally.add("rounds")
        tally.add("small requests", others.statuses.total())
        for status, count in ledger.statuses.items():
            tally.add(str(status), count)
        disk.free_again()
        began = time.monotonic()
        wait_for(lambda: server.ask("GET", "/readyz").status == 200, server.log.read_text)
        tally.most("recovery seconds", time.monotonic() - began)
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
def taken_away(disk):
    disk.take_away()
    try:
        yield
    finally:
        disk.show()


@contextmanager
def stalled(disk):
    disk.freeze()
    try:
        yield
    finally:
        disk.thaw()


FAULTS = {"read_only": (read_only, "tmpfs"), "taken_away": (taken_away, "tmpfs"), "stalled": (stalled, "ext4")}


@pytest.mark.parametrize("name", FAULTS)
def test_a_disk_that_is_away(stored_on, dsn, effort, tally, name):
    fault, kind = FAULTS[name]
    there = stored_on(kind, 400 << 20)  # never full
    server, disk, ledger = there.server, there.disk, Ledger(tally)
    cases = make_cases(server)
    before = server.send(f"{cases[0]}/artifacts", ("file", "a.txt", b"before", "text/plain"), ("artifact_type", "log"))
    download = ("GET", before["download_url"], None)
    for _ in range(effort.times(1, 15)):
        others = Others(server, {**small_requests(cases), "ready": READY, "download": download})
        with others.asking():
            with ledger.uploading(server, cases):
                time.sleep(effort.random.uniform(0.1, 0.3))
                with fault(disk):
                    refused = ledger.statuses[503]
                    wait_for(lambda: ledger.statuses[503] >= refused + ENOUGH, lambda: str(ledger.statuses))  # noqa: B023
                    wait_for(lambda: others.statuses["ready", 503], lambda: str(others.statuses))  # noqa: B023
            began = time.monotonic()
            wait_for(lambda: server.ask("GET", "/readyz").status == 200, server.log.read_text)
            tally.most("recovery seconds", time.monotonic() - began)
        others.judge({200, 201}, ready={200, 503}, download={200, 503})
        ledger.send_again(server)
        tally.add("rounds")
        tally.add("small requests", others.statuses.total())
        tally.most("slowest of them, seconds", others.slowest)
    assert set(ledger.statuses) <= {201, 503} and all(ledger.retry_after), ledger.statuses
    assert server.ask(*download).body == b"before"
    assert server.ask("DELETE", download[1].removesuffix("/download")).status == 204
    ledger.download(server)
    tally.note("files without a row", no_part_stays(disk, ledger, dsn))
    ledger.compare(disk.storage, dsn)
    # Nothing was written into the folder on which the disk is mounted while it was not.
    assert list((server.data / "artifacts").rglob("*")) == []
    check(disk.storage, dsn)
