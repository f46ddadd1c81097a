"""Behind a PgBouncer that pools by transaction, with fewer connections to the database than the server has to it."""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from server.database import migrate
from server.database.embedded import Postgres
from server.services import SERVICES
from server.storage.marker import MARKER
from tests.forms import batch, post
from tests.makers import png
from tests.up_server import ENVIRONMENT, reportd, serving, wait_for

BASE = "/api/v1/reports"
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
CONNECTIONS = 3
CLIENTS = 12

pytestmark = pytest.mark.skipif(not PROGRAM, reason="pgbouncer is not installed")


@pytest.fixture(scope="module")
def bounced() -> Iterator[tuple[str, str]]:
    """Two ways to one database: direct, and through PgBouncer."""
    folder = Path(tempfile.mkdtemp(prefix="reportd-tests-"))
    folder.chmod(0o755)  # PgBouncer refuses to run as root, and runs as whoever PostgreSQL does
    with Postgres(folder, settings={"fsync": "off"}) as server:
        migrate.apply(server.dsn())
        owner = server.socket.stat()
        place = folder / "pgbouncer"
        place.mkdir()
        settings = {
            "listen_addr": "",
            "listen_port": "6432",
            "unix_socket_dir": place,
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": CONNECTIONS,
            "logfile": place / "log",
        }
        lines = "".join(f"{key} = {value}\n" for key, value in settings.items())
        databases = f"[databases]\n* = host={server.socket} port=5432 user=postgres\n"
        (place / "pgbouncer.ini").write_text(f"{databases}[pgbouncer]\n{lines}")
        other = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        if other:
            os.chown(place, owner.st_uid, owner.st_gid)
        process = subprocess.Popen([PROGRAM, "-q", str(place / "pgbouncer.ini")], env=ENVIRONMENT, **other)
        try:
            wait_for(lambda: (place / ".s.PGSQL.6432").exists(), lambda: (place / "log").read_text())
            yield server.dsn(), f"postgresql://postgres@/reportd?host={place}&port=6432"
        finally:
            process.terminate()
            process.wait()
    shutil.rmtree(folder)


@pytest.fixture
def dsn(bounced) -> str:
    """The direct way: for what the tests look at themselves."""
    return bounced[0]


@pytest.fixture
def through(bounced) -> dict[str, str]:
    """What the environment of a `reportd` is that goes through PgBouncer."""
    return {"REPORTD_DATABASE_DSN": bounced[1], "REPORTD_DATABASE_PREPARED_STATEMENTS": "false"}


async def use(client, number: int) -> None:
    """What a client does with one test case, everything with the reply that it should have."""

    async def ask(method, url, body=None, status=200):
        async with client.request(method, url, json=body) as reply:
            assert reply.status == status, (method, url, await reply.text())
            return await reply.json() if status != 204 else None

    run = await ask("POST", f"{BASE}/suite-runs", {"name": "nightly"}, 201)
    case = await ask("POST", f"{BASE}/suite-runs/{run['id']}/test-cases", {"name": f"case {number}"}, 201)
    url = f"{BASE}/test-case-results/{case['id']}"
    steps = [{"step_number": n, "step_type": "click", "action": "Click", "status": "Passed"} for n in range(4)]
    await ask("POST", f"{url}/steps", {"steps": steps}, 201)
    await ask("PUT", f"{url}/steps", {"steps": [{**step, "status": "Failed"} for step in steps]})
    form = batch([(png(seed=4 * number + n), f"{n}.png") for n in range(4)])
    twins = (post(client, f"{url}/artifacts/batch", form, Idempotency_Key=case["id"]) for _ in range(2))
    (first, sent), (second, again) = await asyncio.gather(*twins)
    assert (first, second) == (201, 201) and sent == again
    checkpoint = {"checkpoint_number": 1, "name": "a", "status": "Passed"}
    await ask("POST", f"{url}/checkpoints", {"checkpoints": [checkpoint]}, 201)
    entry = {"level": "error", "message": "x"}
    await ask("POST", f"{url}/console-logs", {"entries": [entry], "first_sequence": 1}, 201)
    listed = await ask("GET", f"{url}/steps?include_artifacts=true")
    step, shot = listed["steps"][0]["id"], listed["steps"][1]["screenshot"]["id"]
    await ask("PATCH", f"{BASE}/steps/{step}", {"screenshot_artifact_id": shot})
    await ask("PATCH", url, {"status": "Failed", "metadata": {"n": number}})
    artifacts = (await ask("GET", f"{url}/artifacts"))["items"]
    assert len(artifacts) == 4
    for artifact in artifacts[:2]:
        await ask("DELETE", f"{BASE}/artifacts/{artifact['id']}", status=204)
    assert len((await ask("GET", f"{url}/report"))["steps"]) == 4
    async with client.get(artifacts[3]["download_url"]) as reply:
        assert reply.status == 200 and (await reply.read()).startswith(b"\x89PNG")


