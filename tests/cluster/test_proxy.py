"""Two servers behind HAProxy, under load: one is killed, both are restarted."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.chaos.clients import Ledger, check, files, make_cases
from tests.cluster.engines import HAProxy, haproxy
from tests.up_server import PATIENCE, UpServer, end, half_an_upload, staged, wait_for

MIN_BATCHES = 25  # acknowledged, before and after a fault


@pytest.fixture
def start(hosts, dsn, make_token, tmp_path) -> Iterator[Callable[..., UpServer]]:
    """start(number, port, …): a server on one of the hosts. Ended after the test."""
    token = make_token()
    with ExitStack() as stack:
        yield lambda number, port=0, **environment: stack.enter_context(
            hosts[number].serving(tmp_path.name, dsn, token, "--port", str(port), **environment)
        )


@pytest.fixture
def servers(start) -> list[UpServer]:
    return [start(0), start(1)]


@pytest.fixture
def proxy(tmp_path, servers) -> Iterator[HAProxy]:
    addresses = {name: f"127.0.0.1:{server.port}" for name, server in zip(("alpha", "beta"), servers, strict=True)}
    # On a busy machine the one server may be slow while the other one restarts, and clients would get 503.
    with haproxy(tmp_path / "haproxy", addresses, check_timeout=f"{PATIENCE:.0f}s") as proxy:
        proxy.wait_until_up()
        yield proxy


def acknowledge(ledger: Ledger, more: int) -> None:
    """Waits until so many more batches are acknowledged."""
    enough = ledger.statuses[201] + more
    wait_for(lambda: ledger.statuses[201] >= enough, lambda: str(ledger.statuses))


@pytest.fixture
def compare(servers, dsn) -> Callable[[Ledger], None]:
    """compare(ledger): asserts that what was acknowledged is stored once, and nothing else, through each mount."""

    def stored(ledger: Ledger) -> None:
        storage = servers[0].data / "artifacts"
        wait_for(lambda: not staged(storage), lambda: str(staged(storage)))
        for server in servers:
            ledger.compare(server.data / "artifacts", dsn)
        check(storage, dsn)
        assert files(servers[1].data / "artifacts") == files(storage)

    return stored


def test_nothing_is_lost_when_one_of_two_servers_is_killed(proxy, servers, start, compare, effort, tally):
    outside, ledger = proxy.before(servers[0]), Ledger(tally)
    cases = make_cases(outside)
    for number in range(effort.times(2, 20)):
        killed = number % 2
        with ledger.uploading(outside, cases, clients=2):
            acknowledge(ledger, MIN_BATCHES)
            time.sleep(effort.random.uniform(0, 0.2))
            os.killpg(servers[killed].process.pid, signal.SIGKILL)
            servers[killed].process.wait()
            acknowledge(ledger, MIN_BATCHES)
        tally.add("servers killed")
        tally.add("broken requests", len(ledger.open))
        ledger.send_again(outside)
        servers[killed] = start(killed, servers[killed].port)
        proxy.wait_until_up()
    assert set(ledger.statuses) <= {201, 502, 503} and all(ledger.retry_after), ledger.statuses
    ledger.download(outside)
    compare(ledger)


def test_a_restart_of_one_server_after_the_other_fails_no_request(proxy, servers, start, compare, effort, tally):
    outside, ledger = proxy.before(servers[0]), Ledger(tally)
    cases = make_cases(outside)
    with ledger.uploading(outside, cases, clients=2):
        for number in range(effort.times(2, 20)):
            acknowledge(ledger, MIN_BATCHES)
            restarted = number % 2
            assert end(servers[restarted].process) == 0
            acknowledge(ledger, MIN_BATCHES)
            servers[restarted] = start(restarted, servers[restarted].port)
            proxy.wait_until_up()
            tally.add("restarts")
    assert dict(ledger.statuses) == {201: len(ledger.sent)} and ledger.open == []
    ledger.download(outside)
    compare(ledger)


def test_an_upload_in_progress_ends_well_after_its_server_was_marked_as_down(proxy, servers):
    """A server that stops accepts no connections, so HAProxy sends it nothing new. What is on its way must go on."""
    with half_an_upload(proxy.before(servers[0])) as (sock, rest):
        for server in servers:  # one of them has the upload
            server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: set(proxy.states().values()) == {"DOWN"}, proxy.log.read_text)
        refused = proxy.before(servers[0]).ask("GET", "/readyz")
        assert (refused.status, refused.headers["Retry-After"], refused.json()["code"]) == (503, "2", "no_server")
        sock.sendall(rest)
        assert sock.recv(12) == b"HTTP/1.1 201"
    assert [end(server.process) for server in servers] == [0, 0]


@pytest.mark.parametrize("trusted", [True, False])
def test_the_address_of_a_client_is_that_before_a_trusted_proxy(start, tmp_path, trusted):
    """A proxy on another machine has to be listed. Otherwise all people share its address, and the log says so."""
    server = start(0, REPORTD_SERVER_TRUSTED_PROXIES="127.0.0.1" if trusted else "")
    with haproxy(tmp_path / "haproxy", {"alpha": f"127.0.0.1:{server.port}"}) as proxy:
        proxy.wait_until_up()
        assert proxy.before(server).ask("GET", "/api/v1/reports/suite-runs").status == 200
    warned = "sent X-Forwarded-For, which is ignored: [server] trusted_proxies does not list" in server.log.read_text()
    assert warned is not trusted


def test_the_metrics_of_a_host_are_not_at_the_address_of_the_cluster(proxy, servers):
    """Whatever the path is written like: reportd decodes it."""
    for path in ("/metrics", "/metrics?x", "/%6Detrics", "/%6d%65trics?x", "/metric%73"):
        assert [server.ask("GET", path).status for server in servers] == [200, 200]
        assert proxy.before(servers[0]).ask("GET", path).status == 403, path
