"""Whether the server lives, whether it is ready, and its figures."""

import asyncio
import errno
import gc
import math
import os
import re
import shutil
import threading

import msgspec
import pytest

from server.app import create_app
from server.database import migrate
from server.ids import lowest_id
from server.services import SERVICES
from tests.forms import batch, post, single
from tests.makers import png


async def ready(client):
    reply = await client.get("/readyz")
    body = await reply.json()
    if reply.status == 503:
        assert int(reply.headers["Retry-After"]) >= 1
        return body["code"]
    assert (reply.status, body) == (200, {"status": "ready"})
    return "ready"


async def test_a_server_that_lives_and_is_ready(client):
    reply = await client.get("/healthz")
    assert (reply.status, await reply.json()) == (200, {"status": "ok"})
    assert await ready(client) == "ready"


async def test_a_database_that_is_away_is_named(config, aiohttp_client):
    """The server starts all the same, and says so."""
    away = msgspec.structs.replace(config.database, dsn="postgresql://postgres@/x?host=/nonexistent")
    client = await aiohttp_client(create_app(msgspec.structs.replace(config, database=away)))
    assert await ready(client) == "database_unavailable"
    assert "database" in (await (await client.get("/readyz")).json())["detail"]
    assert (await client.get("/healthz")).status == 200


async def test_an_old_schema_is_named_until_it_is_migrated(client, dsn):
    migrate.rollback(dsn, 1)  # a migration that only drops something: no server needs it
    assert await ready(client) == "ready"
    migrate.rollback(dsn, 1)
    assert await ready(client) == "schema_outdated"
    migrate.apply(dsn)
    assert await ready(client) == "ready"


async def test_an_empty_database_is_an_old_schema(client, dsn, rows):
    for table in ("_yoyo_migration", "yoyo_lock", "_yoyo_log", "_yoyo_version"):
        rows(f"DROP TABLE {table}")
    assert await ready(client) == "schema_outdated"


async def test_a_newer_schema_is_no_hindrance(client, rows):
    """A new server migrates while old ones still serve."""
    rows(
        "INSERT INTO _yoyo_migration (migration_hash, migration_id, applied_at_utc)"
        " VALUES (repeat('0', 64), '9999_from_the_future', now())"
    )
    assert await ready(client) == "ready"


async def test_a_storage_that_cannot_be_written_is_named(client, storage):
    shutil.rmtree(storage)
    assert await ready(client) == "storage_unavailable"
    client.app[SERVICES].storage.staging.mkdir(parents=True)
    assert await ready(client) == "ready"


async def test_being_ready_leaves_nothing_in_the_storage(client, stored_files):
    await ready(client)
    assert stored_files() == []


# --- figures ---------------------------------------------------------------------------------------------------


async def figures(client) -> dict[str, float]:
    """Every line of /metrics: its name with its labels, and its value."""
    reply = await client.get("/metrics")
    assert reply.status == 200 and reply.content_type == "text/plain"
    lines = [line for line in (await reply.text()).splitlines() if not line.startswith("#")]
    found = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}
    assert len(found) == len(lines)
    return found


@pytest.fixture
def grown(client):
    """grown(): what each figure has grown by since the last time, the figures that did not left out."""
    last: dict[str, float] = {}

    async def since(of=client):
        now = await figures(of)
        before = dict(last)
        last.clear()
        last.update(now)
        return {name: value - before.get(name, 0) for name, value in now.items() if value != before.get(name, 0)}

    return since


@pytest.mark.parametrize("url", ["/api/v1/reports/suite-runs/{}", "/api/v1/nothing/{}"])
async def test_figures_count_by_route_and_never_by_path(client, url):
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


async def test_latencies_are_told_from_half_a_millisecond_to_a_minute(client):
    await client.get("/healthz")
    found = await figures(client)
    name = 'reportd_request_seconds_bucket{{le="{}",method="GET",route="/healthz"}}'
    bounds = ["0.0005", "0.001", "0.0025", "0.005", "0.01", "0.1", "1.0", "10.0", "60.0", "+Inf"]
    counts = [found[name.format(bound)] for bound in bounds]
    assert counts == sorted(counts) and counts[-1] >= 1


async def test_no_figure_has_a_line_for_its_birth(client):
    """They would be nearly half of all lines."""
    assert [name for name in await figures(client) if "_created" in name] == []


