"""The server behind a PgBouncer in transaction mode that has fewer connections to PostgreSQL than the server's pool."""

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
CONNECTIONS = 3  # from PgBouncer to PostgreSQL
CLIENTS = 12  # concurrent clients, and connections from the server to PgBouncer

pytestmark = pytest.mark.skipif(not PROGRAM, reason="pgbouncer is not installed")


@pytest.fixture(scope="module")
def dsns() -> Iterator[tuple[str, str]]:
    """Two DSNs of one database: direct, and through PgBouncer."""
    folder = Path(tempfile.mkdtemp(prefix="reportd-tests-"))
    folder.chmod(0o755)  # PgBouncer refuses to run as root, and runs as the same user as PostgreSQL
    with Postgres(folder, settings={"fsync": "off"}) as server:
        migrate.apply(server.dsn())
        owner = server.socket.stat()
        bouncer_folder = folder / "pgbouncer"
        bouncer_folder.mkdir()
        settings = {
            "listen_addr": "",
            "listen_port": "6432",
            "unix_socket_dir": bouncer_folder,
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": CONNECTIONS,
            "logfile": bouncer_folder / "log",
        }
        lines = "".join(f"{key} = {value}\n" for key, value in settings.items())
        databases = f"[databases]\n* = host={server.socket} port=5432 user=postgres\n"
        (bouncer_folder / "pgbouncer.ini").write_text(f"{databases}[pgbouncer]\n{lines}")
        account = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        if account:
            os.chown(bouncer_folder, owner.st_uid, owner.st_gid)
        process = subprocess.Popen([PROGRAM, "-q", str(bouncer_folder / "pgbouncer.ini")], env=ENVIRONMENT, **account)
        try:
            socket = bouncer_folder / ".s.PGSQL.6432"
            wait_for(socket.exists, (bouncer_folder / "log").read_text)
            yield server.dsn(), f"postgresql://postgres@/reportd?host={bouncer_folder}&port=6432"
        finally:
            process.terminate()
            process.wait()
    shutil.rmtree(folder)


@pytest.fixture
def dsn(dsns) -> str:
    """The direct DSN, for the queries of the tests themselves."""
    return dsns[0]


@pytest.fixture
def environment(dsns) -> dict[str, str]:
    """The environment of a `reportd` that connects through PgBouncer."""
    return {"REPORTD_DATABASE_DSN": dsns[1], "REPORTD_DATABASE_PREPARED_STATEMENTS": "false"}


async def exercise_api(client, number: int) -> None:
    """Sends one request of each kind for a new test case, and asserts its reply."""

    async def send(method, url, body=None, status=200):
        async with client.request(method, url, json=body) as reply:
            assert reply.status == status, (method, url, await reply.text())
            return await reply.json() if status != 204 else None

    run = await send("POST", f"{BASE}/suite-runs", {"name": "nightly"}, 201)
    case = await send("POST", f"{BASE}/suite-runs/{run['id']}/test-cases", {"name": f"case {number}"}, 201)
    url = f"{BASE}/test-case-results/{case['id']}"
    steps = [{"step_number": n, "step_type": "click", "action": "Click", "status": "Passed"} for n in range(4)]
    await send("POST", f"{url}/steps", {"steps": steps}, 201)
    await send("PUT", f"{url}/steps", {"steps": [{**step, "status": "Failed"} for step in steps]})
    form = batch([(png(seed=4 * number + n), f"{n}.png") for n in range(4)])
    posts = (post(client, f"{url}/artifacts/batch", form, Idempotency_Key=case["id"]) for _ in range(2))
    (first, sent), (second, again) = await asyncio.gather(*posts)
    assert (first, second) == (201, 201) and sent == again
    checkpoint = {"checkpoint_number": 1, "name": "a", "status": "Passed"}
    await send("POST", f"{url}/checkpoints", {"checkpoints": [checkpoint]}, 201)
    entry = {"level": "error", "message": "x"}
    await send("POST", f"{url}/console-logs", {"entries": [entry], "first_sequence": 1}, 201)
    listed = await send("GET", f"{url}/steps?include_artifacts=true")
    step, shot = listed["steps"][0]["id"], listed["steps"][1]["screenshot"]["id"]
    await send("PATCH", f"{BASE}/steps/{step}", {"screenshot_artifact_id": shot})
    await send("PATCH", url, {"status": "Failed", "metadata": {"n": number}})
    artifacts = (await send("GET", f"{url}/artifacts"))["items"]
    assert len(artifacts) == 4
    for artifact in artifacts[:2]:
        await send("DELETE", f"{BASE}/artifacts/{artifact['id']}", status=204)
    assert len((await send("GET", f"{url}/report"))["steps"]) == 4
    async with client.get(artifacts[3]["download_url"]) as reply:
        assert reply.status == 200 and (await reply.read()).startswith(b"\x89PNG")


