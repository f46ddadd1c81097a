"""`reportd up` and the commands around it, as a user runs them: real processes, real signals."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.makers import png
from tests.up_server import (
    CHECKOUT,
    ENVIRONMENT,
    PATIENCE,
    REPORTD,
    Reply,
    UpServer,
    end,
    launch,
    reportd,
    running,
    up_server,
    wait_for,
)

__all__ = ["up_server"]  # a fixture

BASE = "/api/v1/reports"
NOBODY = 65534
PICTURE = png(50, 50)


@pytest.fixture(scope="module")
def used(tmp_path_factory) -> tuple[Path, Callable[[UpServer], None]]:
    """A folder of a stopped `reportd up`, and a function that fails unless a server still has all its data."""
    data = tmp_path_factory.mktemp("used") / "data"
    with running(data) as server:
        run = server.ask_json("POST", f"{BASE}/suite-runs", {"name": "kept"}, status=201)["id"]
        case = server.ask_json("POST", f"{BASE}/suite-runs/{run}/test-cases", {"name": "kept"}, status=201)["id"]
        url = f"{BASE}/test-case-results/{case}/artifacts"
        sent = server.send(url, ("file", "a.png", PICTURE, "image/png"), ("artifact_type", "screenshot"))

    def check(again: UpServer) -> None:
        assert again.token == server.token
        assert again.ask_json("GET", f"{BASE}/suite-runs/{run}")["name"] == "kept"
        assert again.ask("GET", sent["download_url"]).body == PICTURE

    return data, check


def printed(server: UpServer) -> str:
    """What the server prints when it is ready."""
    return wait_for(lambda: "Ctrl-C stops it." in (text := server.output.read_text()) and text)


def postgres_processes(data: Path) -> list[int]:
    """The ids of all living PostgreSQL processes on a folder, including child processes."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command, place = process.joinpath("cmdline").read_bytes(), process.joinpath("cwd").readlink()
            except OSError:
                continue  # ended in the meantime
            # Child processes change their title, but keep the working directory of the server.
            if command and (place == data / "postgres/data" or os.fsencode(data / "postgres/data") in command):
                found.append(int(process.name))
    return found


def assert_stopped(server: UpServer) -> None:
    assert not (server.data / "server.json").exists()
    assert not server.postgres.running()
    assert postgres_processes(server.data) == []


def pid_of_postgres(server: UpServer) -> int:
    return int((server.data / "postgres/data/postmaster.pid").read_text().split()[0])


def ready(server: UpServer) -> Reply:
    return server.ask("GET", "/readyz")


# --- the first start ----------------------------------------------------------------------------------------


def test_the_first_start_prints_the_next_steps(up_server):
    output = printed(up_server)
    assert f"reportd is ready at {up_server.url} " in output
    token = up_server.data / "admin-token"
    assert f"The admin token is in {token}." in output
    assert token.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"rpt_[0-9A-Za-z]{49}\n", token.read_text())
    assert up_server.token not in output + up_server.log.read_text()
    announced = json.loads((up_server.data / "server.json").read_text())
    assert announced == {"url": up_server.url, "pid": up_server.process.pid}
    assert ready(up_server).status == 200


def test_the_first_start_makes_a_person_who_can_sign_in(up_server):
    output = printed(up_server)
    stored = up_server.data / "admin-password"
    assert stored.stat().st_mode & 0o777 == 0o600
    password = stored.read_text().strip()
    assert len(password) == 16 and f"  name      admin\n  password  {password}\n" in output
    assert password not in up_server.log.read_text()
    body = json.dumps({"name": "admin", "password": password}).encode()
    login = up_server.ask("POST", "/api/v1/auth/login", body, Content_Type="application/json", Authorization="")
    assert login.status == 201 and login.json()["name"] == "admin"
    (made,) = up_server.rows("SELECT detail->'roles' FROM audit_entries WHERE action = 'user.created'")
    assert made == (["admin"],)


def test_the_printed_curl_command_works(up_server):
    output = printed(up_server)
    (line,) = re.findall(r"^\s*curl .*$", output, re.MULTILINE)
    if shutil.which("curl"):
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        answer = json.loads(done.stdout)
    else:  # bash still splits the command into words
        script = "curl() { printf '%s\\n' \"$@\"; }\n" + line
        words = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60).stdout.splitlines()
        name, value = words[words.index("-H") + 1].split(": ")
        with urllib.request.urlopen(urllib.request.Request(words[-1], headers={name: value}), timeout=60) as reply:
            answer = json.load(reply)
    assert set(answer) == {"items", "next_cursor"}


