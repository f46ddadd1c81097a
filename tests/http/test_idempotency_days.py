"""Stored replies by day: dropped with their day, found over midnight, kept without a partition and in an upgrade."""

import asyncio
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, time, timedelta

import asyncpg
import psycopg
import pytest
from psycopg import errors

from server.auth.tokens import hash_of
from server.database.queries import SQL, data_folder
from tests.http.test_idempotency import RUNS, STORED, content, is_replay, post, until_waiting

DAYS = "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'idempotency_replies'::regclass"
BACKUP = SQL.backup.hold_removals
UNFINISHED = (data_folder("migrations") / "0045_drop_idempotency_trigger.rollback.sql").read_text("utf-8")
# What a server of release 0.2.0 sends.
CLAIM = """
    INSERT INTO idempotency_keys (caller_id, key, fingerprint) VALUES ($1, $2, $3)
    ON CONFLICT (caller_id, key) DO NOTHING RETURNING key"""
KEPT = "SELECT fingerprint, status, body FROM idempotency_keys WHERE caller_id = $1 AND key = $2"


def today(shift=0):
    return datetime.now(UTC).date() + timedelta(days=shift)


def name(day):
    return f"idempotency_replies_{day:%Y%m%d}"


def hours_since(shift):
    """The whole hours since the end of that day."""
    return int((datetime.now(UTC) - datetime.combine(today(shift + 1), time(), UTC)) / timedelta(hours=1))


@pytest.fixture
def days(rows):
    """days(): the names of the partitions."""
    return lambda: sorted(row["name"] for row in rows(DAYS))


@pytest.fixture
def make_day(rows):
    """make_day(-1): a partition for yesterday, as it was made then."""

    def make(shift):
        bounds = f"FROM ('{today(shift)} 00:00+00') TO ('{today(shift + 1)} 00:00+00')"
        rows(f"CREATE TABLE {name(today(shift))} PARTITION OF idempotency_replies FOR VALUES {bounds}")

    return make


@pytest.fixture
def drop(rows):
    """drop(48): how many days were dropped, None while a backup runs."""

    def call(hours):
        found = rows(SQL.idempotency.drop_days.replace("days($1)", f"days({hours})"))
        return found[0]["drop_idempotency_days"] if found else None

    return call


@pytest.fixture
async def made(client, days, rows):
    """A client of a server whose first sweep has made the partitions, and does not lock them any more: counting the
    usage comes last."""
    async with asyncio.timeout(60):
        while not rows("SELECT FROM counted_days WHERE counted_at IS NOT NULL"):
            await asyncio.sleep(0.02)
    assert len(days()) == 3
    return client


@pytest.fixture
def caller(rows, client):
    token = client.session.headers["Authorization"].removeprefix("Bearer ")
    return rows("SELECT id FROM tokens WHERE token_hash = %s", hash_of(token))[0]["id"]


@pytest.fixture
async def older(dsn):
    """A connection of a server of the release before, and the schema before `reportd migrate --finish`."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(UNFINISHED)
    yield connection
    await connection.close()


async def test_a_reply_is_in_the_partition_of_its_day_and_found_on_the_next(made, rows, days, make_day):
    assert days() == [name(today(shift)) for shift in (0, 1, 2)]
    first = await post(made, RUNS, {"name": "x"})
    (stored,) = rows("SELECT tableoid::regclass::text AS day, created_at FROM idempotency_replies")
    assert stored["day"] == name(stored["created_at"].astimezone(UTC))
    make_day(-1)
    rows("UPDATE idempotency_replies SET created_at = created_at - interval '1 day'")
    again = await post(made, RUNS, {"name": "x"})
    assert is_replay(again) and await content(again) == await content(first)
    assert len(rows("SELECT FROM suite_runs")) == len(rows(STORED)) == 1


@pytest.mark.parametrize("where", ["yesterday", "today", "no partition"])
async def test_a_request_that_waits_over_midnight_finds_the_reply(made, dsn, rows, caller, make_day, where):
    """The twin began before midnight, and commits after this request has begun to wait."""
    make_day(-1)
    table = "idempotency_keys" if where == "no partition" else "idempotency_replies"
    with psycopg.connect(dsn) as twin:
        twin.execute("SELECT pg_advisory_xact_lock(uuid_hash(%s), hashtext('k'))", [caller])
        waiting = asyncio.create_task(post(made, RUNS, {"name": "x"}))
        await until_waiting(rows)
        twin.execute(
            f"INSERT INTO {table} (caller_id, key, fingerprint, status, created_at)"
            " VALUES (%s, 'k', 'x', 201, date_trunc('day', now(), 'UTC') + make_interval(secs => %s))",
            [caller, -0.001 if where == "yesterday" else 0],
        )
        twin.commit()
    assert (await waiting).status == 422  # the reply was stored for another request
    assert rows("SELECT FROM suite_runs") == []


async def test_without_a_partition_a_reply_is_kept_elsewhere(made, rows, days):
    for day in days():
        rows(f"DROP TABLE {day}")
    first = await post(made, RUNS, {"name": "x"})
    assert first.status == 201 and days() == [] and len(rows("SELECT FROM idempotency_keys")) == 1
    assert is_replay(await post(made, RUNS, {"name": "x"}))
    rows(SQL.idempotency.make_days)  # of a day of which replies are stored already
    assert len(days()) == 3
    again = await post(made, RUNS, {"name": "x"})
    assert is_replay(again) and await content(again) == await content(first)
    assert (await post(made, RUNS, {"name": "x"}, key="other")).status == 201
    assert len(rows("SELECT FROM idempotency_replies")) == 1 and len(rows(STORED)) == 2


async def test_requests_with_one_key_have_one_effect_while_partitions_come_and_go(made, rows, days):
    """A partition is dropped only when its day is long over; here it is today's, in use."""
    for round in range(5):
        sent = [asyncio.create_task(post(made, RUNS, {"name": "x"}, key=f"key {round}")) for _ in range(6)]
        if round % 2:
            rows(SQL.idempotency.make_days)
        else:
            for day in days():
                rows(f"ALTER TABLE idempotency_replies DETACH PARTITION {day}")
                rows(f"ALTER TABLE {day} RENAME TO kept_{round}_{day}")
        replies = await asyncio.gather(*sent)
        assert [reply.status for reply in replies] == [201] * 6
        assert sum(map(is_replay, replies)) >= 5 - (round % 2 == 0)


