"""The audit trail by month: its guard on every partition, the upgrade, missing partitions, and dropping old months."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from server.commands import audit as commands
from server.database import migrate
from server.database.queries import SQL
from server.ids import lowest_id, new_id, time_of
from tests.up_server import wait_for

DAY = 86_400
PARTITIONS = "SELECT name, bound FROM audit_partitions() ORDER BY bound"
INSERT = """INSERT INTO audit_entries (id, created_at, action, actor_kind, subject_kind)
            VALUES (%s, now(), 'logout', 'person', 'user')"""
GUARD = "audit_entries_only_grows"


@pytest.fixture
def add(rows):
    """add(days=-40): the id of a new entry of 40 days ago."""

    def insert(days: float = 0) -> UUID:
        entry_id = UUID(int=(int((time.time() + days * DAY) * 1000) << 80) + new_id(0).int % (1 << 80))
        rows(INSERT, entry_id)
        return entry_id

    return insert


@pytest.fixture
def partitions(rows):
    """partitions(): their names in the order of their ids; audit_entries_other is the last one."""
    return lambda: [row["name"] for row in rows(PARTITIONS)]


@pytest.fixture
def places(rows):
    """places(): in which partition each entry is."""
    return lambda: {
        row["id"]: row["at"] for row in rows("SELECT id, tableoid::regclass::text AS at FROM audit_entries")
    }


@pytest.fixture
def end_first(rows):
    """end_first(-90): the first partition has ended 90 days ago; further ones then end on the further days."""

    def end(*days: float) -> None:
        rows("ALTER TABLE audit_entries DETACH PARTITION audit_entries_first")
        since = "MINVALUE"
        for number, day in enumerate(days):
            until = f"'{lowest_id(time.time() + day * DAY)}'"
            name = f"audit_entries_part_{number}" if number else "audit_entries_first"
            if number:
                rows(f"CREATE TABLE {name} (LIKE audit_entries INCLUDING ALL)")
                rows(f"SELECT guard_audit_partition('{name}')")
            rows(f"ALTER TABLE audit_entries ATTACH PARTITION {name} FOR VALUES FROM ({since}) TO ({until})")
            since = until

    return end


def test_every_partition_refuses_changes_by_itself(dsn, rows, add, partitions, end_first):
    end_first(-40)
    rows(SQL.audit.make_months)
    for days in (-50, 0, 3650):
        add(days)
    guards = rows("SELECT tgrelid::regclass::text AS at, tgenabled FROM pg_trigger WHERE tgname = %s", GUARD)
    assert {row["at"]: row["tgenabled"] for row in guards} == dict.fromkeys(["audit_entries", *partitions()], "A")
    rows(f"ALTER TABLE audit_entries DETACH PARTITION {partitions()[1]}")  # the guard goes with it
    for name in ("audit_entries", *partitions()):
        for change in (f"UPDATE {name} SET action = 'x'", f"DELETE FROM {name}", f"TRUNCATE {name}"):
            for role in ("origin", "replica"):
                with psycopg.connect(dsn) as connection:
                    connection.execute(f"SET session_replication_role = {role}")
                    with pytest.raises(errors.InsufficientPrivilege, match="audit_entries only grows"):
                        connection.execute(change)


def test_entries_without_a_partition_are_kept_and_the_month_begins_after_them(rows, add, partitions, places, end_first):
    """No server ran for months; then a request or a command came before the first sweep."""
    end_first(-90)
    early, ahead = add(), add(3650)
    rows(SQL.audit.make_months)
    late = add()
    month = f"audit_entries_{time_of(late):%Y_%m}"
    assert partitions()[:2] == ["audit_entries_first", month] and partitions()[-1] == "audit_entries_other"
    assert places() == {early: "audit_entries_other", ahead: "audit_entries_other", late: month}
    made = partitions()
    rows(SQL.audit.make_months)  # again: changes nothing
    assert partitions() == made and len(made) == 5
    listed = rows("SELECT id FROM audit_entries ORDER BY id DESC")
    assert [row["id"] for row in listed] == [ahead, late, early]


def test_a_clock_that_is_ahead_in_this_month_holds_up_only_this_month(rows, add, partitions, places, end_first):
    end_first(-90)
    (end,) = rows("SELECT first_audit_id(date_trunc('month', now(), 'UTC') + interval '1 month') AS id")
    rows(INSERT, UUID(int=end["id"].int - 1))
    rows(SQL.audit.make_months)
    now, next_month = add(), add(32)
    assert len(partitions()) == 4 and places()[now] == "audit_entries_other"
    assert places()[next_month] not in ("audit_entries_other", "audit_entries_first")


def test_several_hosts_may_make_months_at_once(dsn, rows, partitions, end_first):
    end_first(-90)

    def sweep(_):
        with psycopg.connect(dsn, autocommit=True) as connection:
            while True:
                try:
                    return connection.execute(SQL.audit.make_months)
                except errors.LockNotAvailable:  # the next sweep tries again
                    pass

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(sweep, range(6)))
    assert len(partitions()) == 5


def test_a_request_that_reads_does_not_wait_for_a_new_month(dsn, rows, partitions, end_first):
    """Nor one that writes. The month waits, and is made by the next sweep."""
    end_first(-90)
    with psycopg.connect(dsn) as request:
        request.execute("SELECT FROM audit_entries")
        with pytest.raises(errors.LockNotAvailable):
            rows(SQL.audit.make_months)
        request.execute(INSERT, [new_id(0)])
    rows(SQL.audit.make_months)
    assert len(partitions()) == 5


def test_a_month_that_has_begun_is_made_between_entries(dsn, rows, add, partitions, end_first):
    """An entry for which no month was made yet could else neither be there nor in audit_entries_other."""
    end_first(-90)
    failed = []

    def write(_):
        for _ in range(150):
            try:
                add()
            except errors.CheckViolation as error:
                failed.append(error)

    with psycopg.connect(dsn) as request, ThreadPoolExecutor(2) as pool:
        request.execute(INSERT, [UUID(int=1)])  # in another partition
        with pytest.raises(errors.LockNotAvailable):
            rows(SQL.audit.make_months)
        request.commit()
        writing = pool.map(write, range(2))
        while len(partitions()) < 5:
            with suppress(errors.LockNotAvailable):
                rows(SQL.audit.make_months)
        list(writing)
        request.execute(INSERT, [UUID(int=2)])
        rows(SQL.audit.make_months)  # nothing, or a month to come: beside entries
    assert failed == []


# --- the upgrade -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("days_ahead", [None, 0, 400, 365 * 8000])
def test_an_upgrade_and_a_rollback_keep_all_entries_and_privileges(dsn, rows, add, partitions, places, days_ahead):
    ids = {add(), add(-1000)} if days_ahead is not None else set()
    assert migrate.rollback(dsn, 2) == ["0047_partition_audit_entries", "0046_add_audit_bound"]
    assert {row["id"] for row in rows("SELECT id FROM audit_entries")} == ids
    if days_ahead:
        ids |= {add(days_ahead)}
    role = f"writer_{dsn.partition('?')[0].rpartition('/')[2]}"
    rows(f"CREATE ROLE {role}")
    try:
        rows(f"GRANT SELECT, INSERT ON audit_entries TO {role}; GRANT SELECT ON audit_entries TO PUBLIC")
        with psycopg.connect(dsn, autocommit=True) as older:  # its statements are prepared before the upgrade
            older.execute(f"SET ROLE {role}")
            for _ in range(2):
                ids.add(new := new_id(0))
                older.execute(INSERT, [new], prepare=True)
                migrate.apply(dsn)
            assert {row[0] for row in older.execute("SELECT id FROM audit_entries", prepare=True)} == ids
        assert set(places().values()) == {"audit_entries_first"}
        rows(SQL.audit.make_months)
        ids |= {add(80), add(365 * 8500)}
        migrate.rollback(dsn, 2)
        assert {row["id"] for row in rows("SELECT id FROM audit_entries")} == ids
        with pytest.raises(errors.InsufficientPrivilege, match="only grows"):
            rows("DELETE FROM audit_entries")
        (held,) = rows(
            "SELECT ARRAY(SELECT split_part(unnest(relacl)::text, '/', 1)) AS by FROM pg_class"
            " WHERE oid = 'audit_entries'::regclass"
        )
        assert {f"{role}=ar", "=r"} <= set(held["by"])
    finally:
        rows(f"DROP OWNED BY {role}")
        rows(f"DROP ROLE {role}")


def test_a_rollback_after_the_first_partition_was_dropped(dsn, rows, add, partitions, end_first):
    end_first(-90)
    add(-100)
    rows(SQL.audit.make_months)
    kept = add()
    rows("DROP TABLE audit_entries_first")
    migrate.rollback(dsn, 2)
    assert [row["id"] for row in rows("SELECT id FROM audit_entries")] == [kept]
    migrate.apply(dsn)
    assert partitions() == ["audit_entries_first", "audit_entries_other"]


# --- reportd audit --drop-older-than ---------------------------------------------------------------------------


def test_old_months_are_dropped_and_that_is_recorded(command, rows, add, partitions, end_first):
    end_first(-400, -100, -31, 60)
    ids = [add(days) for days in (-500, -450, -300, -90, -20)]
    assert (
        command("audit", "--drop-older-than", "401d")[1] == "nothing to drop: no month of entries ended 401 days ago\n"
    )
    code, output, _ = command("audit", "--drop-older-than", "52w")
    assert (code, output) == (0, "audit_entries_first: 2 entries dropped\n")
    code, output, _ = command("audit", "--drop-older-than", "30d")
    assert output.splitlines() == [f"audit_entries_part_{n}: 1 entries dropped" for n in (1, 2)]
    assert partitions() == ["audit_entries_part_3", "audit_entries_other"]
    kept = rows("SELECT * FROM audit_entries ORDER BY id")
    assert kept[0]["id"] == ids[-1]
    assert [(row["action"], row["actor_kind"], row["detail"]) for row in kept[1:]] == [
        ("audit.dropped", "command", {"audit_entries_first": 2}),
        ("audit.dropped", "command", {"audit_entries_part_1": 1, "audit_entries_part_2": 1}),
    ]


@pytest.mark.parametrize("age", ["0d", "29d", "719h", "4w", "30", "-30d", "x", "", "99999999d"])
def test_a_wrong_age_drops_nothing(command, add, places, end_first, age, capsys):
    end_first(-400, 60)
    old = add(-500)
    with pytest.raises(SystemExit):
        command("audit", "--drop-older-than", age)
    assert list(places()) == [old]


@pytest.mark.parametrize("age", ["99999d", "99999w"])
def test_ages_before_all_ids_drop_nothing(command, add, places, end_first, age):
    end_first(-400, 60)
    old = add(-500)
    assert command("audit", "--drop-older-than", age)[0] == 0
    assert list(places()) == [old]


def test_the_function_keeps_30_days_whatever_it_is_given(rows, add, places, end_first):
    end_first(-20, 60)
    ids = {add(-25), add()}
    assert rows("SELECT * FROM drop_audit_months(now() + interval '1 year')") == []
    assert places().keys() == ids


def test_only_the_owner_of_the_table_drops_months(rows, dsn, add, places, end_first):
    end_first(-400, 60)
    old = add(-500)
    role = f"server_{dsn.partition('?')[0].rpartition('/')[2]}"
    rows(f"CREATE ROLE {role}")
    try:
        rows(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
        for statement in (
            "SELECT * FROM drop_audit_months(now())",
            "DROP TABLE audit_entries_first",
            "ALTER TABLE audit_entries DETACH PARTITION audit_entries_first",
            f"ALTER TABLE audit_entries_first DISABLE TRIGGER {GUARD}",
            "DELETE FROM audit_entries_first",
        ):
            with psycopg.connect(dsn) as connection:
                connection.execute(f"SET ROLE {role}")
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(statement)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"SET ROLE {role}")
            connection.execute(SQL.audit.make_months)  # this it may
    finally:
        rows(f"DROP OWNED BY {role}")
        rows(f"DROP ROLE {role}")
    assert list(places()) == [old]


@pytest.mark.parametrize("use", ["SELECT FROM audit_entries", SQL.backup.hold_removals])
def test_months_in_use_are_not_dropped(command, dsn, monkeypatch, add, places, end_first, use):
    """By a long transaction, or by a backup that has not locked them yet. Requests go on meanwhile."""
    monkeypatch.setattr(commands, "_PAUSE_SECONDS", 0.01)
    end_first(-400, 60)
    old = add(-500)
    with psycopg.connect(dsn) as user:
        user.execute(use)
        code, output, stderr = command("audit", "--drop-older-than", "52w")
        assert (code, output) == (1, "") and "a backup or a long transaction" in stderr
    assert list(places()) == [old]
    assert command("audit", "--drop-older-than", "52w")[1] == "audit_entries_first: 1 entries dropped\n"


def test_months_are_counted_before_the_first_one_is_dropped(dsn, rows, add, partitions, end_first):
    """Counting takes seconds for a month of millions. After a DROP, each action would wait for that."""
    end_first(-400, -100, 60)
    add(-500), add(-300)
    rows("ALTER FUNCTION drop_audit_months SET lock_timeout = '60s'")
    locks = "SELECT FROM pg_locks WHERE pid = %s AND relation = %s::regclass AND mode = %s AND granted = %s"
    with psycopg.connect(dsn) as user, psycopg.connect(dsn) as dropping, ThreadPoolExecutor(1) as pool:
        user.execute("LOCK TABLE audit_entries_first IN ACCESS SHARE MODE")  # may be counted, but not dropped
        dropped = pool.submit(lambda: dropping.execute("SELECT * FROM drop_audit_months(now())").fetchall())
        pid = dropping.info.backend_pid
        wait_for(lambda: rows(locks, pid, "audit_entries_first", "AccessExclusiveLock", False))
        assert rows(locks, pid, "audit_entries_part_1", "AccessShareLock", True)
        user.rollback()
        assert dropped.result() == [("audit_entries_first", 1), ("audit_entries_part_1", 1)]
    assert partitions() == ["audit_entries_part_2", "audit_entries_other"]


def test_months_whose_entry_cannot_be_written_stay(command, rows, add, places, end_first):
    end_first(-400, 60)
    old = add(-500)
    rows("ALTER TABLE audit_entries ADD CONSTRAINT full_up CHECK (false) NOT VALID")
    code, output, _ = command("audit", "--drop-older-than", "52w")
    assert (code, output) == (1, "") and list(places()) == [old]