# --- settings that cannot work -------------------------------------------------------------------------------


WRONG_STORAGE = {
    "below a file": ("file/x", "Not a directory"),
    "a file": ("file", "Not a directory"),
    "a symlink to nothing": ("dangling", "File exists"),
    "symlinks that point to each other": ("loop", "File exists"),
    "a long name": ("x" * 256, "File name too long"),
    "not writable": ("/proc/files", "No such file or directory"),
}


@pytest.fixture
def odd_paths(tmp_path):
    """A folder with a file and broken symlinks."""
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nothing/at/all")
    (tmp_path / "loop").symlink_to("loop")
    return tmp_path


@pytest.mark.parametrize("case", WRONG_STORAGE)
def test_a_wrong_storage_path_is_refused_before_postgres_is_made(odd_paths, case):
    name, reason = WRONG_STORAGE[case]
    data, path = odd_paths / "data", odd_paths / name
    done = reportd("up", "--data", str(data), "--port", "0", REPORTD_ARTIFACTS_STORAGE_PATH=str(path))
    assert (done.returncode, done.stdout) == (1, "")
    expected = f"reportd: Cannot use the storage folder {path}: {reason}. Correct [artifacts] storage_path.\n"
    assert done.stderr == expected
    assert [path.name for path in data.iterdir()] == ["lock"]


WRONG_DATA = {
    "below a file": ("file/x", "Not a directory"),
    "a file": ("file", "File exists"),
    "symlinks that point to each other": ("loop", ""),
    "a long name": ("x" * 256, "File name too long"),
    "not writable": ("/proc/sys", ""),
}