async def test_bytes_of_bodies_are_counted_in_both_directions(client, case_url, grown):
    case, body = await case_url(), single(png())
    await grown()
    text = await (await client.get("/metrics")).text()
    await grown()
    _, artifact = await post(client, f"{case}/artifacts", body)
    got = await grown()
    assert got['reportd_body_bytes_total{direction="received"}'] == len(body)
    # With the reply to the scrape before.
    assert got['reportd_body_bytes_total{direction="sent"}'] > len(text) * 0.9
    assert await (await client.get(artifact["download_url"])).read() == png()
    assert (await grown())['reportd_body_bytes_total{direction="sent"}'] > len(png())


async def test_files_are_counted_by_what_became_of_them(client, case_url, grown):
    case, other = await case_url(), await case_url()
    first, second = png(8, 8, 1), png(9, 9, 2)
    await grown()
    assert (await post(client, f"{case}/artifacts/batch", batch([(first, "a.png"), (second, "b.png")])))[0] == 201
    got = await grown()
    assert got['reportd_artifacts_total{duplicate="false"}'] == 2
    assert got["reportd_artifact_bytes_total"] == len(first) + len(second)
    assert not [name for name in got if "dedupe" in name or "refused" in name]

    # One is there already, one is new here, one is no picture.
    files = [(first, "a.png"), (png(10, 10, 3), "c.png"), (b"\0\1\2", "d.bin")]
    assert (await post(client, f"{case}/artifacts/batch", batch(files)))[0] == 207
    got = await grown()
    assert got['reportd_artifacts_total{duplicate="true"}'] == got['reportd_artifacts_total{duplicate="false"}'] == 1
    assert got['reportd_dedupe_saved_bytes_total{how="resend"}'] == len(first)
    assert got['reportd_artifacts_refused_total{code="file_corrupted"}'] == 1

    # The project has it, this test case does not.
    assert (await post(client, f"{other}/artifacts", single(second)))[0] == 201
    got = await grown()
    assert got['reportd_dedupe_saved_bytes_total{how="hard_link"}'] == len(second)
    assert 'reportd_dedupe_saved_bytes_total{how="resend"}' not in got


async def test_what_is_not_saved_is_not_counted(client, case_url, grown, rows):
    case = await case_url()
    rows("ALTER TABLE test_artifacts ADD CONSTRAINT fails CHECK (file_size < 0) NOT VALID")
    await grown()
    assert (await post(client, f"{case}/artifacts", single(png())))[0] >= 500
    assert not [name for name in await grown() if name.startswith(("reportd_artifact", "reportd_dedupe"))]


async def test_a_replayed_reply_counts_no_file_again(client, case_url, grown):
    case = await case_url()
    for number in range(2):
        await grown()
        status, _ = await post(client, f"{case}/artifacts", single(png()), Idempotency_Key="once")
        assert status == 201
        assert (await grown()).get('reportd_artifacts_total{duplicate="false"}', 0) == 1 - number


async def test_fsyncs_are_timed_where_there_are_any(start, grown, rows):
    for durability, files in (("full", 3), ("none", 0)):
        client = await start(artifacts={"durability": durability})
        run = await (await client.post("/api/v1/reports/suite-runs", json={"name": "x"})).json()
        url = f"/api/v1/reports/suite-runs/{run['id']}/test-cases"
        case = await (await client.post(url, json={"name": "x"})).json()
        await grown(client)
        body = batch([(png(8, 8, seed), f"{seed}.png") for seed in range(3)])
        assert (await post(client, f"/api/v1/reports/test-case-results/{case['id']}/artifacts/batch", body))[0] == 201
        got = await grown(client)
        assert got.get('reportd_fsync_seconds_count{what="file"}', 0) == files
        assert (got.get('reportd_fsync_seconds_count{what="folder"}', 0) > 0) == (files > 0)
        assert (got.get('reportd_fsync_seconds_sum{what="file"}', 0) > 0) == (files > 0)


# --- space -----------------------------------------------------------------------------------------------------


async def test_the_space_of_the_storage(client, storage):
    found, disk = await figures(client), os.statvfs(storage)
    assert found["reportd_storage_up"] == 1
    assert found["reportd_storage_size_bytes"] == disk.f_blocks * disk.f_frsize
    assert 0 <= found["reportd_storage_free_bytes"] <= found["reportd_storage_size_bytes"]
    several = await asyncio.gather(*[figures(client) for _ in range(9)])
    assert {found["reportd_storage_up"] for found in several} == {1}
    free = disk.f_bavail * disk.f_frsize
    assert abs(found["reportd_storage_free_bytes"] - free) < max(free, 1 << 30)


