"""`reportd serve --workers N`: several worker processes act as one server."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.commands.test_serve import refuses
from tests.makers import png
from tests.up_server import CHECKOUT, ENVIRONMENT, PATIENCE, UpServer, half_an_upload, serving, wait_for

BASE = "/api/v1/reports"


@pytest.fixture
def server(tmp_path, dsn, make_token) -> Iterator[UpServer]:
    """A server with two workers that both accept requests; the log is JSON."""
    with serving(tmp_path / "data", dsn, make_token(), "--workers", "2", REPORTD_LOG_FORMAT="json") as server:
        wait_for(lambda: len(workers(server)) == 2 and len(staging_folders(server)) == 2, server.log.read_text)
        for pid in workers(server):
            with only(server, pid):  # waits for a worker that has its staging folder but does not accept yet
                assert server.ask("GET", "/nothing").status == 404
        yield server


def workers(server: UpServer) -> set[int]:
    """The process ids of its workers."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return {int(pid) for pid in children.split()}


def staging_folders(server: UpServer) -> set[str]:
    """The names of the staging folders, one per worker."""
    return {path.name for path in (server.data / "artifacts/.staging").glob("*")}


@contextmanager
def only(server: UpServer, worker: int) -> Iterator[None]:
    """Only this worker answers requests: the others are stopped (SIGSTOP), which gunicorn allows for a minute."""
    others = workers(server) - {worker}
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def counted(server: UpServer, route: str, status: int, method: str = "GET") -> float:
    text = server.ask("GET", "/metrics").body.decode()
    line = f'reportd_requests_total{{method="{method}",route="{route}",status="{status}"}}'
    found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)
    seconds = re.search(
        rf'^reportd_request_seconds_count{{method="{method}",route="{re.escape(route)}"}} (\S+)$', text, re.MULTILINE
    )
    if found and seconds:
        assert float(seconds[1]) >= float(found[1])
    return float(found[1]) if found else 0


def cores(pid: int) -> set[int]:
    """The processor cores that all threads of a process may use."""
    return set.union(*[os.sched_getaffinity(int(task.name)) for task in Path(f"/proc/{pid}/task").iterdir()])


@pytest.mark.parametrize("generation", [1, 2])
def test_each_worker_has_its_own_core_and_a_new_worker_takes_the_core_of_a_dead_one(server, generation):
    several = min(2, len(os.sched_getaffinity(0)))
    old = workers(server)
    if generation == 2:
        os.kill(server.process.pid, signal.SIGHUP)
        wait_for(lambda: len(workers(server)) == 2 and not workers(server) & old, server.log.read_text)
    first, second = workers(server)
    wait_for(lambda: len(cores(first)) == len(cores(second)) == 1, server.log.read_text)
    assert [len(cores(first)), len(cores(second)), len(cores(first) | cores(second))] == [1, 1, several]
    left = cores(second)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: len(workers(server) - {first}) == 2, server.log.read_text)
    (new,) = workers(server) - {first, second}
    wait_for(lambda: len(cores(new)) == 1, server.log.read_text)
    assert len(cores(new) | left) == several


def test_every_worker_returns_the_metrics_of_all_workers(server):
    first, second = sorted(workers(server))
    for worker, times in ((first, 2), (second, 3)):
        with only(server, worker):
            for _ in range(times):
                assert server.ask("GET", "/healthz").status == 200
    for worker in (first, second):
        with only(server, worker):
            assert counted(server, "/healthz", 200) == 5


def test_uploads_through_many_connections_are_all_saved_and_counted(server, dsn):
    run = server.ask_json("POST", f"{BASE}/suite-runs", {"name": "nightly"}, status=201)["id"]
    case = server.ask_json("POST", f"{BASE}/suite-runs/{run}/test-cases", {"name": "x"}, status=201)["id"]
    url = f"{BASE}/test-case-results/{case}/artifacts"

    def upload(number: int) -> bytes:
        picture = png(20, 20, seed=number)
        form = [("artifact_type", "screenshot"), ("step_number", str(number))]
        sent = server.send(url, ("file", "a.png", picture, "image/png"), *form)
        assert server.ask("GET", sent["download_url"]).body == picture
        return picture

    with ThreadPoolExecutor(8) as threads:
        pictures = set(threads.map(upload, range(40)))
    with psycopg.connect(dsn) as connection:
        paths = [path for (path,) in connection.execute("SELECT storage_path FROM test_artifacts")]
    assert {(server.data / "artifacts" / path).read_bytes() for path in paths} == pictures and len(paths) == 40
    assert counted(server, f"{BASE}/test-case-results/{{case_id}}/artifacts", 201, "POST") == 40
    assert counted(server, f"{BASE}/artifacts/{{artifact_id}}/download", 200) == 40
    assert server.staged() == []