@pytest.mark.parametrize("case", WRONG_DATA)
def test_a_wrong_data_folder_is_refused_with_one_sentence(odd_paths, case):
    name, reason = WRONG_DATA[case]
    done = reportd("up", "--data", str(odd_paths / name), "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"reportd: Cannot use the folder {odd_paths / name}: {reason}")
    assert done.stderr.endswith(". Choose another one with --data.\n") and done.stderr.count("\n") == 1


def test_a_port_in_use_is_refused_before_postgres_is_made(tmp_path):
    data = tmp_path / "data"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = reportd("up", "--data", str(data), "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    where = f"Cannot listen on 127.0.0.1, port {port}: Address already in use."
    assert done.stderr == f"reportd: {where} Choose another port with --port or [server] port.\n"
    assert [path.name for path in data.iterdir()] == ["lock"]


# --- stop and start -----------------------------------------------------------------------------------------


STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_stops_both_and_the_next_start_has_all_data(used, number):
    data, check = used
    with running(data) as server:
        check(server)
        assert postgres_processes(data)
        assert (data / "admin-password").read_text().strip() not in printed(server)  # it is shown once
        assert f"sign in as admin. The password is in {data / 'admin-password'}." in printed(server)
        if number != signal.SIGTERM:
            os.killpg(server.process.pid, number)  # as a terminal does: to the whole process group
        assert end(server.process, number) == 0
        assert_stopped(server)
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_during_the_first_start_leaves_nothing_running(tmp_path, number):
    data = tmp_path / "data"
    process, _, log = launch(data)
    try:
        wait_for(lambda: list(data.glob("postgres/data.*.new/base")), log.read_text)
        assert end(process, number) == (130 if number == signal.SIGINT else 0)
    finally:
        end(process)
    wait_for(lambda: not postgres_processes(data))
    assert list(data.glob("postgres/data*")) == []
    assert "Traceback" not in log.read_text()


def test_a_killed_postgres_is_restarted(used):
    data, check = used
    with running(data) as server:
        killed = pid_of_postgres(server)
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: server.postgres.running() and pid_of_postgres(server) != killed, server.log.read_text)
        wait_for(lambda: ready(server).status == 200, lambda: str(ready(server)))
        check(server)
        # The server is pinned to one processor core. PostgreSQL is not, even when the pinned server restarts it.
        assert len(os.sched_getaffinity(server.process.pid)) == 1
        assert os.sched_getaffinity(pid_of_postgres(server)) == os.sched_getaffinity(0)
        assert "PostgreSQL has ended; restarting it" in server.log.read_text()
        assert end(server.process) == 0
        assert_stopped(server)


def test_a_killed_server_does_not_prevent_the_next_start(used):
    data, check = used
    with running(data) as first:
        first.process.kill()
        first.process.wait()
        assert (data / "server.json").exists()
        postgres = pid_of_postgres(first)
        assert first.postgres.running()
        with running(data) as second:
            assert json.loads((data / "server.json").read_text())["pid"] == second.process.pid
            assert pid_of_postgres(second) == postgres
            check(second)
            assert end(second.process) == 0
            assert_stopped(second)


def test_both_killed_at_once_start_again(used):
    data, check = used
    with running(data) as first:
        os.kill(pid_of_postgres(first), signal.SIGKILL)
        first.process.kill()
        first.process.wait()
        with running(data) as second:
            check(second)
            assert end(second.process) == 0
            assert_stopped(second)


# --- errors ---------------------------------------------------------------------------------------


def test_a_folder_in_use_is_refused_with_process_and_url(up_server):
    done = reportd("up", "--data", str(up_server.data), "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    reason = f"{up_server.data} is in use by process {up_server.process.pid} at {up_server.url}."
    assert done.stderr == f"reportd: {reason} Stop that process, or choose another folder with --data.\n"
    assert (up_server.data / "server.json").exists()
    assert ready(up_server).status == 200


def test_a_port_in_use_is_reported_and_nothing_keeps_running(used):
    data, _ = used
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = reportd("up", "--data", str(data), "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("reportd: ") and str(port) in last and "already in use" in last
    assert "Traceback" not in done.stderr
    assert not (data / "server.json").exists()
    assert postgres_processes(data) == []


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[server]\nprot = 1\n", "`prot`. Known keys: host, port, workers, one_core_each, max_uploads"),
        ("[sever]\nport = 1\n", "[sever] is unknown. Known sections: server, database"),
        ('[server]\nport = "x"\n', "server.port: "),
        ('[artifacts]\ndurability = "some"\n', "artifacts.durability: "),
        ("[server\n", "is not valid TOML"),
    ],
    ids=str,
)
def test_a_wrong_key_is_named_before_any_file_is_made(tmp_path, toml, message):
    (tmp_path / "config.toml").write_text(toml)
    done = reportd("up", "--data", str(tmp_path / "data"), "--config", str(tmp_path / "config.toml"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("reportd: ") and message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "data").exists()


# --- another user -------------------------------------------------------------------------------------------


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter. tmp_path is not one: pytest makes its parents private."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def becoming_nobody() -> list[str]:
    """A command prefix that runs as nobody, with CAP_DAC_READ_SEARCH if that user cannot enter this Python's folder."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if not shutil.which("setpriv"):
        pytest.skip("there is no setpriv")
    prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    capability = [f"--{set_}-caps=-all,+dac_read_search" for set_ in ("inh", "ambient")]
    for command in (prefix, [*prefix, *capability]):
        tried = subprocess.run([*command, *REPORTD, "--version"], cwd=CHECKOUT, capture_output=True, timeout=60)
        if tried.returncode == 0:
            return command
    pytest.skip("other users cannot enter the folder of this Python")


def test_an_ordinary_user_can_run_it_back_it_up_and_owns_all_files(open_folder):
    prefix = becoming_nobody()
    os.chown(open_folder, NOBODY, NOBODY)
    with running(open_folder / "data", prefix=prefix) as server:
        assert Path(f"/proc/{server.process.pid}").stat().st_uid == NOBODY
        assert Path(f"/proc/{pid_of_postgres(server)}").stat().st_uid == NOBODY
        run = server.ask_json("POST", f"{BASE}/suite-runs", {"name": "nightly"}, status=201)["id"]
        case = server.ask_json("POST", f"{BASE}/suite-runs/{run}/test-cases", {"name": "x"}, status=201)["id"]
        url = f"{BASE}/test-case-results/{case}/artifacts"
        sent = server.send(url, ("file", "a.png", PICTURE, "image/png"), ("artifact_type", "screenshot"))
        as_nobody(prefix, "backup", str(open_folder / "kept"), "--data", str(open_folder / "data"))
        assert end(server.process) == 0
        assert_stopped(server)
    done = as_nobody(prefix, "restore", str(open_folder / "kept"), "--data", str(open_folder / "new"))
    assert "Everything that the backup has is there." in done
    assert (open_folder / "new" / sent["storage_path"]).read_bytes() == PICTURE
    assert not (open_folder / "new/admin-token").exists() and postgres_processes(open_folder / "new") == []
    assert {path.lstat().st_uid for name in ("data", "kept", "new") for path in (open_folder / name).rglob("*")} == {
        NOBODY
    }
    assert {path.stat().st_mode & 0o777 for path in open_folder.glob("kept/2*/*")} == {0o600}
    assert (open_folder / "data/admin-token").stat().st_mode & 0o777 == 0o600


def as_nobody(prefix: list[str], *arguments: str) -> str:
    """Runs a command and returns its output."""
    line = [*prefix, *REPORTD, *arguments]
    done = subprocess.run(line, cwd=CHECKOUT, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the other commands -------------------------------------------------------------------------------------


def test_tokens_are_created_listed_and_revoked_while_it_runs(up_server):
    folder = ["--data", str(up_server.data)]
    made = reportd("token", "create", *folder, "--name", "of ci", "--project", "shop", "--expires", "90d")
    assert (made.returncode, made.stderr) == (0, "")
    token = made.stdout.strip()
    mine = {"Authorization": f"Bearer {token}"}
    assert up_server.ask("GET", f"{BASE}/suite-runs", **mine).status == 200

    twice = reportd("token", "create", *folder, "--name", "of ci")
    assert (twice.returncode, twice.stdout) == (1, "")
    assert twice.stderr == "reportd: A token named of ci exists already. Revoke it, or choose another name.\n"

    def line() -> str:
        listed = reportd("token", "list", *folder)
        assert (listed.returncode, listed.stderr) == (0, "")
        assert token not in listed.stdout
        (found,) = [line for line in listed.stdout.splitlines() if "of ci" in line]
        return found

    assert "  shop          uploader  " in line() and line().endswith("valid")
    revoked = reportd("token", "revoke", *folder, "of ci")
    assert revoked.returncode == 0 and revoked.stdout.startswith("revoked of ci (")
    assert line().endswith("revoked")
    wait_for(lambda: up_server.ask("GET", f"{BASE}/suite-runs", **mine).status == 401)
    again = reportd("token", "revoke", *folder, "of ci")
    assert (again.returncode, again.stderr) == (
        1,
        "reportd: No valid token has the id or name of ci. See `reportd token list`.\n",
    )


def test_rotating_the_first_token_updates_its_file(up_server):
    folder, path = ["--data", str(up_server.data)], up_server.data / "admin-token"
    former = path.read_text().strip()
    done = reportd("token", "rotate", *folder, "admin", "--overlap", "1h")
    assert done.returncode == 0, done.stderr
    assert path.read_text() == done.stdout and path.stat().st_mode & 0o777 == 0o600
    for token in (former, done.stdout.strip()):
        assert up_server.ask("GET", f"{BASE}/suite-runs", Authorization=f"Bearer {token}").status == 200
    reportd("token", "create", *folder, "--name", "another")
    assert reportd("token", "rotate", *folder, "another").returncode == 0
    assert path.read_text() == done.stdout


def test_tokens_are_listed_while_it_is_stopped(used):
    data, _ = used
    listed = reportd("token", "list", "--data", str(data))
    assert listed.returncode == 0 and " admin " in listed.stdout
    assert postgres_processes(data) == []


def test_migrate_lists_applied_migrations(up_server):
    done = reportd("migrate", "--status", "--data", str(up_server.data))
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {state for state, _ in lines} == {"applied"}
    files = CHECKOUT.joinpath("migrations").glob("*.sql")
    assert [name for _, name in lines] == sorted(f.stem for f in files if not f.stem.endswith(".rollback"))
    assert reportd("migrate", "--data", str(up_server.data)).stdout == "nothing to apply\n"


def test_a_folder_without_a_database_is_refused_and_not_changed(tmp_path):
    for command in (["migrate"], ["token", "list"], ["token", "create", "--name", "x"]):
        done = reportd(*command, "--data", str(tmp_path))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"reportd: {tmp_path} holds no database of `reportd up`. Correct --data.\n"
    assert list(tmp_path.iterdir()) == []


def test_config_hides_passwords():
    done = reportd("config", REPORTD_DATABASE_DSN="postgresql://me:geheim@db/reportd?password=geheim&sslmode=require")
    assert (done.returncode, done.stderr) == (0, "")
    assert "geheim" not in done.stdout
    assert 'dsn = "postgresql://me:***@db/reportd?password=***&sslmode=require"' in done.stdout


def test_openapi_prints_json(up_server):
    done = reportd("openapi")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["openapi"].startswith("3.1")
    assert f"{BASE}/suite-runs" in document["paths"]
    assert document == up_server.ask_json("GET", "/api/v1/openapi.json")
