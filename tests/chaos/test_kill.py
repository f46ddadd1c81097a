"""`kill -9` at random moments while clients upload: nothing that was acknowledged is lost, nothing is there twice."""

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
    """Both of them; a new one need not be ready yet."""
    return wait_for(lambda: found if len(found := living(server.process.pid)) == 2 else None, server.log.read_text)


def living(pid: int) -> list[int]:
    """The children of a process, without those that have only not been waited for yet."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if Path(f"/proc/{child}/cmdline").read_bytes()]


def kill_a_worker(server: UpServer, chance: random.Random) -> None:
    """The clients go on with the other one for a while."""
    os.kill(chance.choice(workers(server)), signal.SIGKILL)
    time.sleep(chance.uniform(0, 0.3))


def kill_all(server: UpServer) -> None:
    """The master first, as whoever kills a server by hand does, but its workers in the same moment."""
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


@contextmanager
def up(data: Path) -> Iterator[UpServer]:
    """`reportd up` for the while; its PostgreSQL is left as it is."""
    server = start_up(data)
    try:
        yield server
    finally:
        end(server.process)


def test_a_worker_or_the_whole_server_is_killed(tmp_path, dsn, make_token, effort, tally):
    data, token, ledger = tmp_path / "data", make_token(), Ledger(tally)
    storage, left, cases = data / "artifacts", effort.times(4, 130), None
    while left:
        with serving(data, dsn, token, "--workers", "2") as server:
            cases = cases or make_cases(server)
            ledger.send_again(server)
            whole = False
            while left and not whole:
                whole, before = left == 1 or effort.random.random() < 0.5, len(ledger.acknowledged)
                with ledger.uploading(server, cases):
                    time.sleep(effort.random.uniform(0.05, 0.8))
                    kill_all(server) if whole else kill_a_worker(server, effort.random)
                tally.add("servers killed" if whole else "workers killed")
                left -= 1
                if not whole:
                    ledger.send_again(server)
                    ledger.download(server, list(ledger.acknowledged)[before:])
        tally.note("files without a row", len(files(storage)) - len(stored(dsn)))
    with serving(data, dsn, token, "--workers", "2") as server:
        ledger.send_again(server)
        ledger.download(server)
        wait_for(lambda: not staged(storage), lambda: str(staged(storage)))
    ledger.compare(storage, dsn)
    assert tally.figures["workers killed"] and tally.figures["servers killed"] and ledger.acknowledged
    check(storage, dsn)


def test_reportd_up_and_its_postgresql_are_killed(tmp_path, effort, tally):
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
            tally.add("with their PostgreSQL" if number % 2 else "servers killed")
            with up(data) as server:
                ledger.send_again(server)
                ledger.download(server, list(ledger.acknowledged)[before:])
                assert staged(storage) == []
        with up(data) as server:
            ledger.download(server)
            ledger.compare(storage, database.dsn())
            check(storage, database.dsn())  # it is safe while a server runs, which has nothing to do here
    finally:
        database.stop()
