"""PostgreSQL goes away in every way that it can: killed, frozen, its connections ended, cut or silent. The server says
503 meanwhile, never hangs, loses nothing, and is as before within seconds, without a restart."""

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
from tests.chaos.clients import Ledger, Others, check, files, make_cases, small_requests, staged, stored
from tests.chaos.conftest import Tally
from tests.chaos.proxy import proxied
from tests.up_server import UpServer, serving, wait_for

POOL = 4
# What the database gets to answer. Seconds; a busy machine may need them for good work, too.
TIMES = {
    "REPORTD_DATABASE_POOL_SIZE": str(POOL),
    "REPORTD_DATABASE_CONNECT_TIMEOUT": "1",
    "REPORTD_DATABASE_COMMAND_TIMEOUT": "2",
}


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    """One that may be hurt. What a killed process has written stays: that needs no fsync, only a power cut does."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="reportd-tests-", dir=memory if os.access(memory, os.W_OK) else None))
    with Postgres(folder, settings={"fsync": "off"}) as server:
        migrate.apply(server.dsn())
        yield server
    shutil.rmtree(folder)


@pytest.fixture
def hurt(database, tmp_path):
    """One worker on that database, through a proxy; the proxy; its test cases."""
    token = new_token()
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute("TRUNCATE suite_runs, tokens CASCADE")
        connection.execute(
            "INSERT INTO tokens (id, name, token_hash, role) VALUES (%s, 'chaos', %s, 'admin')",
            (new_id(0), hash_of(token)),
        )
    with proxied(database.socket / SOCKET) as proxy:
        dsn = f"postgresql://postgres@127.0.0.1:{proxy.port}/reportd?sslmode=disable"
        with serving(tmp_path / "data", dsn, token, **TIMES) as server:
            yield SimpleNamespace(server=server, proxy=proxy, cases=make_cases(server))


def postmaster(database: Postgres) -> int:
    return int((database.data / "postmaster.pid").read_text().split()[0])


def tree(pid: int) -> list[int]:
    """A process and its children, as PostgreSQL's are."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


@contextmanager
def killed(database, proxy):
    signal_all(tree(postmaster(database)), signal.SIGKILL)
    try:
        yield
    finally:
        database.start()


@contextmanager
def frozen(database, proxy):
    pids = tree(postmaster(database))
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
    proxy.swallow(True)
    try:
        yield
    finally:
        proxy.swallow(False)


FAULTS = [killed, frozen, terminated, cut, silent]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_postgresql_goes_away_and_comes_back(hurt, database, effort, tally, fault):
    server, ledger, storage = hurt.server, Ledger(tally), hurt.server.data / "artifacts"
    for _ in range(effort.times(1, 10)):
        one_round(hurt, database, effort.random, tally, fault, ledger)
        ledger.send_again(server)
        every_connection_works(server, database, hurt.cases)
    assert set(ledger.statuses) <= {201, 503} and all(ledger.retry_after), ledger.statuses
    ledger.download(server)
    ledger.compare(storage, database.dsn())
    assert staged(storage) == []
    tally.note("files without a row", len(files(storage)) - len(stored(database.dsn())))
    check(storage, database.dsn())


def one_round(hurt, database: Postgres, chance: random.Random, tally: Tally, fault, ledger: Ledger) -> None:
    server, others = hurt.server, Others(hurt.server, small_requests(hurt.cases))
    with others.asking(), ledger.uploading(server, hurt.cases):
        time.sleep(chance.uniform(0.2, 0.6))
        with fault(database, hurt.proxy):
            if fault is not terminated:  # which is over at once: new connections are taken
                wait_for(lambda: others.count(503), server.log.read_text)
                time.sleep(chance.uniform(0.0, 1.0))
        began, answered = time.monotonic(), others.count(200)
        wait_for(lambda: server.ask("GET", "/readyz").status == 200, server.log.read_text)
        tally.most("recovery seconds", time.monotonic() - began)
        wait_for(lambda: others.count(200) > answered + 10, server.log.read_text)
    others.judge({200, 201, 503})
    tally.add("rounds")
    tally.add("small requests", others.statuses.total())
    tally.add("503 of them", others.count(503))
    tally.most("slowest of them, seconds", others.slowest)


def every_connection_works(server: UpServer, database: Postgres, cases: list[str]) -> None:
    """As many requests as the pool has connections can wait in the database at once, and it has no more sessions."""
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'reportd'"
    body = b'{"checkpoints": [{"checkpoint_number": %d, "name": "x", "status": "Passed"}]}'
    with psycopg.connect(database.dsn()) as other, ThreadPoolExecutor(POOL) as threads:
        (number,) = other.execute("SELECT count(*) FROM test_checkpoints").fetchone()
        other.execute("LOCK TABLE test_checkpoints IN EXCLUSIVE MODE")
        send = [threads.submit(server.ask, "POST", f"{case}/checkpoints", body % (number + 1)) for case in cases[:POOL]]
        with psycopg.connect(database.dsn("postgres"), autocommit=True) as watcher:
            waiting = f"{sessions} AND wait_event_type = 'Lock'"
            try:
                wait_for(lambda: watcher.execute(waiting).fetchone() == (POOL,), server.log.read_text)
            finally:
                other.rollback()
            assert [each.result().status for each in send] == [201] * POOL
            (count,) = watcher.execute(sessions).fetchone()
            assert count <= POOL