async def test_every_endpoint_works_with_fewer_connections_than_the_pool_has(start, dsns, rows):
    settings = {"dsn": dsns[1], "pool_size": CLIENTS, "prepared_statements": False}
    client = await start(database=settings)
    for _ in range(3):
        await asyncio.gather(*(exercise_api(client, number) for number in range(CLIENTS)))
    pool = client.app[SERVICES].pool
    queries = (pool.fetchval("SELECT pg_backend_pid() FROM pg_sleep(0.1)") for _ in range(CLIENTS))
    pids = await asyncio.gather(*queries)
    assert pool.open > len(set(pids)) == CONNECTIONS
    assert await pool.fetchval("SHOW timezone") == "UTC"
    names = rows("SELECT DISTINCT application_name FROM pg_stat_activity WHERE pid = ANY(%s)", pids)
    assert names == [{"application_name": "reportd"}]


def test_several_workers_start_and_serve(tmp_path, dsns, make_token, environment):
    with psycopg.connect(dsns[0]) as connection:
        connection.execute("DELETE FROM storage_folder")  # the other tests of this module use another storage folder
    with (
        serving(tmp_path / "data", dsns[1], make_token(), "--workers", "2", **environment) as server,
        ThreadPoolExecutor(8) as threads,
    ):
        run = server.ask_json("POST", f"{BASE}/suite-runs", {"name": "nightly"}, status=201)["id"]
        replies = list(threads.map(lambda _: server.ask("GET", f"{BASE}/suite-runs/{run}").status, range(100)))
        assert set(replies) == {200}


def test_concurrent_migrations_work_and_leave_no_lock(dsn, environment):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE DATABASE empty TEMPLATE template0")
    environment["REPORTD_DATABASE_DSN"] = environment["REPORTD_DATABASE_DSN"].replace("/reportd?", "/empty?")

    def migrated(*options: str) -> str:
        with ThreadPoolExecutor() as threads:
            count = CONNECTIONS + 1
            futures = [threads.submit(reportd, "migrate", *options, **environment) for _ in range(count)]
        done = [future.result() for future in futures]
        assert [(each.returncode, each.stderr) for each in done] == [(0, "")] * len(done)
        return "".join(each.stdout for each in done)

    assert migrated().count("applied") == len(migrate.versions())
    assert migrated("--rollback", "1").count("rolled back") == CONNECTIONS + 1
    assert migrated("--finish").count("applied") == CONNECTIONS + 1
    status = reportd("migrate", "--status", **environment).stdout
    assert {line.split()[0] for line in status.splitlines()} == {"applied"}
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)


def test_tokens_can_be_created_and_listed(environment):
    for number in range(CONNECTIONS + 1):
        made = reportd("token", "create", "--name", f"bounced-{number}", "--project", "shop", **environment)
        assert (made.returncode, made.stderr) == (0, "")
    listed = reportd("token", "list", **environment)
    assert listed.returncode == 0 and listed.stdout.count("bounced-") == CONNECTIONS + 1


def test_reportd_check_works(tmp_path, dsns, environment):
    folder = tmp_path / "artifacts/2026/01/24/00000000-0000-0000-0000-000000000001"
    folder.mkdir(parents=True)
    (folder / "step_001.png").write_bytes(b"x")
    with psycopg.connect(dsns[0]) as connection:
        # As the first start of a server does; an earlier test may have started one.
        connection.execute("INSERT INTO storage_folder (id) VALUES (gen_random_uuid()) ON CONFLICT DO NOTHING")
        (own_folder,) = connection.execute("SELECT id FROM storage_folder").fetchone()
    (tmp_path / "artifacts" / MARKER).write_text(f"{own_folder}\n")
    own = {**environment, "REPORTD_ARTIFACTS_STORAGE_PATH": str(tmp_path / "artifacts")}
    for number in range(3):
        done = reportd("check", "--verify-hashes", "--json", **own)
        # Exit code 1 is possible: the artifacts of the tests above have rows in this database but no files here.
        assert done.returncode in {0, 1}, done.stderr
        summary = json.loads(done.stdout.splitlines()[-1])["summary"]
        assert summary["complete"] and (summary["files"], summary["younger_than_grace"]) == (1, 1), number


def test_a_backup_through_it_is_refused(environment, dsns, tmp_path):
    """pg_dump would leave its settings in a session that PgBouncer hands to the next client."""
    storage = {"REPORTD_ARTIFACTS_STORAGE_PATH": str(tmp_path / "artifacts")}
    done = reportd("backup", str(tmp_path / "kept"), **environment, **storage)
    assert done.returncode == 1 and not (tmp_path / "kept").exists()
    assert "is a connection pooler. Name the PostgreSQL server itself for this command" in done.stderr
