"""A database that is away, changes or refuses for a while: what a client is told, and that the server finds back."""

import asyncio
import socket
from contextlib import asynccontextmanager

import asyncpg
import psycopg
import pytest

from server.config import DatabaseConfig
from server.database import migrate
from server.database.errors import as_report_error
from server.database.pool import open_pool
from server.errors import TryAgain, Unavailable
from server.services import SERVICES

RUNS = "/api/v1/reports/suite-runs"


async def told(reply) -> tuple[int, str]:
    assert int(reply.headers["Retry-After"]) >= 1
    return reply.status, (await reply.json())["code"]


@pytest.mark.parametrize(
    "sqlstate",
    [
        "08000",
        "08003",
        "08006",
        "57P01",
        "57P02",
        "57P03",
        "57014",
        "25006",
        "40001",
        "40P01",
        "53300",
        "53200",
        "55000",
    ],
)
def test_what_passes_is_told_as_to_be_tried_again(sqlstate):
    error = asyncpg.PostgresError.new({"C": sqlstate, "M": "x"})
    known = as_report_error(error)
    assert isinstance(known, Unavailable) and known.status == 503 and known.headers["Retry-After"]


@pytest.mark.parametrize(
    "error",
    [
        OSError("x"),
        ConnectionResetError("x"),
        TimeoutError(),
        asyncpg.InterfaceError("x"),
        asyncpg.InternalClientError("x"),
        asyncpg.ConnectionDoesNotExistError("x"),
    ],
)
def test_so_is_what_asyncpg_says_in_a_failover(error):
    assert isinstance(as_report_error(error), Unavailable)


def test_what_is_our_own_mistake_is_not():
    for sqlstate in ("42601", "42P01", "XX000"):
        assert as_report_error(asyncpg.PostgresError.new({"C": sqlstate, "M": "x"})) is None
    assert as_report_error(ValueError("x")) is None


def test_a_database_without_space_is_a_storage_that_is_full():
    error = as_report_error(asyncpg.PostgresError.new({"C": "53100", "M": "x"}))
    assert error is not None and (error.status, error.code) == (507, "storage_full")
    assert isinstance(as_report_error(asyncpg.DeadlockDetectedError("x")), TryAgain)


async def test_connections_that_are_cut_are_replaced(client, dsn):
    await asyncio.gather(*(client.get(RUNS) for _ in range(20)))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    replies = await asyncio.gather(*(client.get(RUNS) for _ in range(20)))
    assert {reply.status for reply in replies} <= {200, 503}
    assert {(await client.get(RUNS)).status for _ in range(10)} == {200}
    assert client.app[SERVICES].pool.in_use == 0


async def test_a_primary_that_was_demoted_is_left_for_the_next(client, dsn):
    """Its sessions stay open and can read: nothing but a refused write tells. The first one drops them all."""
    name = dsn.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await client.get(RUNS)  # notes that the token is used, in vain
        await asyncio.gather(*(client.get(RUNS) for _ in range(30)))
        assert len(sessions(connection)) > 2
        assert await told(await client.post(RUNS, json={"name": "x"})) == (503, "database_unavailable")
        await asyncio.gather(*(client.get(RUNS) for _ in range(30)))
        assert len(sessions(connection)) > 2
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    assert await told(await client.post(RUNS, json={"name": "x"})) == (503, "database_unavailable")
    assert {(await client.post(RUNS, json={"name": "x"})).status for _ in range(20)} == {201}


def sessions(connection):
    return connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'reportd'"
    ).fetchall()


@asynccontextmanager
async def mute():
    """A port where connections are taken and nothing is ever said, as by a server that is frozen."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


async def test_a_database_that_says_nothing_is_no_hang(start, make_token):
    token = make_token()
    async with mute() as port:
        client = await start(
            token=token,
            database={"dsn": f"postgresql://x@127.0.0.1:{port}/x", "connect_timeout": 0.3, "pool_timeout": 0.5},
        )
        for url in (RUNS, "/readyz"):
            async with asyncio.timeout(10):
                assert await told(await client.get(url)) == (503, "database_unavailable")
        with pytest.raises(psycopg.OperationalError):
            await asyncio.to_thread(migrate.status, f"postgresql://x@127.0.0.1:{port}/x?connect_timeout=2")


async def test_of_several_hosts_the_one_that_can_be_written_is_taken(start, make_token, dsn):
    """A list of hosts as in a failover setup: the first refuses, the second is mute, the third is the primary."""
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()[1]
    hosts, ports = f"127.0.0.1,{parts['host']}", f"{refusing},{parts.get('port', 5432)}"
    several = (
        f"postgresql://{parts.get('user', '')}@/{parts['dbname']}?host={hosts}&port={ports}"
        "&target_session_attrs=read-write"
    )
    assert all(applied for _, applied in await asyncio.to_thread(migrate.status, several))
    client = await start(token=make_token(), database={"dsn": several, "connect_timeout": 1})
    assert (await client.get("/readyz")).status == 200
    assert (await client.post(RUNS, json={"name": "x"})).status == 201


@pytest.mark.parametrize("size", range(2, 17))
async def test_whatever_waits_leaves_a_connection_to_others(config, dsn, size):
    """As many uploads and uses of links as there may be at once, all of them waiting for something else."""
    pool = await open_pool(DatabaseConfig(dsn=dsn, pool_size=size, pool_timeout=10))
    held, over = [], asyncio.Event()

    async def hold(acquire):
        async with acquire() as connection:
            held.append(connection)
            await over.wait()

    try:
        lanes = [pool.acquire_for_files, pool.acquire_for_links]
        tasks = [asyncio.create_task(hold(lane)) for _ in range(size + 2) for lane in lanes]
        async with asyncio.timeout(20):
            await asyncio.sleep(0.2)  # by now all have what they get
            assert await pool.fetchval("SELECT 1") == 1
        assert 1 <= len(held) < size
    finally:
        over.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await pool.close(5)
