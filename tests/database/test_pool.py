"""A database that is temporarily unavailable, demoted or overloaded: the replies to clients, and the recovery."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial

import asyncpg
import psycopg
import pytest
from psycopg.pq.abc import PGconn

from server.config import DatabaseConfig
from server.database import migrate
from server.database.errors import as_report_error
from server.database.pool import open_pool
from server.errors import OutcomeUnknown, TryAgain, Unavailable
from server.services import SERVICES
from tests.api.test_artifacts import on_disk
from tests.forms import post as sent
from tests.forms import single
from tests.makers import png
from tests.up_server import PATIENCE, wait_for

RUNS = "/api/v1/reports/suite-runs"
KEY = "Idempotency-Key"


async def status_and_code(reply) -> tuple[int, str]:
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
def test_temporary_database_errors_are_503_with_retry_after(sqlstate):
    error = asyncpg.PostgresError.new({"C": sqlstate, "M": "x"})
    reported = as_report_error(error)
    assert isinstance(reported, Unavailable) and reported.status == 503 and reported.headers["Retry-After"]


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
def test_connection_errors_of_asyncpg_in_a_failover_are_503(error):
    assert isinstance(as_report_error(error), Unavailable)


def test_errors_in_the_server_itself_are_not_503():
    for sqlstate in ("42601", "42P01", "XX000"):
        assert as_report_error(asyncpg.PostgresError.new({"C": sqlstate, "M": "x"})) is None
    assert as_report_error(ValueError("x")) is None


def test_a_database_without_disk_space_is_507_and_a_deadlock_is_try_again():
    error = as_report_error(asyncpg.PostgresError.new({"C": "53100", "M": "x"}))
    assert error is not None and (error.status, error.code) == (507, "storage_full")
    assert isinstance(as_report_error(asyncpg.DeadlockDetectedError("x")), TryAgain)


async def test_terminated_connections_are_replaced(client, dsn):
    await asyncio.gather(*(client.get(RUNS) for _ in range(20)))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    replies = await asyncio.gather(*(client.get(RUNS) for _ in range(20)))
    assert {reply.status for reply in replies} <= {200, 503}
    assert {(await client.get(RUNS)).status for _ in range(10)} == {200}
    async with asyncio.timeout(PATIENCE):  # a sweep may have one for a moment; one that was lost stays in use
        while client.app[SERVICES].pool.in_use:
            await asyncio.sleep(0.01)


async def test_a_refused_write_on_a_demoted_primary_replaces_all_connections(only_requests, start, make_token, dsn):
    """The sessions of a demoted primary stay open and can read. Only a refused write reveals the demotion."""
    client = await start(token=make_token())
    name = dsn.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        for (pid,) in sessions(connection):  # those of the start, which may still write
            connection.execute("SELECT pg_terminate_backend(%s, 60000)", (pid,))
        await client.get(RUNS)  # the pool opens new ones
        await client.get(RUNS)  # tries to record the use of the token, and fails
        await asyncio.gather(*(client.get(RUNS) for _ in range(30)))
        assert len(sessions(connection)) > 2
        assert await status_and_code(await client.post(RUNS, json={"name": "x"})) == (503, "database_unavailable")
        await asyncio.gather(*(client.get(RUNS) for _ in range(30)))
        assert len(sessions(connection)) > 2
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    assert await status_and_code(await client.post(RUNS, json={"name": "x"})) == (503, "database_unavailable")
    assert {(await client.post(RUNS, json={"name": "x"})).status for _ in range(20)} == {201}


def sessions(connection):
    return connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'reportd'"
    ).fetchall()


@asynccontextmanager
async def silent_port():
    """A port that accepts connections and never replies, like a frozen server."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


async def test_a_database_that_never_replies_is_a_503_and_not_a_hang(start, make_token):
    token = make_token()
    async with silent_port() as port:
        client = await start(
            token=token,
            database={"dsn": f"postgresql://x@127.0.0.1:{port}/x", "connect_timeout": 0.3, "pool_timeout": 0.5},
        )
        for url in (RUNS, "/readyz"):
            async with asyncio.timeout(10):
                assert await status_and_code(await client.get(url)) == (503, "database_unavailable")
        with pytest.raises(psycopg.OperationalError):
            await asyncio.to_thread(migrate.status, f"postgresql://x@127.0.0.1:{port}/x?connect_timeout=2")


