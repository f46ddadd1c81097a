"""One folder through two mounts: staged files, repairs, clocks, files with equal bytes, and what a trial says of it."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from server.commands.check import promises
from server.storage.marker import MARKER
from tests.chaos.clients import Ledger, files, make_cases, picture
from tests.cluster.engines import Host
from tests.forms import CONTENT_TYPE, single
from tests.up_server import (
    CHECKOUT,
    ENVIRONMENT,
    PATIENCE,
    REPORTD,
    Reply,
    UpServer,
    half_an_upload,
    reportd,
    staged,
    wait_for,
)

# A site module that makes the clock of a process wrong. PostgreSQL and the file system keep theirs.
WRONG_CLOCK = """
import time
now, now_ns = time.time, time.time_ns
time.time = lambda: now() + {skew}
time.time_ns = lambda: now_ns() + {skew} * 10**9
"""


@pytest.fixture
def start(hosts, dsn, make_token, tmp_path) -> Iterator[Callable[..., UpServer]]:
    """start(number, …): a server on one of the hosts, in a folder of this test. Ended after the test."""
    token = make_token()
    with ExitStack() as stack:
        yield lambda number, *options, **environment: stack.enter_context(
            hosts[number].serving(tmp_path.name, dsn, token, *options, **environment)
        )


@pytest.fixture
def repair(dsn, tmp_path) -> Callable[..., "subprocess.Popen[str]"]:
    """repair(host, …): starts `reportd check --repair --grace 0s` on a host."""

    def run(host: Host, **environment: str) -> "subprocess.Popen[str]":
        own = {"REPORTD_DATABASE_DSN": dsn, "REPORTD_ARTIFACTS_STORAGE_PATH": str(host.mount.at / tmp_path.name)}
        return subprocess.Popen(
            [*host.own.prefix, *REPORTD, "check", "--repair", "--grace", "0s"],
            env={**ENVIRONMENT, **own, **environment},
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


@pytest.fixture
def one_name(hosts) -> Iterator[None]:
    """Both hosts have the same name."""
    for host in hosts:
        host.own.run_or_fail("hostname twin")
    yield
    for host, name in zip(hosts, ("alpha", "beta"), strict=True):
        host.own.run_or_fail(f"hostname {name}")


def upload(server: UpServer, case: str, content: bytes, name: str = "a.png") -> Reply:
    return server.ask("POST", f"{case}/artifacts", single(content, name), Content_Type=CONTENT_TYPE)


def finished(sock: object, rest: bytes) -> bytes:
    sock.sendall(rest)
    return sock.recv(12)


def test_two_first_starts_at_once_agree_on_the_folder(start, hosts, tmp_path, rows):
    """Both may have written a marker file; the row decides, and both must find its id from then on."""
    with ThreadPoolExecutor(2) as threads:
        alpha, beta = threads.map(start, (0, 1))
    (case,) = make_cases(alpha, 1)
    assert [upload(server, case, picture("x"), f"{server.port}.png").status for server in (alpha, beta)] == [201, 201]
    (own,) = rows("SELECT id FROM storage_folder")
    for host in hosts:
        assert (host.mount.outside / tmp_path.name / MARKER).read_text().strip() == str(own["id"])


# --- staged files --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_name")
def test_two_hosts_of_one_name_keep_each_others_staged_files(start, rows):
    """Also when one was killed and starts again: it removes what it has left itself, by the lock that it sees."""
    alpha, beta = start(0), start(1)
    both = wait_for(lambda: found if len(found := rows("SELECT host FROM instances")) == 2 else None)
    assert both == 2 * [{"host": "twin"}]
    with half_an_upload(alpha) as (sock, rest):
        ours = staged(alpha.data / "artifacts")
        assert ours
        with half_an_upload(beta):
            os.killpg(beta.process.pid, signal.SIGKILL)
            beta.process.wait()
            theirs = set(wait_for(lambda: set(staged(alpha.data / "artifacts")) - set(ours)))
            again = start(1)
        wait_for(lambda: not theirs & set(staged(alpha.data / "artifacts")), again.log.read_text)
        assert set(ours) <= set(staged(alpha.data / "artifacts"))
        assert finished(sock, rest) == b"HTTP/1.1 201"
    (case,) = make_cases(again, 1)
    assert [upload(server, case, picture("x")).status for server in (alpha, again)] == [201, 201]


@pytest.mark.parametrize("all", [False, True], ids=["alone", "with all others"])
def test_a_staging_folder_that_another_host_removed_is_made_anew(start, all):
    alpha, beta = start(0), start(1)
    (case,) = make_cases(alpha, 1)
    assert upload(alpha, case, picture("before")).status == 201
    top = beta.data / "artifacts/.staging"
    (own,) = (path for path in top.iterdir() if path.name in instances_of(alpha))
    shutil.rmtree(top if all else own)
    wait_for(lambda: not (alpha.data / "artifacts/.staging" / own.name).exists())
    for number, server in enumerate((alpha, beta, alpha)):
        reply = upload(server, case, picture(f"after {number}"), f"{number}.png")
        assert reply.status == 201, reply
        assert beta.ask("GET", reply.json()["download_url"]).body == picture(f"after {number}")
    assert [server.ask("GET", "/readyz").status for server in (alpha, beta)] == [200, 200]


def instances_of(server: UpServer) -> set[str]:
    """The staging folders on which a server holds a lock."""
    links = (os.readlink(link) for link in Path(f"/proc/{server.process.pid}/fd").iterdir())  # noqa: PTH115
    return {Path(link).name for link in links if "/.staging/" in link}


# --- repairs and clocks --------------------------------------------------------------------------------------


def test_of_two_repairs_on_two_mounts_one_is_refused(start, hosts, repair, dsn):
    (case,) = make_cases(alpha := start(0), 1)
    upload(alpha, case, picture("kept"))
    with psycopg.connect(dsn, autocommit=True) as connection:
        with connection.transaction():
            connection.execute("LOCK TABLE test_artifacts IN ACCESS EXCLUSIVE MODE")  # the first one waits for it
            first = repair(hosts[0])
            held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            wait_for(lambda: connection.execute(held).fetchone()[0] == 1)
            second = repair(hosts[1])
            out, err = second.communicate(timeout=PATIENCE)
            assert second.returncode == 2 and "perhaps on another host" in err, (out, err)
        out, err = first.communicate(timeout=PATIENCE)
    assert first.returncode == 0, (out, err)
    third = repair(hosts[1])
    assert third.communicate(timeout=PATIENCE) and third.returncode == 0, "the lock ended with the first"


@pytest.mark.parametrize("hours", [-3, 3])
def test_clocks_that_are_hours_apart_lose_nothing(start, hosts, repair, tmp_path, dsn, tally, hours):
    """beta's clock is wrong by that of the database, of the file system and of alpha. Its repairs without a grace
    period, while both upload, and its start, judge nothing as old that is in use."""
    (tmp_path / "sitecustomize.py").write_text(WRONG_CLOCK.format(skew=hours * 3600))
    wrong = {"PYTHONPATH": str(tmp_path)}
    alpha, ledger = start(0), Ledger(tally)
    cases = make_cases(alpha)
    with half_an_upload(alpha) as (sock, rest), ledger.uploading(alpha, cases, clients=2):
        beta = start(1, **wrong)
        with ledger.uploading(beta, cases, clients=2):
            for _ in range(2):
                running = repair(hosts[1], **wrong)
                out, err = running.communicate(timeout=PATIENCE)
                assert running.returncode == 0, (out, err)
                assert "removed" not in out.replace("not removed yet", ""), out
        assert finished(sock, rest) == b"HTTP/1.1 201"
    assert set(ledger.statuses) == {201} and ledger.acknowledged
    for server in (alpha, beta):
        ledger.download(server)
    log = wait_for(lambda: "Synchronise both" in (text := beta.log.read_text()) and text)
    assert (
        f"{'ahead of' if hours > 0 else 'behind'} that of the database" in log
        and "Synchronise" not in alpha.log.read_text()
    )


# --- equal files, and the trial ------------------------------------------------------------------------------


def test_equal_files_outlive_each_other_on_both(start):
    """With hard links, a mount of SeaweedFS loses the others when one is deleted."""
    alpha, beta = start(0), start(1)
    content, cases = picture("equal"), make_cases(alpha, 4)
    saved = [upload(server, case, content).json() for server, case in zip((alpha, beta) * 2, cases, strict=True)]
    for deleting in (alpha, beta):
        for reading in (alpha, beta):
            assert {reading.ask("GET", each["download_url"]).body for each in saved} == {content}
        assert deleting.ask("DELETE", saved.pop(0)["download_url"].removesuffix("/download")).status == 204
    for reading in (alpha, beta):
        assert [reading.ask("GET", each["download_url"]).status for each in saved] == [200, 200]
    wait_for(lambda: len(files(alpha.data / "artifacts")) == len(saved))


def test_a_trial_of_two_mounts_says_what_seaweedfs_does_not_promise(hosts):
    """Whatever wins a race there: nothing that reportd cannot do without is broken."""
    here, there = (host.mount.outside for host in hosts)
    done = reportd("check", "--folder", str(here), "--other", str(there), "--json")
    *results, summary = map(json.loads, done.stdout.splitlines())
    states = {result["promise"]: result["state"] for result in results}
    assert done.returncode == 0 and summary["unusable"] == 0, done.stdout
    assert list(states) == [promise.text for promise in (*promises.OF_ONE_MOUNT, *promises.OF_TWO_MOUNTS)]
    broken = {text for text, state in states.items() if state == "broken"}
    lost = "a file keeps its other names when one is removed"
    assert {lost, "a lock is held once by both mounts"} <= broken
    assert broken <= {
        lost,
        "a lock is held once by both mounts",
        *(text for text in states if text.startswith("one of two")),
    }
    assert not [path for path in here.iterdir() if path.name.startswith(".check-")]
    assert any(result["then"].startswith("Set [artifacts] hard_links = false") for result in results if result["then"])