def test_every_worker_returns_the_storage_metrics_once(server):
    """fsync times are summed over all workers; free space is measured by the worker that answers."""
    run = server.ask_json("POST", f"{BASE}/suite-runs", {"name": "nightly"}, status=201)["id"]
    case = server.ask_json("POST", f"{BASE}/suite-runs/{run}/test-cases", {"name": "x"}, status=201)["id"]
    both = sorted(workers(server))
    for number, worker in enumerate(both):
        with only(server, worker):
            form = [("artifact_type", "screenshot"), ("step_number", str(number))]
            picture = ("file", "a.png", png(20, 20, seed=number), "image/png")
            server.send(f"{BASE}/test-case-results/{case}/artifacts", picture, *form)

    def knows_days(worker: int) -> bool:
        with only(server, worker):  # not for long: the other one may be counting what this one waits for
            return "reportd_storage_days_until_full" in metrics(server)

    for worker in both:
        wait_for(partial(knows_days, worker), server.log.read_text)
        with only(server, worker):
            names = [line.split()[0] for line in metrics(server).splitlines() if line.startswith("reportd_storage_")]
            wanted = ["up", "free_bytes", "size_bytes", "days_until_full"]
            assert names == [f"reportd_storage_{name}" for name in wanted]
            assert 'reportd_fsync_seconds_count{what="file"} 2.0\n' in metrics(server)
            assert "reportd_storage_up 1.0\n" in metrics(server)


def metrics(server: UpServer) -> str:
    return server.ask("GET", "/metrics").body.decode()


def test_a_killed_worker_is_replaced_and_its_staged_files_are_removed(server):
    victim, other = sorted(workers(server))
    before = staging_folders(server)
    with only(server, victim), half_an_upload(server):
        (staged,) = server.staged()
        os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(workers(server) - {victim}) == 2, server.log.read_text)
    (new,) = workers(server) - {victim, other}
    wait_for(lambda: len(staging_folders(server) - before) == 1, server.log.read_text)
    with only(server, new):
        assert server.ask("GET", "/readyz").status == 200
        left = before - {staged.parent.name}
        wait_for(lambda: staging_folders(server) & before == left, server.log.read_text)
        # The metrics still include the requests of the dead worker.
        assert counted(server, f"{BASE}/suite-runs", 201, "POST") == 1
    assert server.output.read_text().count("is ready at") == 1


def test_the_server_survives_an_unavailable_storage_folder(server):
    """The living worker reports it in /readyz; a second worker starts once the folder is back."""
    storage, victim = server.data / "artifacts", min(workers(server))
    storage.rename(server.data / "away")
    storage.touch()
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: "A worker cannot start: " in server.log.read_text(), server.log.read_text)
    assert server.ask("GET", "/readyz").json()["code"] == "storage_unavailable"
    storage.unlink()
    (server.data / "away").rename(storage)
    wait_for(lambda: len(staging_folders(server)) == 2 and len(workers(server)) == 2, server.log.read_text)
    assert server.ask("GET", "/readyz").status == 200


def test_workers_end_when_their_master_is_killed(server):
    mine = workers(server)
    shared = {metrics_folder(pid) for pid in mine}
    server.process.kill()
    server.process.wait()
    wait_for(lambda: refuses(server.port))
    wait_for(lambda: all(ended(pid) for pid in mine))
    assert len(shared) == 1 and not any(folder.exists() for folder in shared)


def metrics_folder(pid: int) -> Path:
    """The folder in which a worker shares its metrics with the others."""
    (path,) = {line.split()[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "/counter_" in line}
    return Path(path).parent


def ended(pid: int) -> bool:
    """Whether a process has ended: it is gone, or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_the_log_has_the_configured_format_and_each_request_once(server):
    assert server.ask("GET", "/healthz").status == 200
    server.process.terminate()
    assert server.process.wait(PATIENCE) == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    messages = [line["message"] for line in lines]
    assert messages[0] == "2 workers, 10 database connections each, 20 in all"
    (request,) = [line for line in lines if line.get("route") == "/healthz"]
    assert (request["message"], request["status"], request["caller"]) == ("GET /healthz 200", 200, None)
    loggers = {line["logger"] for line in lines}
    assert loggers >= {"reportd", "gunicorn.error"} and not loggers & {"gunicorn.access", "aiohttp.access"}


def test_the_server_ends_when_no_worker_can_start(tmp_path, dsn):
    """The storage folder fails between the check by the master and the start of the workers."""
    code = """if True:
        import errno, os, sys
        from server.commands import main as cli
        from server.storage.folder import Storage
        master, opened = os.getpid(), Storage.open
        def open(self):
            if os.getpid() != master:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            opened(self)
        Storage.open = open
        sys.exit(cli.main(["serve", "--workers", "2", "--port", "0"]))
    """
    own = {"REPORTD_DATABASE_DSN": dsn, "REPORTD_ARTIFACTS_STORAGE_PATH": str(tmp_path / "files")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env={**ENVIRONMENT, **own},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 3 and done.stdout == ""
    assert "A worker cannot start: Cannot use the storage folder " in done.stderr
    assert ": Read-only file system. Correct [artifacts] storage_path.\n" in done.stderr
    assert "Traceback" not in done.stderr
