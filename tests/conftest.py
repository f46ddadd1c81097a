"""Fixtures: one real PostgreSQL for the whole run, and a separate database and storage folder for each test."""

import io
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from aiohttp import DummyCookieJar
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, settings
from psycopg.pq import ExecStatus

from server.app import create_app
from server.auth.tokens import hash_of, new_token
from server.commands.main import main
from server.config import ArtifactsConfig, Config, DatabaseConfig
from server.database import migrate
from server.database.embedded import Postgres
from server.http.protocol import Runner
from server.ids import new_id
from server.storage.marker import MARKER
from server.thumbs import thumbnails
from tests.people import password_hash

_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "100"}
_numbers = itertools.count()

# Hypothesis fails an example that takes more than 200 ms, and a test whose examples are made slowly: on a busy machine,
# any of them.
settings.register_profile("any_speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_speed")

# A shell starts background processes with SIGINT ignored, and `nohup` ignores SIGHUP; child processes inherit that.
# Without this, the tests that stop a process with one of them would time out in such a run.
for number, action in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, action)


@pytest.fixture(autouse=True)
def thumbnails_are_not_late() -> Iterator[None]:
    """However slowly their process starts. A test of late ones says when they are.

    Not by the fixture monkeypatch: it would be set up before all others, and what a test patches by it would outlast
    their teardown.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thumbnails, "_WAIT_SECONDS", 60.0)
        yield


@pytest.fixture(scope="session")
def postgres(tmp_path_factory) -> Iterator[Postgres]:
    """A private PostgreSQL with a migrated template database; one per worker of a parallel run."""
    memory = Path("/dev/shm")  # creating a database per test takes a third of the time there
    folder = Path(tempfile.mkdtemp(prefix="reportd-tests-", dir=memory)) if os.access(memory, os.W_OK) else None
    programs = os.environ.get("TEST_POSTGRES", "")  # a folder; by default those of the wheel
    with Postgres(folder or tmp_path_factory.mktemp("postgres"), programs, settings=_FAST) as server:
        with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE template_reportd TEMPLATE template0")
        migrate.apply(server.dsn("template_reportd"))
        yield server
    if folder is not None:
        shutil.rmtree(folder)


@pytest.fixture
def dsn(postgres) -> Iterator[str]:
    """The DSN of this test's own database, migrated."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template_reportd")
    yield postgres.dsn(name)
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def rows(dsn) -> Callable[..., list[dict[str, Any]]]:
    """rows("SELECT …", parameters…): runs a statement and returns its rows as dicts. Placeholders are psycopg's %s.

    It blocks the event loop. A server of this test that has locked something then never goes on, so a statement that
    locks whole tables needs only_requests.
    """

    def query(sql: str, *parameters: Any) -> list[dict[str, Any]]:
        limit = "-c lock_timeout=60s"  # a test that waits for itself fails
        with psycopg.connect(dsn, autocommit=True, row_factory=psycopg.rows.dict_row, options=limit) as connection:
            cursor = connection.execute(sql, parameters)
            return cursor.fetchall() if cursor.pgresult.status == ExecStatus.TUPLES_OK else []

    return query


@pytest.fixture
def config(dsn, tmp_path) -> Config:
    """The configuration of this test's server. Files are not synced: only the durability tests need that."""
    return Config(
        database=DatabaseConfig(dsn=dsn, pool_size=8),
        artifacts=ArtifactsConfig(storage_path=str(tmp_path / "artifacts"), durability="none"),
    )


@pytest.fixture
def storage(config) -> Path:
    """The storage folder."""
    return Path(config.artifacts.storage_path)


@pytest.fixture
def stored_files(storage) -> Callable[[], list[str]]:
    """stored_files(): all files in the storage folder, except the content cache, the thumbnails and the marker file."""

    def listed() -> list[str]:
        files = (str(path.relative_to(storage)) for path in storage.rglob("*") if path.is_file())
        return sorted(name for name in files if not name.startswith((".content/", ".thumbs/")) and name != MARKER)

    return listed


@pytest.fixture
def make_token(rows) -> Callable[..., str]:
    """make_token(project="default" or None for all, role=…, shape=…, expires_at=…): a new token."""

    def make(
        name: str = "",
        project: str | None = None,
        shape: str | None = None,
        expires_at: Any = None,
        role: str = "admin",
    ) -> str:
        token, project_id = new_token(), None
        if project is not None:
            rows("INSERT INTO projects (name) VALUES (%s) ON CONFLICT DO NOTHING", project)
            project_id = rows("SELECT id FROM projects WHERE name = %s", project)[0]["id"]
        rows(
            "INSERT INTO tokens (id, name, token_hash, role, project_id, collection_shape, expires_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            new_id(0),
            name or f"token-{next(_numbers)}",
            hash_of(token),
            role,
            project_id,
            shape,
            expires_at,
        )
        return token

    return make