@pytest.mark.parametrize("statement", ["SELECT pg_sleep(60)", "COMMIT"])
async def test_a_primary_that_does_not_reply_is_left_with_all_connections(dsn, statement, monkeypatch):
    """Without this, one request after the other would wait for a frozen primary, once for each idle connection."""
    pool = await open_pool(DatabaseConfig(dsn=dsn, pool_size=3, command_timeout=0.5))
    try:
        async with pool.acquire() as one, pool.acquire() as two, pool.acquire() as three:
            before = {await each.fetchval("SELECT pg_backend_pid()") for each in (one, two, three)}
        with pytest.raises(TimeoutError if statement != "COMMIT" else OutcomeUnknown):
            async with pool.transaction() as connection:
                if statement == "COMMIT":
                    monkeypatch.setattr(asyncpg.transaction.Transaction, "commit", lose_time)
                else:
                    await connection.execute(statement)
        async with pool.acquire() as one, pool.acquire() as two, pool.acquire() as three:
            assert not before & {await each.fetchval("SELECT pg_backend_pid()") for each in (one, two, three)}
    finally:
        await pool.close(5)


async def lose_time(self):
    raise TimeoutError


@pytest.fixture
def absent_standby(postgres, dsn) -> Iterator[Callable[[bool], None]]:
    """absent_standby(True): from now on each COMMIT waits for a synchronous standby, until absent_standby(False)."""
    name = dsn.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = on")  # off for the other tests

        def switch(on: bool) -> None:
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{'absent' if on else ''}'")
            connection.execute("SELECT pg_reload_conf()")
            # The checkpointer applies it for all sessions, when it comes to it: pg_settings may show it before that.
            wait_for(lambda: commit_waits() is on)

        def commit_waits() -> bool:
            with closing(psycopg.connect(postgres.dsn("postgres"), options="-c synchronous_commit=on")) as probe:
                probe.pgconn.send_query(b"SELECT pg_logical_emit_message(true, '', '')")
                waiting = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = %s"
                session = (probe.info.backend_pid,)
                wait_for(lambda: connection.execute(waiting, session).rowcount or has_answered(probe.pgconn))
                waits = not has_answered(probe.pgconn)
                connection.execute("SELECT pg_terminate_backend(%s, 10000)", session)  # it would wait with the others
            return waits

        try:
            yield switch
        finally:
            switch(False)


def has_answered(connection: PGconn) -> bool:
    connection.consume_input()
    return not connection.is_busy()


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_rows_that_the_standby_lacks_are_not_acknowledged_to_a_repeated_request(
    start, make_token, rows, absent_standby, is_cancelled
):
    """PostgreSQL answers the cancellation of such a COMMIT with success: the rows would be visible, and then lost."""
    client = await start(token=make_token(), database={"command_timeout": 1.5})
    pool, post = client.app[SERVICES].pool, partial(client.post, RUNS, json={"name": "x"}, headers={KEY: "once"})
    absent_standby(True)
    if is_cancelled:

        async def insert():
            async with pool.transaction(lambda saved: asyncio.get_running_loop().call_later(0.3, task.cancel)) as own:
                await own.execute("INSERT INTO projects (name) VALUES ('y')")

        task = asyncio.create_task(insert())
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.3)
        assert rows("SELECT FROM projects WHERE name = 'y'") == []
    else:
        assert await status_and_code(await post()) == (503, "outcome_unknown")
        assert (await post()).status in (409, 503) and rows("SELECT FROM suite_runs") == []
    absent_standby(False)
    async with asyncio.timeout(PATIENCE):
        while (last := await post()).status != 201:
            await asyncio.sleep(0.1)
    assert [row["id"] for row in rows("SELECT id::text FROM suite_runs")] == [(await last.json())["id"]]


async def test_a_stored_reply_is_not_sent_again_before_the_standby_has_it(
    start, make_token, rows, absent_standby, postgres
):
    """PostgreSQL shows rows that the standby lacks also when a restart ends the wait of their COMMIT."""
    client = await start(token=make_token(), database={"command_timeout": 1.5})
    post = partial(client.post, RUNS, json={"name": "x"}, headers={KEY: "once"})
    absent_standby(True)
    assert await status_and_code(await post()) == (503, "outcome_unknown")
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
    assert len(rows("SELECT FROM suite_runs")) == 1
    assert await status_and_code(await post()) == (503, "outcome_unknown")
    absent_standby(False)
    assert (await post()).headers["Idempotent-Replayed"] == "true"
    assert len(rows("SELECT FROM suite_runs")) == 1


