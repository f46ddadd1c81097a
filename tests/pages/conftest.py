"""Fixtures of the tests of pages."""

import pytest

from server.services import SERVICES

EVIL = "<script>alert(1)</script>\u202e\x1b[31m&\"'"  # in every text field: must come out as text


@pytest.fixture
def visit(client):
    """await visit(path, status=200, **headers): the HTML of a page."""

    async def get(path, status=200, **headers):
        reply = await client.get(path, headers=headers)
        assert reply.status == status and reply.content_type == "text/html", await reply.text()
        return await reply.text()

    return get


@pytest.fixture
def database_away(client, monkeypatch):
    """database_away(): from now on, no connection to the database can be had."""

    def refuse(*_):
        raise ConnectionRefusedError("the database is away")

    return lambda: monkeypatch.setattr(type(client.app[SERVICES].pool), "acquire", refuse)
