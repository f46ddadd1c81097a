"""Fixtures of the tests that call the functions of server/reports/ themselves."""

import asyncpg
import orjson
import pytest


@pytest.fixture
async def connect(dsn):
    """await connect(): a new connection to the test database, configured like those of the pool."""
    opened = []

    async def made():
        connection = await asyncpg.connect(dsn, server_settings={"timezone": "UTC"})
        codec = {"encoder": bytes, "decoder": orjson.Fragment, "format": "binary"}
        await connection.set_type_codec("json", schema="pg_catalog", **codec)
        opened.append(connection)
        return connection

    yield made
    for connection in opened:
        await connection.close()
