"""`kill -9` at random moments while clients upload: no acknowledged artifact is lost and none is saved twice."""

import json
import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import psycopg

from server.commands.up import postgres
from tests.chaos.clients import Ledger, check, files, make_cases, stored
from tests.forms import CONTENT_TYPE, a_body, a_field, a_file
from tests.makers import png
from tests.up_server import UpServer, end, serving, staged, start_up, wait_for


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


def a_bundle(number: int) -> list[dict[str, Any]]:
    """Two tests, each with 10 steps and a screenshot of its own."""
    steps = [{"step_number": n, "status": "Passed"} for n in range(10)]
    return [
        {
            "client_ref": str(uuid.uuid4()),
            "test": {"name": f"{number}.{n}"},
            "steps": steps,
            "artifacts": [{"file_index": n, "artifact_type": "screenshot", "step_number": 3}],
        }
        for n in range(2)
    ]


def send_bundle(server: UpServer, run: str, number: int, tests: list[dict[str, Any]]) -> Any:
    """The reply; None when the connection broke."""
    files = [a_file(png(64, 64, 2 * number + n), f"{n}.png", name="files") for n in range(2)]
    body = a_body(a_field("bundle", json.dumps({"tests": tests})), *files)
    try:
        reply = server.ask("POST", f"/api/v1/reports/suite-runs/{run}/bundle", body, Content_Type=CONTENT_TYPE)
    except (URLError, ConnectionError, OSError):
        return None
    assert reply.status in (201, 503), reply.body
    return reply.json() if reply.status == 201 else None


def parts_of_results(dsn: str) -> dict[str, tuple[int, int]]:
    """How many steps and artifacts each result has, by its client_ref."""
    query = """
        SELECT client_ref::text,
               (SELECT count(*) FROM test_step_results WHERE test_case_result_id = c.id),
               (SELECT count(*) FROM test_artifacts WHERE test_case_result_id = c.id AND step_result_id IS NOT NULL)
        FROM test_case_results c WHERE client_ref IS NOT NULL
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        return {ref: (steps, artifacts) for ref, steps, artifacts in connection.execute(query).fetchall()}


def test_a_bundle_is_stored_whole_or_not_at_all_when_the_server_is_killed(tmp_path, dsn, make_token, effort, tally):
    data, token, run = tmp_path / "data", make_token(), ""
    sent: dict[int, list[dict[str, Any]]] = {}
    acknowledged: dict[int, Any] = {}

    def send_until(server: UpServer, stop: threading.Event, numbers: range) -> None:
        for number in numbers:
            if stop.is_set():
                return
            sent[number] = a_bundle(number)
            if (reply := send_bundle(server, run, number, sent[number])) is not None:
                acknowledged[number] = reply

    for kill in range(effort.times(3, 60)):
        with serving(data, dsn, token) as server:
            run = run or server.ask_json("POST", "/api/v1/reports/suite-runs", {"name": "x"}, status=201)["id"]
            stop = threading.Event()
            ranges = [range(1000 * (3 * kill + n), 1000 * (3 * kill + n + 1)) for n in range(3)]
            senders = [threading.Thread(target=send_until, args=(server, stop, numbers)) for numbers in ranges]
            for sender in senders:
                sender.start()
            time.sleep(effort.random.uniform(0.2, 0.8))
            kill_all(server)
            stop.set()
            for sender in senders:
                sender.join(60)
        found = parts_of_results(dsn)
        assert set(found.values()) <= {(10, 1)}
        for number, tests in sent.items():
            there = {each["client_ref"] in found for each in tests}
            assert len(there) == 1 and (number not in acknowledged or there == {True})
            tally.add("stored" if there == {True} else "not stored")
    with serving(data, dsn, token) as server:
        for number, tests in sent.items():
            again = send_bundle(server, run, number, tests)
            if number in acknowledged:
                ids = [(each["id"], each["step_ids"], each["artifacts"][0]["id"]) for each in again["tests"]]
                first = acknowledged[number]["tests"]
                assert ids == [(each["id"], each["step_ids"], each["artifacts"][0]["id"]) for each in first]
                assert not any(each["created"] for each in again["tests"])
    assert parts_of_results(dsn) == {each["client_ref"]: (10, 1) for tests in sent.values() for each in tests}
    assert acknowledged
    check(data / "artifacts", dsn)
