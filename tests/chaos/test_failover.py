"""The primary of a real cluster changes under load: PostgreSQL under Patroni and etcd, and two hosts of reportd."""

import signal
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.chaos.conftest import LONG, Effort, Tally
from tests.chaos.mixed import Mixed, wait_for_removals
from tests.cluster.patroni import Patroni, patroni
from tests.people import an_admin
from tests.up_server import reportd, serving

pytestmark = pytest.mark.skipif(not LONG, reason="long form: make chaos")
TIMEOUTS = {"REPORTD_DATABASE_CONNECT_TIMEOUT": "3", "REPORTD_DATABASE_COMMAND_TIMEOUT": "8"}


def switched_over(cluster: Patroni) -> None:
    cluster.switch_over()


def killed(cluster: Patroni) -> None:
    """As when the leader's machine loses its power; it comes back when the other one is leader."""
    node = cluster.leader()
    node.signal(signal.SIGKILL)
    cluster.leader(node)
    cluster.start(node)


def stopped(cluster: Patroni) -> None:
    """The leader's processes hang: its connections stay open, and new ones are accepted by the kernel."""
    node = cluster.leader()
    node.signal(signal.SIGSTOP)
    try:
        cluster.leader(node)
        time.sleep(5)  # the load goes on with the new leader, while the old one still hangs
    finally:
        node.signal(signal.SIGCONT)


# The bounds of the design for the time without an acknowledged write, in seconds, and how often.
FAULTS = {switched_over: (5.0, 5), killed: (25.0, 5), stopped: (30.0, 2)}


def test_nothing_is_lost_when_the_primary_changes(tmp_path, effort, tally):
    storage = tmp_path / "shared"
    with ExitStack() as stack:
        cluster = stack.enter_context(patroni())
        dsn = cluster.dsn()
        with psycopg.connect(cluster.dsn("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE reportd")
        migrated = reportd("migrate", REPORTD_DATABASE_DSN=dsn)
        assert migrated.returncode == 0, migrated
        token, own = an_admin(dsn), {**TIMEOUTS, "REPORTD_ARTIFACTS_STORAGE_PATH": str(storage)}
        load = rounds(cluster, token, own, tmp_path, effort, tally)
        with serving(tmp_path / "last", dsn, token, **own):  # unlinks what the others could not
            wait_for_removals(dsn)
        load.verify(storage, dsn)
        backup = reportd("backup", str(tmp_path / "backup"), **{**own, "REPORTD_DATABASE_DSN": dsn})
        assert backup.returncode == 0, backup
        for fault, (bound, _) in FAULTS.items():
            assert tally.values[f"longest gap when {fault.__name__}, seconds"] < bound, tally.values


def rounds(cluster: Patroni, token: str, own: dict[str, str], folder: Path, effort: Effort, tally: Tally) -> Mixed:
    """The load on two hosts, after all faults in random order."""
    with ExitStack() as stack:
        hosts = [stack.enter_context(serving(folder / name, cluster.dsn(), token, **own)) for name in ("one", "two")]
        load = Mixed(hosts, tally, effort.random)
        faults = [fault for fault, (_, times) in FAULTS.items() for _ in range(times)]
        effort.random.shuffle(faults)
        for fault in faults:
            cluster.wait_until_whole()
            with load.running():
                load.wait_for_writes()
                time.sleep(effort.random.uniform(0, 1))
                began = time.monotonic()
                fault(cluster)
                load.wait_for_writes(50)
            tally.add(fault.__name__)
            tally.maximum(f"longest gap when {fault.__name__}, seconds", load.gap(began))
        cluster.wait_until_whole()
        load.read_all()
    return load
