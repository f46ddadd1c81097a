"""Liveness (/healthz), readiness (/readyz) and metrics (/metrics)."""

import asyncio
import errno
import gc
import math
import os
import re
import shutil
import threading
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from server.app import create_app
from server.database import migrate
from server.ids import lowest_id
from server.reports import usage
from server.services import SERVICES
from server.storage.free_space import FreeSpace
from tests.forms import batch, post, single
from tests.makers import flip_byte, png


async def ready(client):
    """The string "ready", or the error code of a 503 from /readyz."""
    reply = await client.get("/readyz")
    body = await reply.json()
    if reply.status == 503:
        assert int(reply.headers["Retry-After"]) >= 1
        return body["code"]
    assert (reply.status, body) == (200, {"status": "ready"})
    return "ready"


async def test_a_healthy_server_is_alive_and_ready(client):
    reply = await client.get("/healthz")
    assert (reply.status, await reply.json()) == (200, {"status": "ok"})
    assert await ready(client) == "ready"


async def test_an_unreachable_database_makes_the_server_unready(config, aiohttp_client):
    """The server starts without it."""
    away = msgspec.structs.replace(config.database, dsn="postgresql://postgres@/x?host=/nonexistent")
    client = await aiohttp_client(create_app(msgspec.structs.replace(config, database=away)))
    assert await ready(client) == "database_unavailable"
    assert "database" in (await (await client.get("/readyz")).json())["detail"]
    assert (await client.get("/healthz")).status == 200


async def test_an_old_schema_makes_the_server_unready_until_it_is_migrated(only_requests, client, dsn):
    names = sorted(migrate.versions())
    first = next(number for number, name in enumerate(names) if migrate.waits(name))
    migrate.rollback(dsn, len(names) - first)
    assert await ready(client) == "schema_outdated"
    migrate.apply(dsn)  # without the migration that only drops something: the server does not need it
    assert not dict(migrate.status(dsn))[names[first]]
    assert await ready(client) == "ready"


async def test_a_database_without_migrations_makes_the_server_unready(only_requests, client, dsn, rows):
    for table in ("_yoyo_migration", "yoyo_lock", "_yoyo_log", "_yoyo_version"):
        rows(f"DROP TABLE {table}")
    assert await ready(client) == "schema_outdated"


async def test_a_server_is_ready_on_a_newer_schema(client, rows):
    """In a rolling upgrade the new server migrates while old ones still serve."""
    rows(
        "INSERT INTO _yoyo_migration (migration_hash, migration_id, applied_at_utc)"
        " VALUES (repeat('0', 64), '9999_from_the_future', now())"
    )
    assert await ready(client) == "ready"


async def test_a_storage_that_cannot_be_written_makes_the_server_unready(client, storage):
    shutil.rmtree(storage)
    assert await ready(client) == "storage_unavailable"
    client.app[SERVICES].storage.staging.mkdir(parents=True)
    assert await ready(client) == "ready"


async def test_the_readiness_check_leaves_no_file_in_the_storage(client, stored_files):
    await ready(client)
    assert stored_files() == []


# --- metrics ---------------------------------------------------------------------------------------------------


async def metrics(client) -> dict[str, float]:
    """The values in /metrics, by name with labels."""
    reply = await client.get("/metrics")
    assert reply.status == 200 and reply.content_type == "text/plain"
    lines = [line for line in (await reply.text()).splitlines() if not line.startswith("#")]
    found = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}
    assert len(found) == len(lines)
    return found


@pytest.fixture
def increases(client):
    """await increases(): by how much each metric has changed since the last call. Leaves out unchanged metrics."""
    last: dict[str, float] = {}

    async def since(of=client):
        now = await metrics(of)
        before = dict(last)
        last.clear()
        last.update(now)
        return {name: value - before.get(name, 0) for name, value in now.items() if value != before.get(name, 0)}

    return since