async def measured(client):
    """The figures, after the last day was measured."""
    await client.app[SERVICES].free_space.measure_last_day(client.app[SERVICES].pool)
    return await figures(client)


async def test_the_days_until_the_disk_is_full_are_those_at_the_last_days_rate(client, case_url, rows):
    assert (await measured(client))["reportd_storage_days_until_full"] == math.inf
    case = await case_url()
    files = [png(8, 8), png(16, 16), png(32, 32)]
    for number, content in enumerate(files):
        body = single(content, step_number=number)
        assert (await post(client, f"{case}/artifacts", body))[0] == 201
    found = await measured(client)
    brought = sum(map(len, files))
    assert found["reportd_storage_days_until_full"] == found["reportd_storage_free_bytes"] / brought
    # One of them is older than a day, one nearly so.
    now = rows("SELECT extract(epoch FROM now())::float AS now")[0]["now"]
    for number, hours in ((0, 24.1), (1, 23.9)):
        rows("UPDATE test_artifacts SET id = %s WHERE step_number = %s", lowest_id(now - hours * 3600), number)
    found = await measured(client)
    assert found["reportd_storage_days_until_full"] == found["reportd_storage_free_bytes"] / (brought - len(files[0]))


async def test_the_days_are_not_told_before_they_are_known(config, aiohttp_client):
    """Nothing is measured while the database is away, and 0 days would wake somebody."""
    away = msgspec.structs.replace(config.database, dsn="postgresql://postgres@/x?host=/nonexistent")
    public = msgspec.structs.replace(config.auth, metrics_public=True)
    client = await aiohttp_client(create_app(msgspec.structs.replace(config, database=away, auth=public)))
    found = await figures(client)
    assert found["reportd_storage_up"] == 1 and "reportd_storage_days_until_full" not in found


async def test_the_server_measures_by_itself(client):
    async with asyncio.timeout(60):
        while "reportd_storage_days_until_full" not in await figures(client):
            await asyncio.sleep(0.02)


async def test_a_storage_that_is_missing_leaves_the_other_figures(client, storage):
    shutil.rmtree(storage)
    found = await figures(client)
    assert found["reportd_storage_up"] == 0 and "reportd_body_bytes_total" in str(found)
    assert [name for name in found if name.startswith("reportd_storage_")] == ["reportd_storage_up"]
    client.app[SERVICES].storage.staging.mkdir(parents=True)
    assert (await figures(client))["reportd_storage_up"] == 1


async def test_a_storage_that_fails_when_nobody_waits_any_more_is_no_error(client, monkeypatch, caplog):
    answer, failed = threading.Event(), threading.Event()

    def stalling(path):
        assert answer.wait(120)
        failed.set()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", stalling)
        assert (await figures(client))["reportd_storage_up"] == 0
        answer.set()
        await asyncio.to_thread(failed.wait)
        await asyncio.sleep(0.1)
    assert (await figures(client))["reportd_storage_up"] == 1
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_a_storage_that_stalls_holds_up_no_scrape_and_is_asked_once(client, monkeypatch):
    answer, asked, statvfs = threading.Event(), [], os.statvfs

    def stalling(path):
        asked.append(path)
        assert answer.wait(120)
        return statvfs(path)

    monkeypatch.setattr(os, "statvfs", stalling)
    try:
        for _ in range(2):
            assert (await figures(client))["reportd_storage_up"] == 0
        # Several at once, too; and the other threads of the storage are free.
        assert {
            found["reportd_storage_up"] for found in await asyncio.gather(*[figures(client) for _ in range(9)])
        } == {0}
        assert len(asked) == 1
        assert await ready(client) == "ready"
    finally:
        answer.set()
    async with asyncio.timeout(60):
        while (await figures(client))["reportd_storage_up"] == 0:
            await asyncio.sleep(0.01)


async def test_the_migrations_folder_is_read_once(client, monkeypatch):
    assert (await client.get("/readyz")).status == 200

    def reads(*_):
        raise AssertionError("the migrations folder is read again")

    monkeypatch.setattr("server.database.migrate.data_folder", reads)
    assert (await client.get("/readyz")).status == 200