async def test_everything_works_with_fewer_connections_than_the_server_has(start, bounced, rows):
    settings = {"dsn": bounced[1], "pool_size": CLIENTS, "prepared_statements": False}
    client = await start(database=settings)
    for _ in range(3):
        await asyncio.gather(*(use(client, number) for number in range(CLIENTS)))
    pool = client.app[SERVICES].pool
    asked = (pool.fetchval("SELECT pg_backend_pid() FROM pg_sleep(0.1)") for _ in range(CLIENTS))
    pids = await asyncio.gather(*asked)
    assert pool.open > len(set(pids)) == CONNECTIONS
    assert await pool.fetchval("SHOW timezone") == "UTC"
    seen = rows("SELECT DISTINCT application_name FROM pg_stat_activity WHERE pid = ANY(%s)", pids)
    assert seen == [{"application_name": "reportd"}]


def test_several_workers_start_and_serve(tmp_path, bounced, make_token, through):
    with psycopg.connect(bounced[0]) as connection:
        connection.execute("DELETE FROM storage_folder")  # the files of this module's other tests lie elsewhere
    with (
        serving(tmp_path / "data", bounced[1], make_token(), "--workers", "2", **through) as server,
        ThreadPoolExecutor(8) as threads,
    ):
        run = server.ask_json("POST", f"{BASE}/suite-runs", {"name": "nightly"}, status=201)["id"]
        replies = list(threads.map(lambda _: server.ask("GET", f"{BASE}/suite-runs/{run}").status, range(100)))
        assert set(replies) == {200}


def test_migrations_at_once_work_and_leave_no_lock(dsn, through):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty TEMPLATE template0")
    through["REPORTD_DATABASE_DSN"] = through["REPORTD_DATABASE_DSN"].replace("/reportd?", "/empty?")

    def migrated(*options: str) -> str:
        with ThreadPoolExecutor() as threads:
            started = [threads.submit(reportd, "migrate", *options, **through) for _ in range(CONNECTIONS + 1)]
        done = [one.result() for one in started]
        assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * len(done)
        return "".join(one.stdout for one in done)

    assert migrated().count("applied") == len(migrate.versions())
    assert migrated("--rollback", "1").count("rolled back") == CONNECTIONS + 1
    assert migrated("--finish").count("applied") == CONNECTIONS + 1
    assert {line.split()[0] for line in reportd("migrate", "--status", **through).stdout.splitlines()} == {"applied"}
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)


def test_tokens_are_made_and_listed(through):
    for number in range(CONNECTIONS + 1):
        made = reportd("token", "create", "--name", f"bounced-{number}", "--project", "shop", **through)
        assert (made.returncode, made.stderr) == (0, "")
    listed = reportd("token", "list", **through)
    assert listed.returncode == 0 and listed.stdout.count("bounced-") == CONNECTIONS + 1


def test_rows_and_files_are_compared(tmp_path, bounced, through):
    folder = tmp_path / "artifacts/2026/01/24/00000000-0000-0000-0000-000000000001"
    folder.mkdir(parents=True)
    (folder / "step_001.png").write_bytes(b"x")
    with psycopg.connect(bounced[0]) as connection:
        (own_folder,) = connection.execute("SELECT id FROM storage_folder").fetchone()
    (tmp_path / "artifacts" / MARKER).write_text(f"{own_folder}\n")
    own = {**through, "REPORTD_ARTIFACTS_STORAGE_PATH": str(tmp_path / "artifacts")}
    for number in range(3):
        done = reportd("check", "--verify-hashes", "--json", **own)
        # The database is that of the tests above: their artifacts have no files here.
        assert done.returncode in {0, 1}, done.stderr
        summary = json.loads(done.stdout.splitlines()[-1])["summary"]
        assert summary["complete"] and (summary["files"], summary["younger_than_grace"]) == (1, 1), number
