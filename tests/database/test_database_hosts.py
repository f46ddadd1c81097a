"""A DSN with several hosts: one of them works, the others are silent, refuse, or answer late."""

import asyncio
import socket
from pathlib import Path

import asyncpg
import pytest
from psycopg.conninfo import conninfo_to_dict

from server.config import DatabaseConfig
from server.database.hosts import connector, hosts_of
from server.database.pool import open_pool
from tests.chaos.proxy import proxied


@pytest.fixture
def silent(tmp_path):
    """Accepts connections and never answers, like a machine without power."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield "127.0.0.1", server.getsockname()[1]


@pytest.fixture
def working(postgres, dsn):
    """A host and port of the test's database."""
    given = conninfo_to_dict(dsn)
    path = Path(given["host"]) / f".s.PGSQL.{given.get('port', 5432)}"
    with proxied(path) as proxy:
        yield proxy


def dsn_of(dsn: str, *hosts: tuple[str, int]) -> str:
    given = conninfo_to_dict(dsn)
    names, ports = (",".join(map(str, each)) for each in zip(*hosts, strict=True))
    return f"postgresql://{given['user']}@/{given['dbname']}?host={names}&port={ports}&target_session_attrs=read-write"


def config_of(dsn: str, *hosts: tuple[str, int], timeout: float = 30.0) -> DatabaseConfig:
    return DatabaseConfig(dsn=dsn_of(dsn, *hosts), connect_timeout=timeout)


@pytest.mark.parametrize(
    ("dsn", "hosts"),
    [
        ("postgresql://r@alpha,beta/x?target_session_attrs=read-write", [("alpha", 5432), ("beta", 5432)]),
        ("postgresql://r@alpha:1,beta/x", [("alpha", 1), ("beta", 5432)]),
        ("postgresql://r@[::1]:1,beta:2/x", [("::1", 1), ("beta", 2)]),
        ("host=a,b,c port=3", [("a", 3), ("b", 3), ("c", 3)]),
        ("postgresql://r@/x?host=/a,/b&port=7", [("/a", 7), ("/b", 7)]),
        ("postgresql:///x", [("", 5432)]),
        ("postgresql://r@alpha,beta/x?not_known_to_libpq=1", []),
    ],
)
def test_the_hosts_of_a_dsn(dsn, hosts):
    assert hosts_of(dsn) == hosts


async def test_a_silent_host_does_not_hide_the_next_one(dsn, silent, working):
    """asyncpg alone would wait for the first host until connect_timeout, each time."""
    pool = await open_pool(config_of(dsn, silent, ("127.0.0.1", working.port)))
    try:
        assert await pool.fetchval("SELECT 1") == 1
    finally:
        await pool.close(5)


async def test_a_host_that_refuses_does_not_hide_the_next_one(dsn, working):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    pool = await open_pool(config_of(dsn, ("127.0.0.1", port), ("127.0.0.1", working.port)))
    try:
        assert await pool.fetchval("SELECT 1") == 1
    finally:
        await pool.close(5)


async def test_the_host_of_the_newest_connection_is_tried_first(dsn, silent, working, monkeypatch):
    tried = []
    connect = asyncpg.connect

    def recorded(*arguments, host, port, **options):
        tried.append(port)
        return connect(*arguments, host=host, port=port, **options)

    monkeypatch.setattr(asyncpg, "connect", recorded)
    good = working.port
    connected = connector(dsn_of(dsn, silent, ("127.0.0.1", good)))
    for _ in range(3):
        await (await connected(dsn, timeout=30)).close()
    assert tried[:3] == [silent[1], good, good]


async def test_without_any_host_the_error_is_that_of_the_last_one(dsn, silent):
    with pytest.raises(TimeoutError):
        await connector(dsn_of(dsn, silent, silent))(dsn, timeout=0.5)


async def test_a_wrong_database_is_reported(dsn, working):
    host = ("127.0.0.1", working.port)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await connector(dsn_of(dsn, host, host))(dsn, database="no-such-database", timeout=30)


async def test_an_answer_that_comes_too_late_leaves_no_connection(dsn, postgres, rows, working):
    """The first host answers after the second one was chosen."""
    given = conninfo_to_dict(dsn)
    with proxied(Path(given["host"]) / f".s.PGSQL.{given.get('port', 5432)}") as late:
        late.hold(True)
        connected = connector(dsn_of(dsn, ("127.0.0.1", late.port), ("127.0.0.1", working.port)))
        connection = await connected(dsn, timeout=30, server_settings={"application_name": "raced"})
        late.hold(False)
        count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'raced'"
        async with asyncio.timeout(60):
            while await connection.fetchval(count) != 1:
                await asyncio.sleep(0.02)
        await connection.close()