async def test_a_deleted_file_is_not_unlinked_before_the_standby_has_its_deletion(
    start, make_token, rows, absent_standby, postgres, storage
):
    """Else a standby that becomes the primary has the row, and its download is a 410."""
    client = await start(token=make_token(), database={"command_timeout": 1.5})
    run = (await (await client.post(RUNS, json={"name": "x"})).json())["id"]
    case = (await (await client.post(f"{RUNS}/{run}/test-cases", json={"name": "x"})).json())["id"]
    url = f"/api/v1/reports/test-case-results/{case}/artifacts"
    _, artifact = await sent(client, url, single(png(8, 8)))
    services, file = client.app[SERVICES], on_disk(storage, artifact)
    absent_standby(True)
    assert await status_and_code(await client.delete(f"{RUNS}/{run}")) == (503, "outcome_unknown")
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
    assert rows("SELECT FROM test_artifacts") == []
    with pytest.raises(OutcomeUnknown):
        await services.removals.drain(services.pool)
    assert file.exists()
    absent_standby(False)
    await services.removals.drain(services.pool)
    assert not file.exists()


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_statement_without_a_transaction_is_not_cancelled_while_it_waits_for_the_standby(
    start, make_token, rows, absent_standby, is_cancelled
):
    """Else its rows, which the standby lacks, are visible: a repeated request gets a 409, as if they were safe."""
    client = await start(token=make_token(), database={"command_timeout": 1.5})
    run = (await (await client.post(RUNS, json={"name": "x"})).json())["id"]
    case = (await (await client.post(f"{RUNS}/{run}/test-cases", json={"name": "x"})).json())["id"]
    url, steps = f"/api/v1/reports/test-case-results/{case}/steps", [{"step_number": 1, "step_type": "click"}]
    post = partial(client.post, url, json={"steps": steps})
    absent_standby(True)
    if is_cancelled:

        async def insert():
            async with client.app[SERVICES].pool.autocommit() as alone:
                await alone.fetch("INSERT INTO projects (name) VALUES ('y')")

        task = asyncio.create_task(insert())
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.3)
        assert rows("SELECT FROM projects WHERE name = 'y'") == []
    else:
        assert await status_and_code(await post()) == (503, "outcome_unknown")
        assert rows("SELECT FROM test_step_results") == []
    absent_standby(False)
    async with asyncio.timeout(PATIENCE):
        while (last := await post()).status == 503:
            await asyncio.sleep(0.1)
    assert last.status in (201, 409) and len(rows("SELECT FROM test_step_results")) == 1


