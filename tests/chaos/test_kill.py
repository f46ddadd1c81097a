"""`kill -9` at random moments while clients upload: no acknowledged artifact is lost and none is saved twice."""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.commands.up import postgres
from tests.chaos.clients import Ledger, check, files, make_cases, staged, stored
from tests.up_server import UpServer, end, serving, start_up, wait_for


def workers(server: UpServer) -> list[int]:
    """Both worker processes. A new one may not be ready yet."""
    return wait_for(lambda: found if len(found := living(server.process.pid)) == 2 else None, server.log.read_text)


def living(pid: int) -> list[int]:
    """The children of a process, without zombies."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if Path(f"/proc/{child}/cmdline").read_bytes()]


def kill_a_worker(server: UpServer, chance: random.Random) -> None:
    """Kills one worker process, and leaves the clients with the other one for up to 0.3 seconds."""
    os.kill(chance.choice(workers(server)), signal.SIGKILL)
    time.sleep(chance.uniform(0, 0.3))


def kill_all(server: UpServer) -> None:
    """Kills the master and its workers at the same moment."""
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


@contextmanager
def up(data: Path) -> Iterator[UpServer]:
    """Runs `reportd up` inside the `with` block. Does not stop its PostgreSQL afterwards."""
    server = start_up(data)
    try:
        yield server
    finally:
        end(server.process)


def test_nothing_is_lost_when_a_worker_or_the_server_is_killed(tmp_path, dsn, make_token, effort, tally):
    data, token, ledger = tmp_path / "data", make_token(), Ledger(tally)
    storage, kills_left, cases = data / "artifacts", effort.times(4, 130), None
    while kills_left:
        with serving(data, dsn, token, "--workers", "2") as server:
            cases = cases or make_cases(server)
            ledger.send_again(server)
            server_killed = False
            while kills_left and not server_killed:
                server_killed = kills_left == 1 or effort.random.random() < 0.5
                before = len(ledger.acknowledged)
                with ledger.uploading(server, cases):
                    time.sleep(effort.random.uniform(0.05, 0.8))
                    kill_all(server) if server_killed else kill_a_worker(server, effort.random)
                tally.add("servers killed" if server_killed else "workers killed")
                kills_left -= 1
                if not server_killed:
                    ledger.send_again(server)
                    ledger.download(server, list(ledger.acknowledged)[before:])
        tally.record("files without a row", len(files(storage)) - len(stored(dsn)))
    with serving(data, dsn, token, "--workers", "2") as server:
        ledger.send_again(server)
        ledger.download(server)
        wait_for(lambda: not staged(storage), lambda: str(staged(storage)))
    ledger.compare(storage, dsn)
    assert tally.values["workers killed"] and tally.values["servers killed"] and ledger.acknowledged
    check(storage, dsn)


def test_nothing_is_lost_when_reportd_up_and_its_postgresql_are_killed(tmp_path, effort, tally):
    data, ledger, cases = tmp_path / "up", Ledger(tally), None
    storage, database = data / "artifacts", postgres(data)
    try:
        for number in range(effort.times(2, 70)):
            before = len(ledger.acknowledged)
            with up(data) as server:
                cases = cases or make_cases(server)
                ledger.send_again(server)
                with ledger.uploading(server, cases):
                    time.sleep(effort.random.uniform(0.05, 0.8))
                    if number % 2:
                        os.kill(int((database.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
                    kill_all(server)
            tally.add("servers and PostgreSQL killed" if number % 2 else "servers killed")
            with up(data) as server:
                ledger.send_again(server)
                ledger.download(server, list(ledger.acknowledged)[before:])
                assert staged(storage) == []
        with up(data) as server:
            ledger.download(server)
            ledger.compare(storage, database.dsn())
            check(storage, database.dsn())  # safe while a server runs, and this one is idle
    finally:
        database.stop()
