"""Evidence links end with the right that made them: each way to lose it, and races with a new link."""

import asyncio

import psycopg
import pytest
from aiohttp import DummyCookieJar
from argon2 import PasswordHasher

from server.auth.tokens import hash_of
from server.services import SERVICES
from tests.observe.test_log import eventually
from tests.people import logged_in

BASE = "/api/v1/reports"
URL = f"{BASE}/links"


@pytest.fixture
async def anybody(client, aiohttp_client):
    """A client that sends no token and keeps no cookie."""
    return await aiohttp_client(client.server, cookie_jar=DummyCookieJar())


@pytest.fixture
async def run(make_run):
    return await make_run(project="default")


@pytest.fixture
def works(client, anybody):
    """await works(link): whether it opens. GET, HEAD and the list must agree."""

    async def check(link):
        seen = [(await anybody.get(link["url"])).status, (await anybody.head(link["url"])).status]
        assert seen in ([200, 200], [404, 404])
        for active in (True, False):
            listed = await (await client.get(URL, params={"active": str(active)})).json()
            assert (link["id"] in [item["id"] for item in listed["items"]]) == (active == (seen[0] == 200))
        return seen[0] == 200

    return check


async def made(anybody, run, headers):
    reply = await anybody.post(URL, json={"suite_run_id": run}, headers=headers)
    assert reply.status == 201, await reply.text()
    return await reply.json()


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def anna(anybody, make_user, run, works):
    """The name of a person who is uploader in `default` and viewer in `theirs`, and a link that she made."""
    name = make_user(default="uploader", theirs="viewer")
    link = await made(anybody, run, await logged_in(anybody, name))
    assert await works(link)
    return name, link


@pytest.mark.parametrize(
    ("roles", "stays"),
    [
        (["default=viewer"], False),
        (["viewer"], False),
        (["theirs=admin"], False),
        (["theirs=admin", "default=viewer"], False),
        (["default=uploader"], True),
        (["default=admin"], True),
        (["uploader"], True),
        (["default=viewer", "admin"], True),
    ],
)
async def test_a_link_ends_when_its_makers_role_in_the_project_does(anna, works, command, roles, stays):
    name, link = anna
    options = [option for role in roles for option in ("--role", role)]
    assert command("user", "set-roles", name, *options)[0] == 0
    assert await works(link) == stays
    # Given back, the role makes new links only.
    assert command("user", "set-roles", name, "--role", "default=uploader")[0] == 0
    assert await works(link) == stays


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE users SET disabled_at = now()",
        "UPDATE user_roles SET role = 'viewer'",
        "DELETE FROM user_roles",
        "UPDATE user_roles SET project_id = (SELECT id FROM projects WHERE name = 'theirs') WHERE role = 'uploader'",
        "DELETE FROM users",
    ],
)
async def test_a_link_does_not_open_while_the_tables_give_its_maker_no_right(anna, works, rows, change):
    """Also when something other than `reportd user` changed them, or a reportd of an older version."""
    rows("DELETE FROM user_roles WHERE role = 'viewer'")
    assert await works(anna[1])
    rows(change)
    assert not await works(anna[1])


async def test_a_link_of_a_disabled_person_stays_ended(anna, works, command, anybody, run, rows):
    name, link = anna
    command("user", "disable", name)
    assert not await works(link)
    (row,) = rows("SELECT revoked_at FROM evidence_links")
    command("user", "disable", name)
    command("user", "enable", name)
    assert not await works(link) and rows("SELECT revoked_at FROM evidence_links") == [row]
    assert await works(await made(anybody, run, await logged_in(anybody, name)))


async def test_a_link_ends_with_a_new_password(anna, works, command, anybody, run, make_user):
    name, link = anna
    other = await made(anybody, run, await logged_in(anybody, make_user(default="admin")))
    assert command("user", "reset-password", name, "--generate")[0] == 0
    assert not await works(link) and await works(other)


async def test_a_new_hash_of_the_same_password_ends_no_link(anna, works, rows, anybody, monkeypatch):
    monkeypatch.setattr("server.auth.passwords._hasher", PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1))
    before = rows("SELECT password_hash FROM users")
    await logged_in(anybody, anna[0])
    assert rows("SELECT password_hash FROM users") != before and await works(anna[1])


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        (("revoke", "ci"), False),
        (("rotate", "ci", "--overlap", "0h"), False),
        (("rotate", "ci", "--overlap", "0d", "--expires", "1d"), False),
        (("rotate", "ci"), True),
        (("rotate", "ci", "--overlap", "1h"), True),
        (("revoke", "another"), True),
    ],
)
async def test_a_link_ends_when_its_token_is_revoked_or_rotated_without_overlap(
    anybody, run, works, command, make_token, change, stays
):
    make_token(name="another", role="uploader")
    link = await made(anybody, run, bearer(make_token(name="ci", project="default", role="uploader")))
    assert await works(link)
    assert command("token", *change)[0] == 0
    assert await works(link) == stays


