"""The rest of deploy/cluster/, done: a host returns or is replaced, a backup is restored, a host is added."""

from dataclasses import replace

import pytest

from tests.chaos.clients import BASE, Ledger, make_cases
from tests.chaos.conftest import LONG, Tally
from tests.cluster.guide import HOSTS_PAGE, Guide, blocks
from tests.cluster.test_readme import (
    CLIENTS,
    HOSTS,
    VIRTUAL,
    Uploads,
    acknowledges_more,
    client_of,
    dsn_of,
    holder_of,
    leader,
    wait_until_whole,
)
from tests.up_server import wait_for

pytestmark = pytest.mark.skipif(not LONG, reason="minutes: only with CHAOS=long")
FOLDER = "/var/lib/reportd/artifacts"
CHECK = "/opt/reportd/venv/bin/reportd check --verify-hashes --config /etc/reportd/config.toml"


def do_again(guide: Guide, name: str, *words: str) -> None:
    """Follows the blocks of "Install" that have these words, on one host."""
    for word in words:
        (block,) = [block for block in blocks("Install") if word in block.text and "beta" in block.hosts]
        guide.follow(replace(block, hosts=(name,)))


@pytest.mark.parametrize("fault", ["dies", "is cut off"])
def test_the_host_that_led_comes_back_by_itself(cluster, tally, fault):
    guide, lan = cluster
    alpha, beta = lan.hosts[:2]
    client, ledger = client_of(guide, alpha), Ledger(tally)
    led = next(host for host in lan.hosts if host.name == leader(guide, alpha))
    uploads = Uploads(client, ledger, make_cases(client))
    with uploads.running(CLIENTS):
        acknowledges_more(ledger)
        led.die() if fault == "dies" else led.unplug()
        acknowledges_more(ledger)
        if fault == "dies":
            led.boot()
            guide.prepare(led)
            guide.run(led, "systemctl default")
        else:
            led.plug_in()
        acknowledges_more(ledger)
    wait_until_whole(guide, led)
    tally.maximum("seconds without an upload", uploads.gap)
    ledger.download(client)
    for host in (alpha, beta):
        ledger.compare(host.path(FOLDER), dsn_of(host))


def test_a_dead_host_is_replaced(cluster, tally):
    """Beta gets an empty machine. At the end alpha dies, and beta alone has everything."""
    guide, lan = cluster
    alpha, beta = lan.hosts[:2]
    client, ledger = client_of(guide, alpha), Ledger(tally)
    cases = make_cases(client)
    uploads = Uploads(client, ledger, cases)
    with uploads.running(CLIENTS):
        acknowledges_more(ledger, 200)  # healing these takes longer than the next step
        beta.die()
        alpha.run("rm", "-rf", f"{lan.folder}/beta")
        acknowledges_more(ledger)
    beta.boot()
    guide.prepare(beta)
    forget, identity, join, copy = blocks("Replace a dead host", HOSTS_PAGE)
    guide.follow(forget)
    guide.follow(identity)
    do_again(guide, "beta", "git clone", "adduser --system")
    guide.follow(join)
    do_again(guide, "beta", "adduser etcd", "patroni.yml", "mountpoint /srv/brick")
    guide.follow(copy)
    do_again(guide, "beta", "check --folder", "reportd.socket", "keepalived.conf")
    wait_until_whole(guide, beta)
    alpha.die()
    uploads = Uploads(client, ledger, cases)
    with uploads.running(CLIENTS):
        acknowledges_more(ledger)
    assert leader(guide, beta) == "beta" and holder_of(VIRTUAL, lan.hosts) is beta
    ledger.download(client)
    ledger.compare(beta.path(FOLDER), dsn_of(beta))


def test_a_backup_is_restored(cluster, tally):
    """What was there at the backup is there again, on both, and nothing else. A token from before is good."""
    guide, lan = cluster
    alpha, beta = lan.hosts[:2]
    client, ledger = client_of(guide, alpha), Ledger(tally)
    cases = make_cases(client)
    back_up, stop, restore, start = blocks("Backup and restore")
    with Uploads(client, ledger, cases).running(CLIENTS):
        acknowledges_more(ledger)
    guide.follow(back_up)
    cases_after, after = make_cases(client), Ledger(Tally(), ledger.serials)
    with Uploads(client, after, cases_after).running(CLIENTS):
        acknowledges_more(after)
    for artifact in list(ledger.acknowledged)[:3]:
        assert client.ask("DELETE", f"{BASE}/artifacts/{artifact}").status == 204
    for block in (stop, restore, start):
        guide.follow(block)
    wait_for(lambda: client.ask("GET", cases[0]).status == 200)
    ledger.download(client)
    assert client.ask("GET", cases_after[0]).status == 404
    wait_until_whole(guide, beta)
    for host in (alpha, beta):
        ledger.compare(host.path(FOLDER), dsn_of(host))
    guide.run(beta, f"{CHECK} --repair --grace 0s || [ $? = 1 ]")  # 1: it found and removed files of later uploads
    guide.run(alpha, f"{CHECK} --grace 0s")
    with Uploads(client, ledger, cases).running(CLIENTS):
        acknowledges_more(ledger)


@pytest.mark.parametrize("cluster", [(*HOSTS, "delta")], indirect=True)
def test_a_host_is_added(cluster, tally):
    """While clients upload. Then it serves all that the others stored, also when these end their servers."""
    guide, lan = cluster
    alpha, beta, delta = (lan.hosts[number] for number in (0, 1, 3))
    client, ledger = client_of(guide, alpha), Ledger(tally)
    send, add = blocks("Add a host", HOSTS_PAGE)
    with Uploads(client, ledger, make_cases(client)).running(CLIENTS):
        acknowledges_more(ledger)
        guide.follow(send)
        do_again(guide, "delta", "git clone", "adduser --system", "check --folder", "reportd.socket")
        guide.follow(add)
        acknowledges_more(ledger)
    assert set(ledger.statuses) == {201}, ledger.statuses  # no request failed
    for host in (alpha, beta):
        guide.run(host, "systemctl stop reportd.socket reportd.service")
    with Uploads(client, ledger, make_cases(client)).running(CLIENTS):
        acknowledges_more(ledger)
    ledger.download(client)
    ledger.compare(delta.path(FOLDER), dsn_of(alpha))
