"""The shared folder of one host fails: its mount stalls, breaks, is away, is read-only, or shows another folder.

That host answers 503 where it needs the folder, never 404, 410 or 500, and recovers without a restart. Nothing that was
acknowledged is lost, and the other host serves all the time.
"""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from server.storage.marker import MARKER
from tests.chaos.clients import BackgroundClients, Ledger, make_cases, picture, small_requests
from tests.cluster.engines import Host
from tests.forms import CONTENT_TYPE, single
from tests.up_server import half_an_upload, staged, wait_for

MIN_REFUSALS = 12  # uploads, before the fault ends
ENDLESS = {"live": ("GET", "/healthz", None), "metrics": ("GET", "/metrics", None)}


@pytest.fixture
def setup(weed, hosts, dsn, make_token, tmp_path) -> Iterator[SimpleNamespace]:
    """`server`: on alpha, with a `mount` of its own that a test may break. `other`: on beta, with the same folder."""
    name, own, token = tmp_path.name, hosts[0].own, make_token()
    timeouts = {"REPORTD_ARTIFACTS_FILE_TIMEOUT": "2", "REPORTD_SERVER_SHUTDOWN_TIMEOUT": "3"}
    with weed.mounted(tmp_path / "mount", own) as mount, hosts[1].serving(name, dsn, token) as other:
        with Host(tmp_path, own, mount).serving(name, dsn, token, **timeouts) as server:
            try:
                yield SimpleNamespace(server=server, other=other, mount=mount, own=own, folder=mount.at / name)
            finally:
                mount.kill()  # otherwise a server with a stalled mount could not be ended
        # The folder through a mount of which no test has broken anything.
        assert other.ask("GET", "/readyz").status == 200


def stall(setup: SimpleNamespace) -> None:
    setup.mount.pause()


def resume(setup: SimpleNamespace) -> None:
    setup.mount.resume()


def kill(setup: SimpleNamespace) -> None:
    """Each path fails with `Transport endpoint is not connected`."""
    setup.mount.kill()


def unmount(setup: SimpleNamespace) -> None:
    """Leaves the empty mount point."""
    setup.mount.kill()
    setup.mount.detach()


def restart(setup: SimpleNamespace) -> None:
    setup.mount.start()


def mount_anew(setup: SimpleNamespace) -> None:
    assert list(setup.mount.outside.iterdir()) == [], "nothing is written into the empty mount point"
    setup.mount.start()


def forbid_writes(setup: SimpleNamespace) -> None:
    wait_for(lambda: setup.own.run(f"mount -o remount,bind,ro '{setup.mount.at}'"), lambda: setup.own.error)


def allow_writes(setup: SimpleNamespace) -> None:
    setup.own.run_or_fail(f"mount -o remount,bind,rw '{setup.mount.at}'")


def mount_another(setup: SimpleNamespace) -> None:
    """The folder of another database, in which a server was started."""
    another = setup.mount.at / f"{setup.folder.name}-another"
    seen = setup.own.outside(another)
    (seen / ".staging").mkdir(parents=True)
    (seen / MARKER).write_text(f"{uuid4()}\n")
    setup.own.run_or_fail(f"mount --bind '{another}' '{setup.folder}'")


def mount_ours(setup: SimpleNamespace) -> None:
    assert sorted(path.name for path in setup.own.outside(setup.folder).iterdir()) == [MARKER, ".staging"]
    setup.own.run_or_fail(f"umount --lazy '{setup.folder}'")


FAULTS = {
    "stalled": (stall, resume),
    "broken": (kill, restart),
    "away": (unmount, mount_anew),
    "read-only": (forbid_writes, allow_writes),
    "another": (mount_another, mount_ours),
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_host_refuses_uploads_while_its_mount_fails(setup, dsn, effort, tally, name):
    begin, end = FAULTS[name]
    server, other, ledger = setup.server, setup.other, Ledger(tally)
    cases = make_cases(server)
    small, large = (
        server.ask(
            "POST", f"{cases[0]}/artifacts", single(picture(name, width), name), Content_Type=CONTENT_TYPE
        ).json()
        for name, width in (("small.png", 40), ("large.png", 240))
    )
    reads = {"ready": ("GET", "/readyz", None), "download": ("GET", small["download_url"], None)}
    for _ in range(effort.times(1, 5)):
        here = BackgroundClients(server, {**small_requests(cases), **ENDLESS, **reads})
        there = BackgroundClients(other, {**small_requests(cases), **reads})
        with here.running(), there.running(), ledger.uploading(server, cases):
            wait_for(lambda: ledger.statuses[201] > len(cases), lambda: str(ledger.statuses))
            begin(setup)
            enough = ledger.statuses[503] + MIN_REFUSALS
            wait_for(lambda: ledger.statuses[503] >= enough, lambda: str(ledger.statuses))  # noqa: B023
            wait_for(lambda: here.statuses["ready", 503], lambda: str(here.statuses))  # noqa: B023
            assert server.ask("GET", large["download_url"]).status in {200, 503}
            end(setup)
            wait_for(lambda: server.ask("GET", "/readyz").status == 200, server.log.read_text)
        here.check_statuses({200, 201}, ready={200, 503}, download={200, 503})
        there.check_statuses({200, 201})
        ledger.send_again(server)
        tally.add("rounds")
        tally.maximum("slowest small request, seconds", here.slowest)
    assert set(ledger.statuses) <= {201, 503} and all(ledger.retry_after), ledger.statuses
    ledger.download(server)
    ledger.download(other)
    wait_for(lambda: not staged(other.data / "artifacts"), lambda: str(staged(other.data / "artifacts")))
    for artifact in (small, large):
        assert server.ask("DELETE", artifact["download_url"].removesuffix("/download")).status == 204
    ledger.compare(other.data / "artifacts", dsn)


def test_a_server_ends_although_its_mount_stalls(setup, rows):
    """It answers until then, and leaves its port and its row to others. Linux keeps the process itself until the mount
    answers or is killed: even SIGKILL does not interrupt the close of a file on FUSE."""
    server, process = setup.server, setup.server.process
    with half_an_upload(server):
        setup.mount.pause()
        for path, status in {"/healthz": 200, "/readyz": 503, "/metrics": 200}.items():
            assert server.ask("GET", path).status == status
        process.send_signal(signal.SIGTERM)
        ended = f"/proc/{process.pid}/stat"
        wait_for(lambda: Path(ended).read_text().rpartition(")")[2].split()[0] == "Z", server.log.read_text)
        assert len(rows("SELECT FROM instances")) == 1, "of the other host"
        with socket.create_server(("127.0.0.1", server.port)):
            pass
        setup.mount.kill()
        assert process.wait(60) == 0
    assert "Traceback" not in server.log.read_text()