async def test_the_end_of_an_overlap_ends_no_link_and_a_second_rotation_without_one_does(
    anybody, run, works, command, make_token, rows
):
    link = await made(anybody, run, bearer(make_token(name="ci", project="default", role="uploader")))
    command("token", "rotate", "ci", "--overlap", "1h")
    rows("UPDATE former_secrets SET expires_at = now() - interval '1 s'")
    assert await works(link)
    command("token", "rotate", "ci", "--overlap", "0h")
    assert not await works(link)


@pytest.mark.parametrize(
    "change",
    [
        "revoked_at = now()",
        "expires_at = now() - interval '1 s'",
        "role = 'viewer'",
        "project_id = (SELECT id FROM projects WHERE name = 'theirs')",
    ],
)
async def test_a_link_does_not_open_while_its_token_has_no_right(anybody, run, works, make_token, rows, change):
    make_token(project="theirs")
    link = await made(anybody, run, bearer(make_token(name="ci", project="default", role="uploader")))
    rows("UPDATE tokens SET role = 'admin', project_id = NULL WHERE name = 'ci'")
    assert await works(link)
    rows(f"UPDATE tokens SET {change} WHERE name = 'ci'")
    assert not await works(link)


async def test_a_link_made_without_a_token_ends_when_the_server_needs_one(anybody, run, works, start):
    everybody = await start(auth={"required": False})
    del everybody.session.headers["Authorization"]
    reply = await everybody.post(URL, json={"suite_run_id": run})
    link = await reply.json()
    assert reply.status == 201 and (await everybody.get(link["url"])).status == 200
    assert [item["id"] for item in (await (await everybody.get(f"{URL}?active=1")).json())["items"]] == [link["id"]]
    assert not await works(link)


# --- links that are made while the right is lost ---------------------------------------------------------------


async def test_a_cached_caller_makes_no_link(client, anybody, run, command, make_token, make_user, rows):
    """Callers are cached for 5 seconds. Otherwise a link made in that time would outlive the revocation by 90 days."""
    name, secret = make_user(default="uploader"), make_token(name="ci", role="uploader")
    person, token = await logged_in(anybody, name), bearer(secret)
    for headers in (person, token):
        await made(anybody, run, headers)
    changes = [
        (person, ("user", "set-roles", name, "--role", "default=viewer"), 403),
        (person, ("user", "set-roles", name, "--role", "theirs=admin"), 404),
        (person, ("user", "reset-password", name, "--generate"), 401),
        (token, ("token", "rotate", "ci", "--overlap", "0h"), 401),
    ]
    cached = dict(client.app[SERVICES].callers)
    for headers, change, status in changes:
        assert command(*change)[0] == 0
        client.app[SERVICES].callers.update(cached)
        assert (await anybody.post(URL, json={"suite_run_id": run}, headers=headers)).status == status, change
    assert [row["live"] for row in rows("SELECT revoked_at IS NULL AS live FROM evidence_links")] == [False, False]


@pytest.mark.parametrize("of", ["token", "person"])
async def test_a_link_waits_for_a_revocation_in_progress(anybody, run, make_token, make_user, dsn, rows, of):
    if of == "token":
        secret = make_token(name="ci", role="uploader")
        headers, change = bearer(secret), "UPDATE tokens SET revoked_at = now() WHERE token_hash = %s"
        parameters = [hash_of(secret)]
    else:
        name = make_user(default="uploader")
        headers, change = await logged_in(anybody, name), "UPDATE users SET disabled_at = now() WHERE name = %s"
        parameters = [name]
    await anybody.get(f"{BASE}/suite-runs", headers=headers)
    with psycopg.connect(dsn) as connection:
        connection.execute(change, parameters)
        request = asyncio.create_task(anybody.post(URL, json={"suite_run_id": run}, headers=headers))
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        await eventually(lambda: rows(waits) != [])
        connection.commit()
    assert (await request).status == 401 and rows("SELECT * FROM evidence_links") == []