@pytest.mark.parametrize("url", ["/api/v1/reports/suite-runs/{}", "/api/v1/nothing/{}"])
async def test_requests_are_counted_by_route_and_not_by_path(client, url):
    route = {"/api/v1/reports/suite-runs/{}": "/api/v1/reports/suite-runs/{suite_id}"}.get(url, "unknown")
    line = f'reportd_requests_total{{method="GET",route="{route}",status="404"}}'

    async def counted():
        reply = await client.get("/metrics")
        assert reply.status == 200 and reply.content_type == "text/plain"
        text = await reply.text()
        assert "marker" not in text
        return float(re.search(rf"^{re.escape(line)} (\S+)$", text, re.MULTILINE)[1])

    await client.get(url.format("marker-0"))
    before = await counted()
    for number in range(3):
        await client.get(url.format(f"marker-{number}"))
    assert await counted() == before + 3
    text = await (await client.get("/metrics")).text()
    assert f'reportd_request_seconds_count{{method="GET",route="{route}"}}' in text


async def test_the_latency_histogram_ranges_from_half_a_millisecond_to_a_minute(client):
    await client.get("/healthz")
    found = await metrics(client)
    name = 'reportd_request_seconds_bucket{{le="{}",method="GET",route="/healthz"}}'
    bounds = ["0.0005", "0.001", "0.0025", "0.005", "0.01", "0.1", "1.0", "10.0", "60.0", "+Inf"]
    counts = [found[name.format(bound)] for bound in bounds]
    assert counts == sorted(counts) and counts[-1] >= 1


async def test_metrics_have_no_created_lines(client):
    """They would be nearly half of all lines."""
    assert [name for name in await metrics(client) if "_created" in name] == []


async def test_bytes_of_bodies_are_counted_in_both_directions(client, case_url, increases):
    case, body = await case_url(), single(png())
    await increases()
    text = await (await client.get("/metrics")).text()
    await increases()
    _, artifact = await post(client, f"{case}/artifacts", body)
    got = await increases()
    assert got['reportd_body_bytes_total{direction="received"}'] == len(body)
    # This includes the reply to the scrape before.
    assert got['reportd_body_bytes_total{direction="sent"}'] > len(text) * 0.9
    assert await (await client.get(artifact["download_url"])).read() == png()
    assert (await increases())['reportd_body_bytes_total{direction="sent"}'] > len(png())


async def test_files_are_counted_as_new_duplicate_or_refused(client, case_url, increases):
    case, other = await case_url(), await case_url()
    first, second = png(8, 8, 1), png(9, 9, 2)
    await increases()
    assert (await post(client, f"{case}/artifacts/batch", batch([(first, "a.png"), (second, "b.png")])))[0] == 201
    got = await increases()
    assert got['reportd_artifacts_total{duplicate="false"}'] == 2
    assert got["reportd_artifact_bytes_total"] == len(first) + len(second)
    assert not [name for name in got if "dedupe" in name or "refused" in name]

    # One duplicate, one new file, one that is not a picture.
    files = [(first, "a.png"), (png(10, 10, 3), "c.png"), (b"\0\1\2", "d.bin")]
    assert (await post(client, f"{case}/artifacts/batch", batch(files)))[0] == 207
    got = await increases()
    assert got['reportd_artifacts_total{duplicate="true"}'] == got['reportd_artifacts_total{duplicate="false"}'] == 1
    assert got['reportd_dedupe_saved_bytes_total{how="resend"}'] == len(first)
    assert got['reportd_artifacts_refused_total{code="file_corrupted"}'] == 1

    # The project has this file already, but the test case does not.
    assert (await post(client, f"{other}/artifacts", single(second)))[0] == 201
    got = await increases()
    assert got['reportd_dedupe_saved_bytes_total{how="hard_link"}'] == len(second)
    assert 'reportd_dedupe_saved_bytes_total{how="resend"}' not in got


@pytest.mark.parametrize("how", ["batch", "single"])
async def test_damaged_files_are_replaced_and_counted(client, case_url, increases, storage, how):
    content = png(8, 8, 1)
    body = single(content, "a.png") if how == "single" else batch([(content, "a.png")])
    end = "" if how == "single" else "/batch"

    async def send(case: str) -> tuple[dict, dict[str, float]]:
        await increases()
        status, got = await post(client, f"{case}/artifacts{end}", body)
        assert status == 201
        got = got["artifacts"][0] if how == "batch" else got
        counted = {name: value for name, value in (await increases()).items() if "damaged" in name}
        assert await (await client.get(got["download_url"])).read() == content
        return got, counted

    first = await case_url()
    stored, counted = await send(first)
    assert counted == {}
    file = storage / stored["storage_path"].removeprefix("artifacts/")
    file.write_bytes(flip_byte(content, 40))
    # The same bytes in another test case: the damaged content entry is replaced, not linked.
    _, counted = await send(await case_url())
    assert counted == {'reportd_damaged_files_replaced_total{what="content"}': 1}
    # The same file for the same test case: its stored file is replaced.
    again, counted = await send(first)
    assert counted == {'reportd_damaged_files_replaced_total{what="artifact"}': 1}
    assert (again["id"], again["duplicate"]) == (stored["id"], True)
    assert (await send(first))[1] == (await send(await case_url()))[1] == {}