def test_a_day_is_dropped_when_its_last_reply_is_old(rows, days, drop, make_day):
    for shift in range(-5, 3):
        make_day(shift)
    rows(
        "INSERT INTO idempotency_replies (caller_id, key, fingerprint, status, created_at)"
        " SELECT gen_random_uuid(), n, '', 201, now() - make_interval(hours => n) FROM generate_series(0, 95) n"
    )
    for hours in (-1, 0, 47, 48):  # younger ones are never dropped
        drop(hours)
        assert days() == [name(today(shift)) for shift in range(-2, 3)]
    assert {f"{n}" for n in range(48)} <= {row["key"] for row in rows(STORED)}
    make_day(-30)
    make_day(-31)
    assert drop(30 * 24) == 1 and name(today(-30)) in days()
    assert drop(24 * 365 * 1000) == 0


def test_no_day_is_dropped_while_a_backup_runs(dsn, days, drop, make_day):
    make_day(-9)
    with psycopg.connect(dsn) as backup:
        backup.execute(BACKUP)
        assert drop(48) is None and len(days()) == 1
    assert drop(48) == 1 and days() == []


def test_requests_never_wait_long_for_a_drop(dsn, rows, days, drop, make_day):
    """It gives up while a transaction uses the table, and succeeds after it."""
    make_day(-9)
    with psycopg.connect(dsn) as request:
        request.execute("SELECT FROM idempotency_replies")
        for hours in (hours_since(-9), 48):
            with pytest.raises(errors.LockNotAvailable):
                drop(hours)
        rows(SQL.idempotency.make_days)  # new days need no such lock
        assert len(days()) == 4
    assert drop(48) == 1 and len(days()) == 3


def test_a_day_is_dropped_although_some_request_always_uses_the_replies(dsn, rows, days, drop, make_day):
    """Requests that take a second each leave no gap of 0.1 s: days would pile up on a server that is never idle."""
    rows(SQL.idempotency.make_days)
    make_day(-9)
    done = threading.Event()

    def request(number):
        done.wait(number / 3)
        with psycopg.connect(dsn, autocommit=True) as connection:
            while not done.is_set():
                with connection.transaction():
                    connection.execute("SELECT FROM idempotency_replies")
                    done.wait(1)

    with ThreadPoolExecutor(3) as pool:
        requests = [pool.submit(request, number) for number in range(3)]
        try:
            done.wait(1.5)
            with pytest.raises(errors.LockNotAvailable):
                drop(hours_since(-9))
            assert drop(48) == 1
        finally:
            done.set()
        for each in requests:
            each.result()
    assert name(today(-9)) not in days()


def test_autovacuum_of_a_day_holds_up_neither(dsn, rows, days, drop, make_day):
    make_day(-9)
    make_day(0)
    with psycopg.connect(dsn) as vacuum:
        vacuum.execute(f"LOCK TABLE {name(today())} IN SHARE UPDATE EXCLUSIVE MODE")
        rows(SQL.idempotency.make_days)
        assert drop(48) == 1 and len(days()) == 3


def test_today_is_made_between_requests_that_store_a_reply(dsn, rows, days, make_day):
    """Such a request could find the new table, but routes its row by the partitions that it knows."""
    keep = uuid.UUID(int=1), "k", b"x", 201, None
    with psycopg.connect(dsn) as request:
        psycopg.RawCursor(request).execute(SQL.idempotency.keep, keep)
        with pytest.raises(errors.LockNotAvailable):
            rows(SQL.idempotency.make_days)
        request.commit()
        make_day(0)
        psycopg.RawCursor(request).execute(SQL.idempotency.keep, (keep[0], "later", *keep[2:]))
        rows(SQL.idempotency.make_days)  # of the next days only
    assert days() == [name(today(shift)) for shift in (0, 1, 2)]
    assert len(rows("SELECT FROM idempotency_replies")) == len(rows("SELECT FROM idempotency_keys")) == 1


