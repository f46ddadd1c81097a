"""deploy/cluster/README.md, done: from three bare hosts to a cluster, an upgrade, and one host dies under load.

test_readme_long.py does the rest of the page. guide.py says what is replaced. The hosts' disks are in memory: a power
cut here loses nothing that was not synced.
"""

import itertools
import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from server.config import load
from tests.chaos.clients import Batch, Ledger, make_cases
from tests.chaos.conftest import LONG
from tests.cluster.guide import Block, Guide, blocks
from tests.cluster.hosts import Host, Lan, network
from tests.cluster.programs import required
from tests.up_server import PATIENCE, Reply, UpServer, wait_for

PROGRAMS = ["etcd", "etcdctl", "haproxy", "keepalived", "openssl", "patroni", "patronictl"]
VIRTUAL = "192.0.2.10"
HOSTS = ("alpha", "beta", "gamma")
CLIENTS = 4
LIST = "patronictl -c /etc/patroni/config.yml list"
PAUSE = 0.5  # seconds, before a batch is sent again


@dataclass
class Cluster(UpServer):
    """What clients see at the virtual address."""

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """A reply that a dead host owes never comes: after 10 seconds it counts as lost."""
        given = {"Authorization": f"Bearer {self.token}", "Host": "reports.example", **headers}
        named = {name.replace("_", "-"): value for name, value in given.items()}
        request = urllib.request.Request(self.url + path, body, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return Reply(reply.status, reply.headers, reply.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return Reply(refused.code, refused.headers, refused.read())
        except TimeoutError as error:
            raise ConnectionError("no reply") from error


@pytest.fixture
def cluster(request, tmp_path, monkeypatch) -> Iterator[tuple[Guide, Lan]]:
    """Three hosts after all steps of "Install"; this thread is on their network. A parameter has the names of more."""
    for program in [*PROGRAMS, "gluster", "glusterd"]:
        required(program)
    with installed(tmp_path, monkeypatch, blocks("Install"), hosts=getattr(request, "param", HOSTS)) as found:
        yield found


@contextmanager
def installed(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: Sequence[Block],
    name: str = "CLUSTER_TRANSCRIPT",
    hosts: Sequence[str] = HOSTS,
) -> Iterator[tuple[Guide, Lan]]:
    """The hosts after these steps; this thread is on their network. `name`: the variable with a transcript's path."""
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/haproxy/trial.pem")
    with network(folder, *hosts) as lan:
        guide = Guide(lan)
        began = time.monotonic()
        try:
            for block in steps:
                guide.follow(block)
            guide.note(f"{time.monotonic() - began:.0f} s from the first step to here")
            trusted = folder / "trial.pem"
            trusted.write_text(lan.hosts[0].path("/etc/haproxy/trial.pem").read_text())
            monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
            with lan.inside():
                yield guide, lan
        finally:
            for host in lan.hosts:
                if host.is_on and host.path("/var/log/units").exists():
                    shutil.copytree(host.path("/var/log/units"), folder / f"log-{host.name}")
            if path := os.environ.get(name):
                Path(path).write_text("\n".join(guide.transcript) + "\n")


def client_of(guide: Guide, host: Host) -> Cluster:
    command = "/opt/reportd/venv/bin/reportd token create --name test --role admin --config /etc/reportd/config.toml"
    token = guide.run(host, command, shown=False).split()[-1]
    nothing = Path("/nonexistent")
    return Cluster(nothing, None, f"https://{VIRTUAL}", token, nothing, nothing)


def dsn_of(host: Host) -> str:
    """The database's, by addresses: the names are known only in the hosts."""
    dsn = load(host.path("/etc/reportd/config.toml"), environ={}).database.dsn
    return dsn.replace("@alpha,beta/", "@192.0.2.11,192.0.2.12/").partition("&sslmode")[0] + "&sslmode=require"


def holder_of(address: str, hosts: list[Host]) -> Host:
    (holder,) = [host for host in hosts if host.is_on and address in host.addresses()]
    return holder


def leader(guide: Guide, host: Host) -> str:
    lines = [line.split("\t") for line in guide.run(host, f"{LIST} --format tsv", shown=False).splitlines()]
    return next((line[1] for line in lines if "Leader" in line), "")


class Uploads:
    """Clients that send each batch until it is acknowledged, as real ones do, and how long none got through."""

    def __init__(self, client: UpServer, ledger: Ledger, cases: list[str]) -> None:
        self._client, self._ledger, self._cases = client, ledger, cases
        self._stop = threading.Event()
        self._moments = [time.monotonic()]

    def _repeat(self, number: int) -> None:
        for turn in itertools.count():
            if self._stop.is_set():
                return
            serial = str(next(self._ledger.serials))
            item = Batch(serial, self._cases[(number + turn) % len(self._cases)], key=f"key-{serial}" * (number % 2))
            deadline = time.monotonic() + 2 * PATIENCE
            while not self._ledger.send(self._client, item):
                self._ledger.open.remove(item)
                assert time.monotonic() < deadline, (item, self._ledger.statuses)
                time.sleep(PAUSE)
            self._moments.append(time.monotonic())

    @contextmanager
    def running(self, count: int) -> Iterator[None]:
        with ThreadPoolExecutor(count) as threads:
            futures = [threads.submit(self._repeat, number) for number in range(count)]
            try:
                yield
            finally:
                self._moments.append(time.monotonic())
                self._stop.set()
        for future in futures:
            future.result()

    @property
    def gap(self) -> float:
        """The longest time without an acknowledged batch, in seconds."""
        return max(later - earlier for earlier, later in pairwise(self._moments))


def acknowledges_more(ledger: Ledger, count: int = 20) -> None:
    """Waits until so many further artifacts are acknowledged."""
    before = len(ledger.acknowledged)
    wait_for(lambda: len(ledger.acknowledged) >= before + count, lambda: str(ledger.statuses))


def wait_until_whole(guide: Guide, host: Host) -> None:
    """Waits until both databases have each commit, and until all bricks have each file."""
    wait_for(lambda: "Sync Standby" in guide.run(host, LIST, shown=False))
    heal = "gluster volume heal reports info | grep '^Number of entries' | sort | uniq -c"
    wait_for(lambda: guide.run(host, heal, shown=False).split() == ["3", *["Number", "of", "entries:", "0"]])


def one_dies_under_load(guide: Guide, lan: Lan, uploads: Uploads, ledger: Ledger) -> tuple[Host, Host]:
    """The host that leads the database dies, and the other one takes over. Returns both."""
    dies = next(host for host in lan.hosts if host.name == leader(guide, lan.hosts[0]))
    stays = next(host for host in lan.hosts[:2] if host is not dies)
    guide.note(f"{CLIENTS} clients upload batches to https://reports.example. {dies.name} leads the database, and")
    guide.note(f"{holder_of(VIRTUAL, lan.hosts).name} has the virtual address. Now {dies.name} dies.")
    with uploads.running(CLIENTS):
        acknowledges_more(ledger)
        dies.die()
        acknowledges_more(ledger)
    assert leader(guide, stays) == stays.name and holder_of(VIRTUAL, lan.hosts) is stays
    guide.note(f"The longest time without an acknowledged upload: {uploads.gap:.1f} s")
    guide.run(stays, LIST)
    return dies, stays


def compare(guide: Guide, host: Host, ledger: Ledger) -> None:
    """The rows, and the files that this host sees, are those that were acknowledged."""
    ledger.compare(host.path("/var/lib/reportd/artifacts"), dsn_of(host))
    guide.note(
        f"{len(ledger.acknowledged)} artifacts were acknowledged and are whole. Replies: {dict(ledger.statuses)}"
    )


def turn_on(guide: Guide, host: Host) -> None:
    host.boot()
    guide.prepare(host)
    guide.run(host, "systemctl default")


@pytest.mark.skipif(not LONG, reason="minutes: only with CHAOS=long")
def test_the_steps_make_a_cluster_that_survives_the_death_of_a_host(cluster, tally):
    guide, lan = cluster
    client, ledger = client_of(guide, lan.hosts[0]), Ledger(tally)
    cases = make_cases(client)
    uploads = Uploads(client, ledger, cases)
    with uploads.running(CLIENTS):
        acknowledges_more(ledger)
        guide.follow(blocks("Upgrade")[0])
        acknowledges_more(ledger)
    assert set(ledger.statuses) == {201}, ledger.statuses  # no request failed
    wait_until_whole(guide, lan.hosts[0])

    uploads = Uploads(client, ledger, cases)
    _, stays = one_dies_under_load(guide, lan, uploads, ledger)
    tally.maximum("seconds without an upload", uploads.gap)
    ledger.download(client)
    compare(guide, stays, ledger)