async def test_files_of_a_failed_transaction_are_not_counted(only_requests, client, case_url, increases, rows):
    case = await case_url()
    rows("ALTER TABLE test_artifacts ADD CONSTRAINT fails CHECK (file_size < 0) NOT VALID")
    await increases()
    assert (await post(client, f"{case}/artifacts", single(png())))[0] >= 500
    assert not [name for name in await increases() if name.startswith(("reportd_artifact", "reportd_dedupe"))]


async def test_an_idempotent_replay_does_not_count_its_files_again(client, case_url, increases):
    case = await case_url()
    for number in range(2):
        await increases()
        status, _ = await post(client, f"{case}/artifacts", single(png()), Idempotency_Key="once")
        assert status == 201
        assert (await increases()).get('reportd_artifacts_total{duplicate="false"}', 0) == 1 - number


async def test_fsyncs_are_timed_with_full_durability(start, increases, rows):
    for durability, files in (("full", 3), ("none", 0)):
        client = await start(artifacts={"durability": durability})
        run = await (await client.post("/api/v1/reports/suite-runs", json={"name": "x"})).json()
        url = f"/api/v1/reports/suite-runs/{run['id']}/test-cases"
        case = await (await client.post(url, json={"name": "x"})).json()
        await increases(client)
        body = batch([(png(8, 8, seed), f"{seed}.png") for seed in range(3)])
        assert (await post(client, f"/api/v1/reports/test-case-results/{case['id']}/artifacts/batch", body))[0] == 201
        got = await increases(client)
        assert got.get('reportd_fsync_seconds_count{what="file"}', 0) == files
        assert (got.get('reportd_fsync_seconds_count{what="folder"}', 0) > 0) == (files > 0)
        assert (got.get('reportd_fsync_seconds_sum{what="file"}', 0) > 0) == (files > 0)


# --- storage metrics -------------------------------------------------------------------------------------------


async def test_size_and_free_space_of_the_storage_are_reported(client, storage):
    found, disk = await metrics(client), os.statvfs(storage)
    assert found["reportd_storage_up"] == 1
    assert found["reportd_storage_size_bytes"] == disk.f_blocks * disk.f_frsize
    assert 0 <= found["reportd_storage_free_bytes"] <= found["reportd_storage_size_bytes"]
    several = await asyncio.gather(*[metrics(client) for _ in range(9)])
    assert {found["reportd_storage_up"] for found in several} == {1}
    free = disk.f_bavail * disk.f_frsize
    assert abs(found["reportd_storage_free_bytes"] - free) < max(free, 1 << 30)


async def measured(client):
    """The metrics, after the server has counted every day and measured the growth."""
    pool = client.app[SERVICES].pool
    await usage.count(pool)
    while (await usage.total(pool, None)).uncounted:
        await usage.count(pool)
    await client.app[SERVICES].free_space.measure_growth(pool)
    return await metrics(client)


async def test_days_until_full_are_computed_from_the_growth_of_the_last_30_days(client, case_url, rows):
    assert (await measured(client))["reportd_storage_days_until_full"] == math.inf
    case = await case_url()
    files = [png(8, 8), png(16, 16), png(32, 32)]
    for number, content in enumerate(files):
        body = single(content, step_number=number)
        assert (await post(client, f"{case}/artifacts", body))[0] == 201
    found = await measured(client)
    uploaded = sum(map(len, files))
    assert found["reportd_storage_days_until_full"] == found["reportd_storage_free_bytes"] / uploaded
    # The server is 40 days old. One of the files is older than 30 days, one is slightly younger.
    now = rows("SELECT extract(epoch FROM now())::float AS now")[0]["now"]
    rows(
        "INSERT INTO test_case_results (id, suite_run_id, project_id, name, test_id)"
        " SELECT %s, suite_run_id, project_id, 'first', 'first' FROM test_case_results",
        lowest_id(now - 40 * 86_400),
    )
    for number, days in ((0, 31.1), (1, 29.9)):
        rows("UPDATE test_artifacts SET id = %s WHERE step_number = %s", lowest_id(now - days * 86_400), number)
    found = await measured(client)
    daily = (uploaded - len(files[0])) / (30 + now % 86_400 / 86_400)  # 30 days, and today so far
    expected = found["reportd_storage_free_bytes"] / daily
    assert found["reportd_storage_days_until_full"] == pytest.approx(expected, rel=1e-3)


