"""The row by which processes on other hosts know that this one lives."""

import asyncio
import socket
from types import SimpleNamespace
from uuid import uuid4

import pytest

from server.services import SERVICES
from server.storage import instances
from server.storage.instances import Heartbeat
from server.storage.staging import place_of

OLD = "UPDATE instances SET seen_at = now() - make_interval(secs => %s)"


@pytest.fixture
def services(only_requests, client):
    """Those of a server whose own beats and sweeps do not come between those of a test, or lock its table."""
    return client.app[SERVICES]


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_running_server_renews_its_row_and_removes_it_at_its_end(monkeypatch, start, rows, storage):
    monkeypatch.setattr("server.app.BEAT_SECONDS", 0.05)
    client = await start()
    await until(lambda: rows("SELECT FROM instances"))
    (row,) = rows("SELECT * FROM instances")
    own = client.app[SERVICES].storage.own_staging
    assert (row["id"], row["host"], row["device"]) == (own.id, socket.gethostname(), place_of(storage).device)
    assert [folder.name for folder in (storage / ".staging").iterdir()] == [own.id.hex]
    rows(OLD, 9999)
    await until(lambda: rows("SELECT FROM instances WHERE seen_at > now() - INTERVAL '1 hour'"))
    rows("DELETE FROM instances")  # another server did it, while this one had no database for hours
    await until(lambda: rows("SELECT FROM instances"))
    await client.close()
    assert rows("SELECT FROM instances") == []


async def test_the_folder_of_another_host_goes_when_its_row_is_an_hour_old(services, storage, rows, monkeypatch):
    heartbeat = Heartbeat(services.storage)
    id = uuid4()
    theirs = storage / ".staging" / id.hex
    theirs.mkdir()
    rows("INSERT INTO instances (id, host, boot_id, device) VALUES (%s, %s, 'x', 7)", id, socket.gethostname())
    for _ in range(instances._STEADY):
        await heartbeat.beat(services.pool)
    await heartbeat.sweep(services.pool)
    assert theirs.exists()
    rows(f"{OLD} WHERE id = %s", 3700, id)
    await Heartbeat(services.storage).sweep(services.pool)
    assert theirs.exists(), "the database may have been away from all for an hour"
    await heartbeat.sweep(services.pool)
    assert not theirs.exists() and rows("SELECT FROM instances WHERE id = %s", id)
    rows(f"{OLD} WHERE id = %s", 7300, id)
    await heartbeat.sweep(services.pool)
    assert rows("SELECT FROM instances WHERE id = %s", id) == [] and rows("SELECT FROM instances")


async def test_beats_that_fail_are_logged_once_and_rows_are_not_trusted_then(services, rows, caplog):
    heartbeat = Heartbeat(services.storage)
    for _ in range(instances._STEADY):
        await heartbeat.beat(services.pool)
    assert heartbeat._beats == instances._STEADY
    rows("ALTER TABLE instances RENAME TO gone")
    for _ in range(3):
        await heartbeat.beat(services.pool)
    assert heartbeat._beats == 0 and caplog.text.count("was not renewed, trying again") == 1
    await heartbeat.end(services.pool)
    rows("ALTER TABLE gone RENAME TO instances")
    await heartbeat.beat(services.pool)
    assert heartbeat._beats == 1


@pytest.mark.parametrize(
    ("skew", "text"), [(3.0, "3.0 s ahead of"), (-7200.0, "7200.0 s behind"), (1.5, None), (-1.5, None)]
)
async def test_a_clock_that_differs_from_the_databases_is_logged_once(services, monkeypatch, caplog, skew, text):
    heartbeat, database = Heartbeat(services.storage), 1_800_000_000.0

    async def fetchval(query, *arguments):
        return database

    pool = SimpleNamespace(fetchval=fetchval)
    for _ in range(3):
        monkeypatch.setattr(instances, "_now", lambda: database + skew)
        await heartbeat.beat(pool)
    assert caplog.text.count("Synchronise both") == (text is not None) and (text or "") in caplog.text
    monkeypatch.setattr(instances, "_now", lambda: database)
    await heartbeat.beat(pool)
    monkeypatch.setattr(instances, "_now", lambda: database + skew)
    await heartbeat.beat(pool)
    assert caplog.text.count("Synchronise both") == 2 * (text is not None), "again, after it was right"


async def test_a_slow_database_is_no_wrong_clock(services, monkeypatch, caplog):
    times = iter([1000.0, 1060.0])  # of a statement that took a minute

    async def fetchval(query, *arguments):
        return 1059.0

    monkeypatch.setattr(instances, "_now", lambda: next(times))
    await Heartbeat(services.storage).beat(SimpleNamespace(fetchval=fetchval))
    assert "Synchronise" not in caplog.text


async def test_the_clocks_of_this_machine_agree(services, caplog):
    await Heartbeat(services.storage).beat(services.pool)
    assert "Synchronise" not in caplog.text