@pytest.mark.parametrize("style", ["SQL, DMY", "Postgres, MDY", "German"])
def test_days_begin_at_midnight_utc_whatever_the_session_calls_it(dsn, rows, style):
    """Before PostgreSQL 18, IST was read as the time of Israel."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"SET datestyle = '{style}'")
        connection.execute("SET timezone = 'Asia/Kolkata'")
        connection.execute(SQL.idempotency.make_days)
        connection.execute("SET timezone = 'UTC'; SET datestyle = 'ISO'")
        bounds = connection.execute(
            "SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid"
            " WHERE i.inhparent = 'idempotency_replies'::regclass AND c.relname = %s",
            [name(today())],
        ).fetchone()
    assert bounds == (f"FOR VALUES FROM ('{today()} 00:00:00+00') TO ('{today(1)} 00:00:00+00')",)


def test_several_hosts_may_make_and_drop_days_at_once(dsn, rows, days, make_day):
    make_day(-9)

    def sweep(_):
        with psycopg.connect(dsn, autocommit=True) as connection:
            for query in (SQL.idempotency.make_days, "SELECT drop_idempotency_days(48)"):
                while True:
                    try:
                        connection.execute(query)
                        break
                    except errors.LockNotAvailable:  # the next sweep tries again
                        pass

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(sweep, range(12)))
    assert days() == [name(today(shift)) for shift in (0, 1, 2)]


def test_an_account_that_owns_no_table_makes_days_only_in_the_schema(dsn, rows, days, drop, make_day):
    """Whatever tables of the same name are in its search_path."""
    make_day(-9)
    role = f"days_{dsn.partition('?')[0].rpartition('/')[2]}"
    rows(f"CREATE ROLE {role}")
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"SET ROLE {role}")
            connection.execute("CREATE TEMP TABLE idempotency_replies (x INT) PARTITION BY RANGE (x)")
            connection.execute(SQL.idempotency.make_days)
            assert connection.execute("SELECT drop_idempotency_days(0)").fetchone() == (1,)
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(f"DROP TABLE public.{name(today())}")
        assert days() == [name(today(shift)) for shift in (0, 1, 2)]
    finally:
        rows(f"DROP ROLE {role}")


# --- an older server beside it, before `reportd migrate --finish` ------------------------------------------------


async def test_an_older_server_sends_the_reply_that_a_newer_one_stored(made, older, caller, rows):
    first = await post(made, RUNS, {"name": "x"})
    (stored,) = rows("SELECT * FROM idempotency_replies")
    for _ in range(2):
        assert await older.fetchval(CLAIM, caller, "k", b"x") is None
        found = await older.fetchrow(KEPT, caller, "k")
        assert (found["fingerprint"], found["status"]) == (stored["fingerprint"], 201)
        assert found["body"] == await first.read()
    assert rows("SELECT * FROM idempotency_keys") == [stored] and rows("SELECT FROM idempotency_replies") == []
    assert is_replay(await post(made, RUNS, {"name": "x"}))  # and the newer one still finds it


async def test_an_older_server_waits_for_a_newer_one(made, older, caller, dsn):
    newer = await asyncpg.connect(dsn)
    try:
        for keeps in (False, True):
            async with older.transaction():
                await older.execute("SET LOCAL lock_timeout = '2s'")
                current = newer.transaction()
                await current.start()
                await newer.execute(SQL.idempotency.lock, caller, "k")
                assert await newer.fetchrow(SQL.idempotency.kept, caller, "k") is None
                with pytest.raises(asyncpg.LockNotAvailableError):
                    async with older.transaction():
                        await older.execute("SET LOCAL lock_timeout = '50ms'")
                        await older.fetchval(CLAIM, caller, "k", b"x")
                if keeps:
                    await newer.execute(SQL.idempotency.keep, caller, "k", b"x", 201, b"{}")
                    await current.commit()
                else:
                    await current.rollback()
                assert await older.fetchval(CLAIM, caller, "k", b"x") == (None if keeps else "k")
                await older.execute("DELETE FROM idempotency_keys WHERE status IS NULL")
    finally:
        await newer.close()


async def test_a_newer_server_sends_the_reply_that_an_older_one_stored(made, older, caller, rows):
    assert await older.fetchval(CLAIM, caller, "k", b"x") == "k"
    await older.execute("UPDATE idempotency_keys SET status = 201, body = $1", b"{}")
    assert (await post(made, RUNS, {"name": "x"})).status == 422  # stored for another request
    assert rows("SELECT FROM suite_runs") == []


async def test_the_lock_is_waited_for_2_seconds_and_later_locks_as_before(dsn, client, caller):
    connection = await asyncpg.connect(dsn, server_settings={"lock_timeout": "7s"})
    async with connection.transaction():
        await connection.execute(SQL.idempotency.lock, caller, "k")
        assert await connection.fetchval("SHOW lock_timeout") == "7s"
    await connection.close()
