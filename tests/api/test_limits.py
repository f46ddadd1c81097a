"""GET /limits: what the server accepts and offers, and who the caller is."""

import re

import pytest

from server import __version__
from tests.people import logged_in

LIMITS = "/api/v1/reports/limits"


async def limits_of(client, **headers):
    reply = await client.get(LIMITS, headers=headers)
    assert reply.status == 200, await reply.text()
    return await reply.json()


async def test_the_limits_are_those_of_the_configuration(start):
    types = ["text/plain", "image/png"]
    artifacts = {"max_file_size": 123_456, "batch_max_files": 7, "allowed_types": types}
    found = await limits_of(await start(artifacts=artifacts, api={"max_json_size": 1 << 20}))
    assert found.pop("features") is not None
    assert re.fullmatch(r"token-\d+", found.pop("caller")), "the name that the fixture gave to the token"
    assert found == {
        "version": __version__,
        "max_file_size": 123_456,
        "batch_max_files": 7,
        "allowed_types": types,
        "json_body_max": 1 << 20,
        "project": None,
        "role": "admin",
    }


@pytest.mark.parametrize("role", ["viewer", "uploader", "admin"])
async def test_every_role_may_ask_and_sees_its_own(nobody, make_token, role):
    found = await limits_of(nobody, Authorization=f"Bearer {make_token(project='web', role=role)}")
    assert (found["project"], found["role"]) == ("web", role)


async def test_a_person_with_several_projects_sees_the_highest_role(nobody, make_user):
    person = await logged_in(nobody, make_user(web="viewer", default="uploader"))
    found = await limits_of(nobody, **person)
    assert (found["project"], found["role"]) == (None, "uploader")


async def test_without_a_token_nothing_is_said(nobody):
    assert (await nobody.get(LIMITS)).status == 401
