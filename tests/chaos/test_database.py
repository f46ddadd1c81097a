"""PostgreSQL is killed or frozen, or its connections are terminated, reset or silent.

The server replies 503 during the fault, never hangs, loses nothing, and recovers within seconds without a restart.
"""

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from server.auth.tokens import hash_of, new_token
from server.database import migrate
from server.database.embedded import SOCKET, Postgres
from server.ids import new_id
from tests.chaos.clients import BackgroundClients, Ledger, check, files, make_cases, small_requests, stored
from tests.chaos.conftest import Tally
from tests.chaos.proxy import proxied
from tests.up_server import UpServer, serving, staged, wait_for

POOL = 4
# Database timeouts in seconds. Not lower: on a busy machine even a healthy database may need this long.
TIMEOUTS = {
    "REPORTD_DATABASE_POOL_SIZE": str(POOL),
    "REPORTD_DATABASE_CONNECT_TIMEOUT": "1",
    "REPORTD_DATABASE_COMMAND_TIMEOUT": "2",
}


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    """A PostgreSQL that tests may kill. It needs no fsync: the page cache keeps what a killed process wrote."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="reportd-tests-", dir=memory if os.access(memory, os.W_OK) else None))
    with Postgres(folder, settings={"fsync": "off"}) as server:
        migrate.apply(server.dsn())
        yield server
    shutil.rmtree(folder)


@pytest.fixture
def faulty(database, tmp_path):
    """A server with one worker that reaches the database through a proxy; the proxy; new test cases."""
    token = new_token()
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute("TRUNCATE suite_runs, tokens CASCADE")
        connection.execute(
            "INSERT INTO tokens (id, name, token_hash, role) VALUES (%s, 'chaos', %s, 'admin')",
            (new_id(0), hash_of(token)),
        )
    with proxied(database.socket / SOCKET) as proxy:
        dsn = f"postgresql://postgres@127.0.0.1:{proxy.port}/reportd?sslmode=disable"
        with serving(tmp_path / "data", dsn, token, **TIMEOUTS) as server:
            yield SimpleNamespace(server=server, proxy=proxy, cases=make_cases(server))


def postmaster(database: Postgres) -> int:
    return int((database.data / "postmaster.pid").read_text().split()[0])


def process_tree(pid: int) -> list[int]:
    """A process and its children; PostgreSQL has no grandchildren."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


@contextmanager
def killed(database, proxy):
    signal_all(process_tree(postmaster(database)), signal.SIGKILL)
    try:
        yield
    finally:
        database.start()


@contextmanager
def frozen(database, proxy):
    pids = process_tree(postmaster(database))
    signal_all(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_all(pids, signal.SIGCONT)


@contextmanager
def terminated(database, proxy):
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reportd'"
    with psycopg.connect(database.dsn("postgres"), autocommit=True) as connection:
        for _ in range(20):
            connection.execute(end)
            time.sleep(0.02)
        yield


@contextmanager
def cut(database, proxy):
    proxy.cut(refuse=True)
    try:
        yield
    finally:
        proxy.cut()


@contextmanager
def silent(database, proxy):
    proxy.hold(True)
    try:
        yield
    finally:
        proxy.hold(False)


FAULTS = [killed, frozen, terminated, cut, silent]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_server_recovers_when_postgresql_comes_back(faulty, database, effort, tally, fault):
    server, ledger, storage = faulty.server, Ledger(tally), faulty.server.data / "artifacts"
    for _ in range(effort.times(1, 10)):
        one_round(faulty, database, effort.random, tally, fault, ledger)
        ledger.send_again(server)
        check_every_connection(server, database, faulty.cases)
    assert set(ledger.statuses) <= {201, 503} and all(ledger.retry_after), ledger.statuses
    ledger.download(server)
    ledger.compare(storage, database.dsn())
    assert staged(storage) == []
    tally.record("files without a row", len(files(storage)) - len(stored(database.dsn())))
    check(storage, database.dsn())


def one_round(faulty, database: Postgres, chance: random.Random, tally: Tally, fault, ledger: Ledger) -> None:
    server, others = faulty.server, BackgroundClients(faulty.server, small_requests(faulty.cases))
    with others.running(), ledger.uploading(server, faulty.cases):
        time.sleep(chance.uniform(0.2, 0.6))
        with fault(database, faulty.proxy):
            if fault is not terminated:  # that fault ends at once: new connections are accepted
                wait_for(lambda: others.count(503), server.log.read_text)
                time.sleep(chance.uniform(0.0, 1.0))
        began, answered = time.monotonic(), others.count(200)
        wait_for(lambda: server.ask("GET", "/readyz").status == 200, server.log.read_text)
        tally.maximum("recovery seconds", time.monotonic() - began)
        wait_for(lambda: others.count(200) > answered + 10, server.log.read_text)
    others.check_statuses({200, 201, 503})
    tally.add("rounds")
    tally.add("small requests", others.statuses.total())
    tally.add("503 replies", others.count(503))
    tally.maximum("slowest small request, seconds", others.slowest)


def check_every_connection(server: UpServer, database: Postgres, cases: list[str]) -> None:
    """Asserts that all connections of the pool work: as many requests as it has can wait for a lock in PostgreSQL at
    once. Also that the server has no further database sessions."""
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reportd'"
    body = b'{"checkpoints": [{"checkpoint_number": %d, "name": "x", "status": "Passed"}]}'
    with psycopg.connect(database.dsn()) as other, ThreadPoolExecutor(POOL) as threads:
        (number,) = other.execute("SELECT count(*) FROM test_checkpoints").fetchone()
        other.execute("LOCK TABLE test_checkpoints IN EXCLUSIVE MODE")
        paths = [f"{case}/checkpoints" for case in cases[:POOL]]
        futures = [threads.submit(server.ask, "POST", path, body % (number + 1)) for path in paths]
        with psycopg.connect(database.dsn("postgres"), autocommit=True) as watcher:
            waiting = f"{sessions} AND wait_event_type = 'Lock'"
            try:
                wait_for(lambda: watcher.execute(waiting).fetchone() == (POOL,), server.log.read_text)
            finally:
                other.rollback()
            assert [future.result().status for future in futures] == [201] * POOL
            (count,) = watcher.execute(sessions).fetchone()
            assert count <= POOL