@pytest.fixture
def make_user(rows) -> Callable[..., str]:
    """make_user(default="viewer", everywhere="admin", …): the name of a new user with these roles, by project."""

    def make(everywhere: str | None = None, **roles: str) -> str:
        name, user_id = f"person-{next(_numbers)}", new_id(0)
        columns = user_id, name, password_hash()
        rows("INSERT INTO users (id, name, password_hash) VALUES (%s, %s, %s)", *columns)
        add = "INSERT INTO user_roles (user_id, project_id, role) VALUES (%s, %s, %s)"
        if everywhere is not None:
            rows(add, user_id, None, everywhere)
        for project, role in roles.items():
            rows("INSERT INTO projects (name) VALUES (%s) ON CONFLICT DO NOTHING", project)
            rows(add, user_id, rows("SELECT id FROM projects WHERE name = %s", project)[0]["id"], role)
        return name

    return make


class Served(TestServer):
    """A test server that runs the app as serve.run does.

    aiohttp's TestServer would use aiohttp's own connections, and would cancel a handler when its client disconnects.
    """

    async def _make_runner(self, **kwargs: Any) -> Runner:
        return Runner(self.app, **{**kwargs, "handler_cancellation": False})


class Client(TestClient):
    """aiohttp's test client for a Served server."""

    def __init__(self, server: TestServer, **kwargs: Any) -> None:
        super().__init__(server if isinstance(server, Served) else Served(server.app), **kwargs)


@pytest.fixture
def aiohttp_client_cls() -> type[Client]:
    return Client


@pytest.fixture
async def start(aiohttp_client, config, make_token):
    """start(section={"key": value}, token=…): a client of a new server with this configuration.

    The client sends `token`, by default an admin token for all projects.
    """

    async def started(token: str | None = None, **sections: dict[str, Any]):
        changed = {name: msgspec.structs.replace(getattr(config, name), **keys) for name, keys in sections.items()}
        app = create_app(msgspec.structs.replace(config, **changed))
        bearer = f"Bearer {token or make_token()}"
        return await aiohttp_client(app, headers={"Authorization": bearer})

    return started


@pytest.fixture
async def client(start):
    """A client of a running server with the default configuration; it sends an admin token for all projects."""
    return await start()


@pytest.fixture
async def nobody(aiohttp_client, client):
    """A client of the same server that sends no token and stores no cookies."""
    return await aiohttp_client(client.server, cookie_jar=DummyCookieJar())


@pytest.fixture
def command(dsn, monkeypatch) -> Callable[..., tuple[int, str, str]]:
    """command("token", "create", …, given="…"): runs `reportd …` in this process, with `given` as its stdin.

    Returns the exit code, stdout and stderr.
    """
    monkeypatch.setenv("REPORTD_DATABASE_DSN", dsn)

    def run(*arguments: str, given: str = "") -> tuple[int, str, str]:
        output, errors = io.StringIO(), io.StringIO()
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        with redirect_stdout(output), redirect_stderr(errors), ThreadPoolExecutor(1) as pool:
            code = pool.submit(main, arguments).result(60)  # in a thread, since the command starts its own event loop
        return code, output.getvalue(), errors.getvalue()

    return run


@pytest.fixture
def make_run(client) -> Callable[..., Any]:
    """await make_run(**fields): the id of a new suite run."""

    async def make(**fields: Any) -> str:
        reply = await client.post("/api/v1/reports/suite-runs", json={"name": "nightly", **fields})
        assert reply.status == 201, await reply.text()
        return (await reply.json())["id"]

    return make


@pytest.fixture
def make_case(client, make_run) -> Callable[..., Any]:
    """await make_case(run=…, **fields): the id of a new test case result; in a new run when `run` is not given."""

    async def make(run: str | None = None, **fields: Any) -> str:
        run = run or await make_run()
        reply = await client.post(
            f"/api/v1/reports/suite-runs/{run}/test-cases", json={"name": "login works", **fields}
        )
        assert reply.status == 201, await reply.text()
        return (await reply.json())["id"]

    return make


@pytest.fixture
def case_url(make_case) -> Callable[..., Any]:
    """await case_url(**fields): the URL of a new test case result."""

    async def make(**fields: Any) -> str:
        return f"/api/v1/reports/test-case-results/{await make_case(**fields)}"

    return make


@pytest.fixture
def only_requests(monkeypatch):
    """Servers that a test starts after this fixture have no background jobs: otherwise a sweep or heartbeat uses a
    connection, changes rows or locks a table, at no certain time."""

    async def nothing(app):
        yield

    for part in ("_sweeper", "_heartbeat"):
        monkeypatch.setattr(f"server.app.{part}", nothing)
