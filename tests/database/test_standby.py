"""Reads from a standby: what they may use, that they are never stale, and that every failure ends on the primary.

The standby is real: a copy of the tests' PostgreSQL that follows it.
"""

import asyncio
import itertools
import re
import tempfile
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import asyncpg
import psycopg
import pytest

from server.app import create_app
from server.auth.tokens import hash_of, new_token
from server.commands import serve
from server.config import ArtifactsConfig, Config, DatabaseConfig
from server.database import migrate
from server.database import standby as module
from server.database.embedded import Postgres
from server.database.pool import open_pool
from server.database.standby import _FALLBACKS, _READS, Standby, Unusable
from server.http.route import Route
from server.ids import new_id
from server.reports.listing import Portion, read
from server.routes import PAGES, ROUTES
from server.services import SERVICES
from tests import site
from tests.standbys import FAST, StandbyServer, ended_with_us
from tests.up_server import PATIENCE, serving, wait_for

API = "/api/v1/reports"
READING = [route for route in [*ROUTES, *PAGES] if route.reading]
LINK = "/shared/{link}"
TOKEN = new_token()
_numbers = itertools.count()


@pytest.fixture(scope="module")
def folder():
    """In memory where possible: a standby copies every file of its primary."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="reportd-standby-", dir=memory if memory.exists() else None) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def primary(folder):
    with Postgres(folder / "primary", settings=FAST) as server, ended_with_us(server):
        migrate.apply(server.dsn())
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            add = "INSERT INTO tokens (id, name, token_hash, role) VALUES (%s, 'test', %s, 'admin')"
            connection.execute(add, [new_id(0), hash_of(TOKEN)])
            connection.execute("CREATE TABLE numbers AS SELECT generate_series(1, 1000) AS number")
        yield server


@contextmanager
def following(folder, primary, **settings):
    with StandbyServer(folder / f"standby-{next(_numbers)}", primary, settings) as server, ended_with_us(server):
        yield server


@pytest.fixture(scope="module")
def standby(folder, primary):
    with following(folder, primary) as server:
        yield server


@pytest.fixture(scope="module")
def hosts(folder, primary, standby):
    """Two `reportd serve` with the standby, like two hosts."""
    with (
        serving(folder / "alpha", primary.dsn(), TOKEN, REPORTD_DATABASE_READ_DSN=standby.dsn()) as alpha,
        serving(folder / "beta", primary.dsn(), TOKEN, REPORTD_DATABASE_READ_DSN=standby.dsn()) as beta,
    ):
        yield alpha, beta


def metric(host, name):
    """The sum of a metric over its labels; 0 when it is not there yet. `name` may have a label."""
    text = host.ask("GET", "/metrics").body.decode()
    return sum(float(value) for value in re.findall(rf"^reportd_{re.escape(name)}\S* (\S+)$", text, re.MULTILINE))


def uses_standby(host):
    return metric(host, "standby_up") == 1


@pytest.fixture
def patience(monkeypatch):
    """A standby is given up later than by a server: on a busy machine, it may need longer than it should."""
    monkeypatch.setattr(module, "_ANSWER_SECONDS", PATIENCE)
    monkeypatch.setattr(module, "_PAUSES", (0.01,) * round(100 * PATIENCE))


@pytest.fixture
async def pair(primary, standby, patience):
    """A Standby as the server makes it, in use."""
    async with watching(primary.dsn(), standby.dsn()) as found:
        await until(lambda: found.usable)
        yield found


@pytest.fixture
async def hasty(primary, standby):
    """As `pair`, with the timeouts of a server."""
    async with watching(primary.dsn(), standby.dsn()) as found:
        await until(lambda: found.usable)
        yield found


@asynccontextmanager
async def watching(dsn, read_dsn, **settings):
    config = DatabaseConfig(dsn=dsn, read_dsn=read_dsn, **settings)
    pool = await open_pool(config)
    found = Standby(config, pool)
    await found.open()
    watch = asyncio.create_task(found.watch())
    try:
        yield found
    finally:
        watch.cancel()
        await asyncio.wait({watch})
        await found.close(10)
        await pool.close(10)


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


async def until_read_from_standby(found):
    async with asyncio.timeout(PATIENCE):
        while await found.reads().fetchval(WHERE) != "standby":
            await asyncio.sleep(0.1)


def counts(counter):
    (metric,) = counter.collect()
    return {sample.labels[next(iter(sample.labels))]: sample.value for sample in metric.samples}


@contextmanager
def counted(counter, **expected):
    """The counter has changed by this, by label, at the end of the block."""
    before = counts(counter)
    yield
    changed = {label: value - before.get(label, 0) for label, value in counts(counter).items()}
    assert {label: value for label, value in changed.items() if value} == expected


WHERE = "SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END"


# --- routes ----------------------------------------------------------------------------------------------------


def test_only_gets_read_from_a_standby():
    assert READING and {route.method for route in READING} == {"GET"}
    assert not [route.path for route in READING if route.access.public and route.access.opened_by is None]


@pytest.fixture(scope="module")
def made(hosts, primary):
    """What tests/site.py sends, and a dict of the ids in paths."""
    alpha, _ = hosts
    with psycopg.connect(primary.dsn(), autocommit=True) as connection:
        alpha.rows = lambda query, *parameters: connection.execute(query, parameters).fetchall()
        sent = site.make(alpha, "default", lambda text, most: text[:most])
    ids = {"suite_id": sent.run, "case_id": sent.failed, "fingerprint": sent.fingerprint, "at": f"1.{site.FAILED}"}
    return ids | {
        "project": "default",
        "artifact_id": sent.files["screenshot image/png"],
        "link": sent.link.rpartition("/")[2],
        "test": sent.test_id,
        "run": sent.run,
    }


QUERIES = {
    f"{API}/tests": "?test_id={test}",
    f"{API}/search": "?q=pay",
    "/search": "?q=pay",
    "/tests": "?project={project}&id={test}",
    "/compare": "?head={run}",
    "/latest": "?project={project}",
}


class Refusing:
    """In place of the pool of the primary."""

    def __getattr__(self, name):
        raise AssertionError(f"a handler used the pool of the primary: {name}")


@pytest.fixture
async def reader(aiohttp_client, primary, standby, hosts, patience):
    """A client of a server with a standby, which is in use."""
    alpha, _ = hosts
    storage = ArtifactsConfig(storage_path=str(alpha.data / "artifacts"), durability="none")
    database = DatabaseConfig(dsn=primary.dsn(), read_dsn=standby.dsn())
    app = create_app(Config(database=database, artifacts=storage))
    client = await aiohttp_client(app, headers={"Authorization": f"Bearer {TOKEN}"})
    await until(lambda: app[SERVICES].standby.usable)
    return client


@pytest.mark.parametrize("route", READING, ids=lambda route: route.path)
async def test_every_route_that_reads_works_on_a_standby(reader, made, route: Route):
    address = (route.path + QUERIES.get(route.path, "")).format_map(made)
    services = reader.app[SERVICES]
    assert (await reader.get("/api/v1/auth/session")).status == 200  # the caller is cached from now on
    if not route.path.startswith(LINK):  # the use of a link is counted in the primary
        pool, services.pool = services.pool, Refusing()
    try:
        before = counts(_READS).get("standby", 0)
        with counted(_FALLBACKS):
            reply = await reader.get(address, headers={"Accept": "text/html"}, allow_redirects=False)
            text = await reply.read()
    finally:
        if not route.path.startswith(LINK):
            services.pool = pool
    assert reply.status == (302 if route.path == "/latest" else 200), text
    assert counts(_READS)["standby"] > before


@pytest.mark.parametrize("path", [f"{API}/insights", "/insights"])
async def test_selectors_that_nobody_has_asked_for_are_counted_in_the_primary(reader, made, path):
    pool = reader.app[SERVICES].pool
    await pool.execute("DELETE FROM selector_uses")
    with counted(_FALLBACKS):
        reply = await reader.get(f"{path}?show=selectors", headers={"Accept": "text/html"})
        assert reply.status == 200
    assert await pool.fetchval("SELECT count(*) FROM selector_uses") > 0


async def test_without_a_standby_everything_reads_from_the_pool(client):
    services = client.app[SERVICES]
    assert services.standby is None and services.reads() is services.pool


# --- never stale -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("delay", "rounds"), [("0", 40), ("25ms", 25), ("1s", 5)])
def test_what_one_host_stored_another_one_shows_at_once(hosts, made, standby, delay, rounds):
    """200 times: a run is created, changed and deleted through one host, and read at once through the other one."""
    alpha, beta = hosts
    standby.configure(recovery_min_apply_delay=delay)
    try:
        if delay != "1s":
            wait_for(lambda: reads_from_standby(beta))
        for number in range(rounds):
            name, run = f"{delay} {number}", create(alpha, f"{delay} {number}")
            assert [each["id"] for each in runs_named(beta, name)] == [run]
            alpha.ask_json("PATCH", f"{API}/suite-runs/{run}", {"name": f"{name} changed", "status": "Passed"})
            assert f"{name} changed" in beta.ask("GET", f"/runs/{run}").body.decode()
            assert [each["status"] for each in runs_named(beta, f"{name} changed")] == ["Passed"]
            assert alpha.ask("DELETE", f"{API}/suite-runs/{run}").status == 204
            assert beta.ask("GET", f"/runs/{run}").status == 404
    finally:
        standby.configure(recovery_min_apply_delay="0")


def create(host, name):
    return host.ask_json("POST", f"{API}/suite-runs", {"name": name}, status=201)["id"]


def runs_named(host, name):
    return host.ask_json("GET", f"{API}/suite-runs?name={name.replace(' ', '+')}")["items"]


def test_a_standby_that_is_not_asked_for_its_position_would_be_stale(hosts, standby):
    """Otherwise the test above would show nothing."""
    alpha, _ = hosts
    standby.configure(recovery_min_apply_delay="2s")
    try:
        with psycopg.connect(standby.dsn(), autocommit=True) as connection:
            by_id = "SELECT FROM suite_runs WHERE id = %s"
            # The process that replays may learn of the delay only after the first of them.
            wait_for(lambda: connection.execute(by_id, [create(alpha, "delayed")]).fetchall() == [])
    finally:
        standby.configure(recovery_min_apply_delay="0")


async def test_a_commit_that_is_confirmed_before_it_is_flushed_is_seen(primary, standby):
    """With synchronous_commit = off, the WAL of a confirmed commit is in memory, and no standby has it yet."""
    dsn = f"{primary.dsn()}&options=-csynchronous_commit%3Doff"
    async with watching(dsn, standby.dsn()) as found:
        await until(lambda: found.usable)
        writer = await asyncpg.connect(dsn)
        for number in range(2000, 2050):
            await writer.execute("INSERT INTO numbers VALUES ($1)", number)
            assert await found.reads().fetchval("SELECT max(number) FROM numbers") == number
        await writer.execute("DELETE FROM numbers WHERE number >= 2000")
        await writer.close()


async def test_concurrent_requests_share_one_question_that_is_asked_after_they_came(pair):
    asked, fetchrow, more = [], pair._primary.fetchrow, asyncio.Event()

    async def counted_fetchrow(query):
        asked.append(query)
        await more.wait()
        return await fetchrow(query)

    pair._primary.fetchrow = counted_fetchrow
    first = [asyncio.create_task(pair.position()) for _ in range(20)]
    await until(lambda: asked)
    later = [asyncio.create_task(pair.position()) for _ in range(20)]
    more.set()
    positions = await asyncio.gather(*first), await asyncio.gather(*later)
    pair._primary.fetchrow = fetchrow
    assert all(len(set(map(id, found))) == 1 for found in positions) and positions[0][0] is not positions[1][0]
    assert len([query for query in asked if "flush" in query]) in (2, 3)  # a third one by the watch


# --- failures: the right answer from the primary, and back without a restart ------------------------------------


def ready(host):
    return host.ask("GET", "/readyz").status == 200


def test_a_standby_that_is_stopped_and_started_again(hosts, standby):
    alpha, beta = hosts
    wait_for(lambda: uses_standby(beta))
    standby.stop()
    try:
        for number in range(10):
            run = create(alpha, f"stopped {number}")
            assert [each["id"] for each in runs_named(beta, f"stopped {number}")] == [run]
        wait_for(lambda: not uses_standby(beta))
        assert ready(beta) and "reads use the primary, because the standby does not answer" in beta.log.read_text()
    finally:
        standby.start()
    wait_for(lambda: uses_standby(beta))
    assert "the standby is used again" in beta.log.read_text()
    wait_for(lambda: reads_from_standby(beta))


def reads_from_standby(host):
    before = metric(host, 'reads_total{target="standby"}')
    host.ask("GET", f"{API}/suite-runs")
    return metric(host, 'reads_total{target="standby"}') > before


def test_a_standby_that_hangs_delays_one_request_at_most(hosts, standby):
    alpha, beta = hosts
    wait_for(lambda: reads_from_standby(beta))
    before = metric(beta, 'standby_fallbacks_total{reason="away"}')
    with standby.suspended():
        for number in range(20):
            run = create(alpha, f"hanging {number}")
            assert [each["id"] for each in runs_named(beta, f"hanging {number}")] == [run]
        assert ready(beta)
        wait_for(lambda: not uses_standby(beta))
        assert metric(beta, 'standby_fallbacks_total{reason="away"}') - before <= 1
    wait_for(lambda: reads_from_standby(beta))


async def test_a_statement_in_progress_on_a_standby_that_hangs_runs_on_the_primary(hasty, standby):
    slow = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_sleep(600)::text ELSE 'primary' END"
    reading = asyncio.create_task(hasty.reads().fetchval(slow))
    while not standby.sleeps():
        if reading.done():  # the standby was too slow
            await until(lambda: hasty.usable)
            reading = asyncio.create_task(hasty.reads().fetchval(slow))
        await asyncio.sleep(0.02)
    with counted(_FALLBACKS, away=1), standby.suspended():
        assert await asyncio.wait_for(reading, PATIENCE) == "primary"
    await until(lambda: hasty.usable)


async def test_a_standby_that_is_far_behind_is_not_used(hasty, primary, standby):
    await until_read_from_standby(hasty)
    standby.run("SELECT pg_wal_replay_pause()")
    try:
        with psycopg.connect(primary.dsn(), autocommit=True) as connection:
            connection.execute("UPDATE numbers SET number = number")
        with counted(_FALLBACKS, behind=1):
            assert await hasty.reads().fetchval(WHERE) == "primary"
        assert not hasty.usable
        with counted(_FALLBACKS), counted(_READS, primary=1):  # it is not even tried
            assert await hasty.reads().fetchval(WHERE) == "primary"
        await until(lambda: hasty._logged == "behind")
        assert hasty._lag._value.get() > 10_000
    finally:
        standby.run("SELECT pg_wal_replay_resume()")
    await until_read_from_standby(hasty)


async def test_a_statement_that_the_replay_cancels_runs_on_the_primary(pair, primary, standby):
    standby.configure(max_standby_streaming_delay="0")
    await until_read_from_standby(pair)
    slow = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_sleep(600)::text END || '', count(*) FROM numbers"
    with counted(_FALLBACKS, conflict=1):
        reading = asyncio.create_task(pair.reads().fetchrow(slow))
        await until(standby.sleeps)
        with psycopg.connect(primary.dsn(), autocommit=True) as connection:
            while not reading.done():
                connection.execute(
                    "BEGIN; LOCK numbers IN ACCESS EXCLUSIVE MODE; UPDATE numbers SET number = number; COMMIT"
                )
                await asyncio.sleep(0.05)
        assert tuple(await reading) == (None, 1000)
    standby.configure(max_standby_streaming_delay="30s")
    assert pair.usable  # the next statement may succeed


async def test_a_handler_runs_once_more_from_its_beginning(pair):
    places = []

    async def handler(reads):
        async with reads.acquire() as connection:
            places.append(await connection.fetchval(WHERE))
        async with reads.acquire() as connection:
            places.append(await connection.fetchval(WHERE))
            if places[-1] == "standby":
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return await reads.fetchval(WHERE)

    reads = pair.reads()
    with counted(_FALLBACKS, away=1):
        assert await reads.attempt(partial(handler, reads)) == "primary"
    assert places == ["standby", "standby", "primary", "primary"]


async def test_a_session_that_the_replay_ends_is_counted_as_a_conflict(pair):
    """PostgreSQL ends the session when it cannot cancel the statement alone; asyncpg reports that it is lost."""
    places = iter(["standby", "primary"])

    async def handler():
        if (place := next(places)) == "standby":
            raise asyncpg.ConnectionDoesNotExistError() from asyncpg.SerializationError()
        return place

    with counted(_FALLBACKS, conflict=1):
        assert await pair.reads().attempt(handler) == "primary"


async def test_a_lock_that_the_replay_holds_is_waited_for_as_long_as_any_other(primary, standby, patience):
    """The primary may have ended that transaction already: then the standby is only behind."""
    async with watching(primary.dsn(), standby.dsn(), command_timeout=1.0) as found:
        await until(lambda: found.usable)
        with psycopg.connect(primary.dsn()) as holding, counted(_FALLBACKS, conflict=1):
            holding.execute("LOCK numbers IN ACCESS EXCLUSIVE MODE")
            with psycopg.connect(primary.dsn(), autocommit=True) as other:
                other.execute("SELECT pg_switch_wal()")  # the lock is in the WAL, which nothing has flushed yet
            reads = found.reads()
            reading = asyncio.create_task(reads.fetchval("SELECT count(*) FROM numbers"))
            await until(lambda: reads._standby is None or reading.done())
            holding.rollback()
            assert await reading == 1000


async def test_an_error_of_the_handler_is_not_taken_for_one_of_the_standby(pair):
    calls = []

    async def handler():
        calls.append(1)
        raise ValueError("x")

    with counted(_FALLBACKS), pytest.raises(ValueError, match="x"):
        await pair.reads().attempt(handler)
    assert len(calls) == 1


async def test_a_handler_that_writes_is_answered_by_the_primary_and_counted(pair):
    with counted(_FALLBACKS, refused=1):
        assert await pair.reads().fetchval("INSERT INTO numbers VALUES (1001) RETURNING number") == 1001
    await pair._primary.execute("DELETE FROM numbers WHERE number = 1001")


async def test_the_second_portion_of_a_list_whose_standby_has_gone_comes_from_the_primary(pair, standby):
    async def fetch(connection, after, limit, offset):
        number, place = after[0] + 1, await connection.fetchval(WHERE)
        return Portion([f"{number} {place}"], 1, (number,), 2 << 20)

    reads = pair.reads()
    async with reads.acquire() as connection:
        listing = await read(connection, fetch, (0,), 3, None, 0)
    parts = listing.portions(reads, encoded)
    assert await anext(parts) == b"1 standby"
    standby.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reportd'")
    with counted(_FALLBACKS, away=1):
        assert [part async for part in parts] == [b"2 primary", b"3 primary"]


async def encoded(items):
    return items[0].encode()


async def test_a_standby_whose_connections_are_all_in_use(primary, standby):
    async with watching(primary.dsn(), standby.dsn(), pool_size=1, pool_timeout=0.1) as found:
        await until(lambda: found.usable)
        async with found.reads().acquire() as connection:
            assert await connection.fetchval(WHERE) == "standby"
            with counted(_FALLBACKS, busy=1):
                assert await found.reads().fetchval(WHERE) == "primary"
        assert found.usable
        assert await found.reads().fetchval(WHERE) == "standby"


async def test_a_request_whose_primary_is_away_gets_the_error_of_the_primary(standby, primary):
    async with watching(primary.dsn(), standby.dsn()) as found:
        await until(lambda: found.usable)
        found._primary.terminate()
        with pytest.raises(asyncpg.InterfaceError), counted(_FALLBACKS, primary=1):
            await found.reads().fetchval(WHERE)


async def test_a_cancelled_request_does_not_disturb_those_that_share_its_question(pair):
    first, second = (asyncio.create_task(pair.position()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).bytes > 0


# --- what is no standby of the primary --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(folder):
    with Postgres(folder / "other", settings=FAST) as server, ended_with_us(server):
        yield server


async def refused(dsn, read_dsn, caplog, text):
    """The standby is not used, for this reason."""
    async with watching(dsn, read_dsn) as found:
        await until(lambda: found._logged)
        assert found._logged == "refused" and not found.usable
        assert await found.reads().fetchval(WHERE) == "primary"
    assert re.search(text, caplog.text)


async def test_another_database_is_not_read_from(primary, standby, other, caplog):
    await refused(primary.dsn(), standby.dsn("postgres"), caplog, "because the standby has another database than")
    await refused(primary.dsn(), other.dsn(), caplog, "because the standby is not a standby")
    async with watching(primary.dsn(), standby.dsn()) as found:
        await until(lambda: found._identity)
        connection = await asyncpg.connect(other.dsn())
        with pytest.raises(Unusable, match="another database than the primary"):
            await found._admit(connection)
        await connection.close()


async def test_the_primary_itself_is_not_read_from_as_a_standby(primary, caplog):
    await refused(primary.dsn(), primary.dsn(), caplog, "because the standby is not a standby")


def test_serve_refuses_to_start_with_another_database(primary, standby, other, command, monkeypatch, tmp_path):
    monkeypatch.setenv("REPORTD_DATABASE_READ_DSN", other.dsn())
    monkeypatch.setenv("REPORTD_ARTIFACTS_STORAGE_PATH", str(tmp_path / "files"))
    code, _, errors = command("serve", "--port", "0")
    assert code == 1 and "[database] read_dsn leads to another database than dsn" in errors
    config = Config(database=DatabaseConfig(dsn=primary.dsn(), read_dsn=standby.dsn()))
    serve.check_standby(config)
    away = standby.dsn().replace("socket", "nowhere")
    serve.check_standby(Config(database=DatabaseConfig(dsn=primary.dsn(), read_dsn=away)))  # it may come later


async def test_several_hosts(primary, standby):
    """The first one does not answer, the second one is the primary."""
    hosts = ",".join(str(each).replace("/", "%2F") for each in ("/nowhere", primary.socket, standby.socket))
    dsn = f"postgresql://postgres@/reportd?host={hosts}&port=5432,5432,5432&target_session_attrs=prefer-standby"
    async with watching(primary.dsn(), dsn) as found:
        await until(lambda: found.usable)
        assert await found.reads().fetchval(WHERE) == "standby"


async def test_a_promoted_standby_is_not_read_from_any_more(folder, primary, caplog):
    with following(folder, primary) as promoted:
        async with watching(primary.dsn(), promoted.dsn()) as found:
            await until(lambda: found.usable)
            assert await found.reads().fetchval(WHERE) == "standby"
            promoted.promote()
            with counted(_FALLBACKS, refused=1):
                assert await found.reads().fetchval(WHERE) == "primary"
            await until(lambda: found._logged == "refused")
    assert "because the standby is not a standby (or not any more)" in caplog.text


async def test_a_standby_that_did_not_follow_a_failover_is_not_read_from(folder, primary):
    """It is further in the WAL than the new primary, but in another one: what the new primary stores, it never gets."""
    with following(folder, primary) as left_behind, following(folder, primary) as promoted:
        promoted.configure(primary_conninfo="")
        wait_for(lambda: promoted.run("SELECT pid FROM pg_stat_wal_receiver") == [])
        with psycopg.connect(primary.dsn(), autocommit=True) as connection:
            for _ in range(20):
                connection.execute("UPDATE numbers SET number = number")
            position = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone()[0]
        wait_for(lambda: left_behind.run(f"SELECT 1 WHERE pg_last_wal_replay_lsn() >= '{position}'"))
        promoted.promote()
        assert promoted.run(f"SELECT pg_current_wal_flush_lsn() < '{position}'") == [(True,)]
        async with watching(promoted.dsn(), left_behind.dsn()) as found:
            await until(lambda: found._logged)
            assert found._logged == "refused" and not found.usable
