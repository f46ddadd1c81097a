"""Whether the server lives, whether it is ready, and its figures."""

import re
import shutil

import msgspec
import pytest

from server import migrate
from server.app import create_app
from server.context import STORAGE


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
    client.app[STORAGE].staging.mkdir(parents=True)
    assert await ready(client) == "ready"


async def test_being_ready_leaves_nothing_in_the_storage(client, stored_files):
    await ready(client)
    assert stored_files() == []


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