class Counts:
    """In place of a pool: what sql/usage.sql growth returns."""

    def __init__(self, **row):
        self.row = row

    async def fetchrow(self, *_):
        return self.row


async def test_days_until_full_are_not_known_while_days_are_not_counted(client):
    """As after an upgrade: a growth that is too low would hide that the disk fills."""
    space = FreeSpace(client.app[SERVICES].storage, 0)
    first = datetime.now(UTC).date() - timedelta(days=9)
    for uncounted, known in ((0, True), (1, False), (0, True)):
        await space.measure_growth(Counts(bytes=1000, first_day=first, uncounted=uncounted))
        assert ((await space.measure()).days is not None) == known
    await space.measure_growth(Counts(bytes=0, first_day=None, uncounted=0))
    assert (await space.measure()).days is None


async def test_days_until_full_are_left_out_until_they_have_been_measured(config, aiohttp_client):
    """The growth cannot be measured without the database. A value of 0 days would trigger an alert."""
    away = msgspec.structs.replace(config.database, dsn="postgresql://postgres@/x?host=/nonexistent")
    public = msgspec.structs.replace(config.auth, metrics_public=True)
    client = await aiohttp_client(create_app(msgspec.structs.replace(config, database=away, auth=public)))
    found = await metrics(client)
    assert found["reportd_storage_up"] == 1 and "reportd_storage_days_until_full" not in found


async def test_a_background_task_measures_days_until_full(client):
    async with asyncio.timeout(60):
        while "reportd_storage_days_until_full" not in await metrics(client):
            await asyncio.sleep(0.02)


async def test_without_the_storage_the_other_metrics_are_still_reported(client, storage):
    shutil.rmtree(storage)
    found = await metrics(client)
    assert found["reportd_storage_up"] == 0 and "reportd_body_bytes_total" in str(found)
    assert [name for name in found if name.startswith("reportd_storage_")] == ["reportd_storage_up"]
    client.app[SERVICES].storage.staging.mkdir(parents=True)
    assert (await metrics(client))["reportd_storage_up"] == 1


async def test_a_storage_call_that_fails_after_its_timeout_logs_no_error(client, monkeypatch, caplog):
    proceed, failed = threading.Event(), threading.Event()

    def stalling(path):
        assert proceed.wait(120)
        failed.set()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", stalling)
        assert (await metrics(client))["reportd_storage_up"] == 0
        proceed.set()
        await asyncio.to_thread(failed.wait)
        await asyncio.sleep(0.1)
    assert (await metrics(client))["reportd_storage_up"] == 1
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_a_stalled_storage_does_not_delay_scrapes_and_blocks_only_one_thread(client, monkeypatch):
    proceed, calls, statvfs = threading.Event(), [], os.statvfs

    def stalling(path):
        calls.append(path)
        assert proceed.wait(120)
        return statvfs(path)

    monkeypatch.setattr(os, "statvfs", stalling)
    try:
        for _ in range(2):
            assert (await metrics(client))["reportd_storage_up"] == 0
        # Concurrent scrapes share the blocked call, so the other storage threads stay free.
        assert {
            found["reportd_storage_up"] for found in await asyncio.gather(*[metrics(client) for _ in range(9)])
        } == {0}
        assert len(calls) == 1
        assert await ready(client) == "ready"
    finally:
        proceed.set()
    async with asyncio.timeout(60):
        while (await metrics(client))["reportd_storage_up"] == 0:
            await asyncio.sleep(0.01)


async def test_the_migrations_folder_is_read_once(client, monkeypatch):
    assert (await client.get("/readyz")).status == 200

    def reads(*_):
        raise AssertionError("the migrations folder is read again")

    monkeypatch.setattr("server.database.migrate.data_folder", reads)
    assert (await client.get("/readyz")).status == 200