@pytest.mark.parametrize("headers", [{}, {KEY: "once"}])
async def test_a_statement_that_waits_for_a_lock_ends_before_the_primary_seems_to_hang(
    start, make_token, rows, dsn, headers
):
    """Else one locked row would replace all connections, and leave a session in PostgreSQL that inserts later."""
    client = await start(token=make_token(), database={"command_timeout": 2.0})
    run = (await (await client.post(RUNS, json={"name": "x"})).json())["id"]
    case = (await (await client.post(f"{RUNS}/{run}/test-cases", json={"name": "x"})).json())["id"]
    url, steps = f"/api/v1/reports/test-case-results/{case}/steps", [{"step_number": 1, "step_type": "click"}]
    post = partial(client.post, url, json={"steps": steps}, headers=headers)
    with psycopg.connect(dsn) as other:
        other.execute("SELECT FROM test_case_results WHERE id = %s FOR UPDATE", [case])
        before = set(sessions(other))
        assert await status_and_code(await post()) == (503, "try_again")
        assert set(sessions(other)) >= before
        assert not rows("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    assert rows("SELECT FROM test_step_results") == []
    assert (await post()).status == 201


async def test_the_writable_host_of_several_is_used(start, make_token, dsn):
    """A list of hosts as in a failover setup: the first refuses connections, the second is the primary."""
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
async def test_waiting_uploads_and_links_leave_a_connection_to_other_requests(config, dsn, size):
    """All connections that uploads and evidence links may hold are in use by transactions that wait."""
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
            await asyncio.sleep(0.2)  # until every task holds a connection or waits for one
            assert await pool.fetchval("SELECT 1") == 1
        assert 1 <= len(held) < size
    finally:
        over.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await pool.close(5)


async def test_a_connection_that_is_lost_while_the_pool_closes_does_not_keep_the_others(dsn, rows, monkeypatch):
    pool = await open_pool(DatabaseConfig(dsn=dsn, pool_size=3))
    async with pool.acquire() as one, pool.acquire() as other:
        pids = [await each.fetchval("SELECT pg_backend_pid()") for each in (one, other)]

    async def lose(self, **options):
        raise BrokenPipeError

    monkeypatch.setattr(asyncpg.Connection, "close", lose)
    await pool.close(5)
    async with asyncio.timeout(20):
        while rows("SELECT 1 FROM pg_stat_activity WHERE pid = ANY(%s)", pids):
            await asyncio.sleep(0.05)


async def test_a_connection_is_passed_on_and_goes_back_to_asyncpg_s_pool_soon(dsn, monkeypatch):
    """That pool closes connections that are old, and those that nobody uses."""
    monkeypatch.setattr("server.database.pool._KEEP_SECONDS", 0.05)
    pool = await open_pool(DatabaseConfig(dsn=dsn, pool_size=3))
    try:
        pids = {await pool.fetchval("SELECT pg_backend_pid()") for _ in range(5)}
        assert len(pids) == pool.open == 1
        with pytest.raises(asyncpg.DivisionByZeroError):
            await pool.fetchval("SELECT 1 / 0")
        assert {await pool.fetchval("SELECT pg_backend_pid()")} == pids
        async with asyncio.timeout(PATIENCE):
            while not pool._pool.get_idle_size():
                await asyncio.sleep(0.01)
        assert {await pool.fetchval("SELECT pg_backend_pid()")} == pids
    finally:
        await pool.close(5)


async def test_a_kept_connection_that_was_lost_is_not_used(dsn):
    pool = await open_pool(DatabaseConfig(dsn=dsn, pool_size=2))
    try:
        pid = await pool.fetchval("SELECT pg_backend_pid()")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
        async with asyncio.timeout(PATIENCE):
            while pool.open:  # until asyncpg has read the end of the connection
                await asyncio.sleep(0.01)
        assert await pool.fetchval("SELECT pg_backend_pid()") != pid
        assert pool.in_use == 0
    finally:
        await pool.close(5)


async def test_a_cancelled_statement_does_not_disturb_the_next_one(dsn):
    pool = await open_pool(DatabaseConfig(dsn=dsn, pool_size=1, pool_timeout=10))
    try:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await pool.fetchval("SELECT pg_sleep(60)")
            assert await pool.fetchval("SELECT 1") == 1
    finally:
        await pool.close(5)


@pytest.mark.parametrize("error", [KeyError, TimeoutError, asyncio.CancelledError])
async def test_a_connection_that_is_lost_during_a_rollback_does_not_hide_the_error(dsn, error):
    """A TimeoutError that is hidden would leave the other connections to a primary that hangs in use."""
    pool = await open_pool(DatabaseConfig(dsn=dsn, pool_size=2))
    try:
        async with pool.acquire() as one, pool.acquire() as other:
            before = {await each.fetchval("SELECT pg_backend_pid()") for each in (one, other)}
        with pytest.raises(error):
            async with pool.transaction() as connection:
                await connection.execute("SELECT 1")
                connection.terminate()
                raise error
        async with pool.acquire() as one, pool.acquire() as other:
            after = {await each.fetchval("SELECT pg_backend_pid()") for each in (one, other)}
        assert len(before & after) == (0 if error is TimeoutError else 1)
        assert pool.in_use == 0
    finally:
        await pool.close(5)


async def test_a_request_that_is_cancelled_while_its_connection_is_lost_ends_as_cancelled(dsn, monkeypatch):
    pool, settled = await open_pool(DatabaseConfig(dsn=dsn, pool_size=1)), []

    async def lose(self):
        self._connection.terminate()
        asyncio.get_running_loop().call_soon(task.cancel)
        await asyncio.Event().wait()

    async def insert():
        async with pool.transaction(settled.append) as connection:
            await connection.execute("INSERT INTO projects (name) VALUES ('y')")

    try:
        with monkeypatch.context() as patch:
            patch.setattr(asyncpg.transaction.Transaction, "commit", lose)
            task = asyncio.create_task(insert())
            with pytest.raises(asyncio.CancelledError):
                await task
        assert settled == [True]
        assert await pool.fetchval("SELECT count(*) FROM projects WHERE name = 'y'") == 0
    finally:
        await pool.close(5)
