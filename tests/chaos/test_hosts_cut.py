"""A host is cut off from the database, from the storage folder, or from both, while clients upload through HAProxy."""

import time

import pytest

from tests.chaos.conftest import LONG
from tests.chaos.mixed import Mixed, wait_for_removals
from tests.cluster.lan import Site, site
from tests.up_server import wait_for

pytestmark = pytest.mark.skipif(not LONG, reason="long form: make chaos")
CUT_SECONDS = 20
RECOVERY_SECONDS = 5.0  # the bound of the design, from when the mount answers again; without a restart
SETTINGS = {
    "REPORTD_DATABASE_CONNECT_TIMEOUT": "3",
    "REPORTD_DATABASE_COMMAND_TIMEOUT": "8",
    "REPORTD_ARTIFACTS_FILE_TIMEOUT": "5",
}
FROM = {"the database": ["database"], "the folder": ["files"], "both": ["database", "files"]}


def test_a_host_that_is_cut_off_gives_no_wrong_answer_and_recovers(tmp_path, effort, tally):
    with site(tmp_path, **SETTINGS) as here:
        load = Mixed([here.outside], tally, effort.random)
        for what in FROM:
            for name in effort.random.sample(list(here.hosts), 2):
                one_cut(here, load, name, what, tally)
        load.read_all()
        here.serve("alpha")  # unlinks what the others could not
        wait_for_removals(here.dsn)
        load.verify(here.storage, here.dsn)
        for what in FROM:
            assert tally.values[f"recovery from {what}, seconds"] < RECOVERY_SECONDS, tally.values


def one_cut(here: Site, load: Mixed, name: str, what: str, tally) -> None:
    host, server = here.hosts[name], here.servers[name]
    with load.running():
        load.wait_for_writes()
        began = time.monotonic()
        host.cut_off(*(getattr(here, other) for other in FROM[what]))
        # Asked past HAProxy, which sends nothing to this host any more.
        wait_for(lambda: server.ask("GET", "/readyz").status == 503, server.log.read_text)
        assert server.ask("GET", "/readyz").headers["Retry-After"]
        while time.monotonic() < began + CUT_SECONDS:
            assert server.ask("GET", "/healthz").status == 200
            time.sleep(0.5)
        host.rejoin()
        healed = time.monotonic()
        wait_for(lambda: (here.mounts[name].outside / "reports").is_dir(), server.log.read_text)
        tally.maximum(f"the mount's own recovery from {what}, seconds", time.monotonic() - healed)
        mounted = time.monotonic()
        wait_for(lambda: server.ask("GET", "/readyz").status == 200, server.log.read_text)
        tally.maximum(f"recovery from {what}, seconds", time.monotonic() - mounted)
        here.proxy.wait_until_up(name)
        load.wait_for_writes(50)
    tally.add(f"cut off from {what}")
    tally.maximum(f"longest gap when cut off from {what}, seconds", load.gap(began))
