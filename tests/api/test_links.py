"""Evidence links: how they are signed, created, listed and revoked. Opening them is tested in test_shared.py."""

import asyncio
import hmac
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime, timedelta

import psycopg
import pytest
from aiohttp import DummyCookieJar
from hypothesis import given
from hypothesis import strategies as st

from server.auth import evidence_links as links
from server.database.queries import SQL
from tests.api.test_steps import send_png
from tests.observe.test_log import eventually
from tests.people import logged_in
from tests.test_access import bearing, queries

__all__ = ["queries"]  # a fixture

BASE = "/api/v1/reports"
URL = f"{BASE}/links"
KEY, OTHER_KEY = bytes(range(32)), bytes(32)
ID = uuid.UUID("019aa0c2-7a1b-7c3d-9e4f-5a6b7c8d9e0f")
EXPIRES = 2_000_000_000
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
FIELDS = [
    *("id", "suite_run_id", "test_case_result_id", "artifact_id", "created_by", "created_at", "expires_at"),
    *("revoked_at", "note", "opened", "downloads", "last_used_at"),
]


# --- signatures ------------------------------------------------------------------------------------------------


@given(st.uuids(), st.integers(1, 2**40 - 1), st.binary(min_size=32, max_size=32))
def test_a_signed_link_can_be_read_until_it_expires(link_id, expires, key):
    text = links.sign(key, link_id, expires)
    assert links.well_formed(text) and text.startswith("rpl_") and len(text) == 54
    assert links.read(key, text, expires - 1) == link_id
    assert links.read(key, text, expires) is links.read(key, text, expires + 1) is None


def test_a_link_with_one_changed_character_is_not_valid():
    """Changes each character to each other one: in the id, the expiry, the signature and the unused bits."""
    text = links.sign(KEY, ID, EXPIRES)
    for at in range(len(text)):
        for other in ALPHABET:
            changed = text[:at] + other + text[at + 1 :]
            assert changed == text or not links.well_formed(changed) or links.read(KEY, changed, 0) is None, changed
    assert links.read(KEY, text, 0) == ID


def test_a_truncated_extended_or_differently_spelled_link_is_not_well_formed():
    text = links.sign(KEY, ID, EXPIRES)
    texts = [*(text[:size] for size in range(len(text))), text + "A", text + "=", text + "\n", " " + text, "x" * 54]
    texts += [text.upper(), text.removeprefix("rpl_"), text.replace("rpl_", "rpt_"), "ｒ" + text[1:]]
    assert [wrong for wrong in texts if links.well_formed(wrong)] == []
    assert links.read(KEY, text[:4] + text[4:].swapcase(), 0) is None


def test_a_signature_covers_the_key_the_id_the_expiry_and_the_purpose():
    text = links.sign(KEY, ID, EXPIRES)
    raw = urlsafe_b64decode(text[4:] + "==")
    assert links.read(OTHER_KEY, text, 0) is None
    later, other = links.sign(KEY, ID, EXPIRES + 1), links.sign(KEY, uuid.uuid4(), EXPIRES)
    for body, signature in [(later, text), (other, text), (text, later)]:
        mixed = urlsafe_b64decode(body[4:] + "==")[:21] + urlsafe_b64decode(signature[4:] + "==")[21:]
        assert links.read(KEY, "rpl_" + urlsafe_b64encode(mixed).decode().rstrip("="), 0) is None
    # A signature that lacks the purpose's prefix is not valid, although it is made with the same key.
    plain = raw[:21] + hmac.digest(KEY, raw[:21], "sha256")[:16]
    assert links.read(KEY, "rpl_" + urlsafe_b64encode(plain).decode().rstrip("="), 0) is None


def test_unused_bits_must_be_zero():
    """The last character has four unused bits: without the check, sixteen texts would be the same link."""
    text = links.sign(KEY, ID, EXPIRES)
    same = [text[:-1] + last for last in ALPHABET if urlsafe_b64decode(text[4:-1] + last + "==") == _bytes(text)]
    assert len(same) == 16 and [other for other in same if links.read(KEY, other, 0)] == [text]


def _bytes(text):
    return urlsafe_b64decode(text[4:] + "==")


# --- creating --------------------------------------------------------------------------------------------------


@pytest.fixture
async def things(client, make_run, make_case):
    """The ids of a run, a test case result and an artifact of the default project, by their field names."""
    run = await make_run(project="default")
    case = await make_case(run=run)
    artifact = await send_png(client, f"{BASE}/test-case-results/{case}")
    return {"suite_run_id": run, "test_case_result_id": case, "artifact_id": artifact}


@pytest.fixture
def make_link(client):
    """await make_link(suite_run_id=…): creates a link and returns the decoded reply."""

    async def make(headers=None, **body):
        reply = await client.post(URL, json=body, headers=headers)
        assert reply.status == 201, await reply.text()
        return await reply.json()

    return make


def moment(text):
    return datetime.fromisoformat(text)


async def test_a_link_can_be_created_for_a_run_a_test_case_and_an_artifact(client, things, make_link, rows):
    for name, thing in things.items():
        made = await make_link(**{name: thing}, note="for the vendor", expires_in=3600)
        assert list(made) == [*FIELDS, "url"]
        assert made[name] == thing and [made[other] for other in things if other != name] == [None, None]
        assert made["url"].startswith("/shared/rpl_") and made["note"] == "for the vendor"
        assert made["created_by"].startswith("token-") and (made["opened"], made["downloads"]) == (0, 0)
        assert made["revoked_at"] is made["last_used_at"] is None
        lasts = moment(made["expires_at"]) - moment(made["created_at"])
        assert abs(lasts - timedelta(hours=1)) < timedelta(seconds=60)
        # The id has the bucket of its run. The secret part of the link is not stored.
        assert made["id"][15:18] == thing[15:18] and made["id"][14] == "7"
        (row,) = rows("SELECT to_jsonb(l)::text AS text FROM evidence_links l WHERE id = %s", made["id"])
        assert made["url"].removeprefix("/shared/rpl_")[28:] not in row["text"]
    assert abs(await _days(make_link, things) - 7) < 0.001


async def _days(make_link, things):
    made = await make_link(suite_run_id=things["suite_run_id"])
    return (moment(made["expires_at"]) - moment(made["created_at"])) / timedelta(days=1)


async def test_wrong_values_are_refused(client, things, rows):
    run, case, artifact = things.values()
    exactly_one = "must have exactly one of suite_run_id, test_case_result_id, artifact_id"
    for body, path, message in [
        ({}, "", exactly_one),
        (dict.fromkeys(things), "", exactly_one),
        ({"suite_run_id": run, "artifact_id": artifact}, "", exactly_one),
        (things, "", exactly_one),
        ({"suite_run_id": "x"}, "suite_run_id", ""),
        ({"suite_run_id": run, "expires_in": 59}, "expires_in", "must be at least 60"),
        ({"suite_run_id": run, "expires_in": 7_776_001}, "expires_in", "must be at most 7776000"),
        ({"suite_run_id": run, "expires_in": 1e99}, "expires_in", ""),
        ({"suite_run_id": run, "expires_in": "60"}, "expires_in", "must be"),
        ({"test_case_result_id": case, "note": [5]}, "note", "must be a string or null, not an array"),
    ]:
        reply = await client.post(URL, json=body)
        error = await reply.json()
        assert reply.status == 422, (body, error)
        assert error["errors"][0]["path"] == path and message in error["errors"][0]["message"], error
    for body, text in [
        ({"suite_run_id": case}, "Suite run not found"),
        ({"test_case_result_id": run}, "Test case result not found"),
        ({"artifact_id": str(uuid.uuid4())}, "Artifact not found"),
    ]:
        reply = await client.post(URL, json=body)
        assert reply.status == 404 and (await reply.json())["detail"] == text
    assert rows("SELECT * FROM evidence_links") == []


async def test_the_shortest_and_the_longest_expiry_are_accepted(make_link, things):
    for seconds in (60, 7_776_000):
        made = await make_link(artifact_id=things["artifact_id"], expires_in=seconds, note="x" * 255)
        assert abs((moment(made["expires_at"]) - moment(made["created_at"])).total_seconds() - seconds) < 60


async def test_another_projects_object_gets_the_reply_of_a_missing_one(client, things, make_token):
    theirs = {"Authorization": f"Bearer {make_token(project='theirs')}"}
    for name, thing in things.items():
        reply = await client.post(URL, json={name: thing}, headers=theirs)
        missing = await client.post(URL, json={name: str(uuid.uuid4())}, headers=theirs)
        assert reply.status == missing.status == 404
        assert (await reply.json())["code"] == (await missing.json())["code"]


async def test_an_idempotency_key_is_ignored(make_link, things, rows):
    """A stored reply would contain the secret of the link."""
    thing = {"suite_run_id": things["suite_run_id"]}
    made = [await make_link(**thing, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert made[0]["id"] != made[1]["id"] and rows("SELECT FROM idempotency_replies") == []


@pytest.mark.parametrize("name", ["suite_run_id", "test_case_result_id", "artifact_id"])
async def test_an_object_deleted_at_the_same_time_gets_no_link(client, things, dsn, rows, name, monkeypatch):
    """The deletion is not yet committed, or comes between the lookup of the object and the insert of the link."""
    noun, table = {
        "suite_run_id": ("suite_runs", "suite_runs"),
        "test_case_result_id": ("test_cases", "test_case_results"),
        "artifact_id": ("artifacts", "test_artifacts"),
    }[name]
    with psycopg.connect(dsn) as connection:
        connection.execute(f"DELETE FROM {table} WHERE id = %s", [things[name]])
        request = asyncio.create_task(client.post(URL, json={name: things[name]}))
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        await eventually(lambda: rows(waits) != [])
        connection.commit()
    assert (await request).status == 404
    any_project = "SELECT id FROM projects WHERE $1::uuid IS NOT NULL OR $2::uuid IS NULL"
    monkeypatch.setattr(getattr(SQL, noun), "project_of", any_project)
    reply = await client.post(URL, json={name: things[name]})
    assert reply.status == 404 and (await reply.json())["detail"].endswith("not found")
    assert rows("SELECT * FROM evidence_links") == []


# --- listing ---------------------------------------------------------------------------------------------------


async def listed(client, **query):
    reply = await client.get(URL, params=query)
    assert reply.status == 200, await reply.text()
    assert "rpl_" not in await reply.text()
    return await reply.json()


async def test_the_list_is_newest_first_and_paged_by_cursor(client, things, make_link):
    names = list(things)
    made = [(await make_link(**{names[i % 3]: things[names[i % 3]]}))["id"] for i in range(7)]
    whole_list = await listed(client)
    assert [link["id"] for link in whole_list["items"]] == made[::-1] and whole_list["next_cursor"] is None
    assert list(whole_list["items"][0]) == FIELDS
    found, cursor = [], ""
    while cursor is not None:
        page = await listed(client, limit=3, cursor=cursor)
        assert 1 <= len(page["items"]) <= 3
        found += [link["id"] for link in page["items"]]
        cursor = page["next_cursor"]
    assert found == made[::-1]
    for name, thing in things.items():
        assert {link[name] for link in (await listed(client, **{name: thing}))["items"]} == {thing}
    assert (await listed(client, suite_run_id=str(uuid.uuid4())))["items"] == []
    for query in ("limit=0", "cursor=x", "cursor=" + "A" * 101, "active=maybe", "artifact_id=x"):
        assert (await client.get(f"{URL}?{query}")).status == 422


async def test_the_list_can_be_limited_to_active_links(client, things, make_link, rows):
    run = things["suite_run_id"]
    live, expired, revoked = [(await make_link(suite_run_id=run))["id"] for _ in range(3)]
    rows("UPDATE evidence_links SET expires_at = now() WHERE id = %s", expired)
    assert (await client.delete(f"{URL}/{revoked}")).status == 204
    assert [link["id"] for link in (await listed(client, active="true"))["items"]] == [live]
    assert [link["id"] for link in (await listed(client, active="false"))["items"]] == [revoked, expired]
    assert len((await listed(client))["items"]) == 3


async def test_the_list_shows_what_the_caller_may_see(client, things, make_link, make_run, make_token):
    ours = (await make_link(suite_run_id=things["suite_run_id"]))["id"]
    for project, seen in [("default", [ours]), ("theirs", []), (None, [ours])]:
        token = make_token(project=project, role="uploader")
        reply = await client.get(URL, headers={"Authorization": f"Bearer {token}"})
        assert [link["id"] for link in (await reply.json())["items"]] == seen


# --- revoking --------------------------------------------------------------------------------------------------


async def test_revoking_a_link_again_changes_nothing(client, things, make_link, rows):
    link = await make_link(artifact_id=things["artifact_id"])
    assert (await client.delete(f"{URL}/{link['id']}")).status == 204
    (before,) = rows("SELECT * FROM evidence_links")
    assert before["revoked_at"] is not None
    assert (await client.delete(f"{URL}/{link['id']}")).status == 204
    assert rows("SELECT * FROM evidence_links") == [before]
    assert (await listed(client))["items"][0]["revoked_at"] is not None


async def test_only_its_creator_or_an_admin_can_revoke_a_link(client, things, make_link, make_token, rows):
    callers = {
        (project, role): {"Authorization": f"Bearer {make_token(project=project, role=role)}"}
        for project in ("default", "theirs", None)
        for role in ("viewer", "uploader", "admin")
    }
    other = {"Authorization": f"Bearer {make_token(project='default', role='uploader')}"}
    run = {"suite_run_id": things["suite_run_id"]}
    for (project, role), headers in callers.items():
        link = (await make_link(**run, headers=other))["id"]
        wanted = {"viewer": 403, "uploader": 403, "admin": 204}[role] if project != "theirs" else 404
        reply = await client.delete(f"{URL}/{link}", headers=headers)
        assert reply.status == wanted, (project, role)
        if wanted == 403:
            error = await reply.json()
            assert error["code"] == "role_too_small" and f"yours is {role}" in error["detail"]
        assert (rows("SELECT revoked_at FROM evidence_links WHERE id = %s", link)[0]["revoked_at"] is None) == (
            wanted != 204
        )
    for project in ("default", None):
        headers = callers[project, "uploader"]
        link = (await make_link(**run, headers=headers))["id"]
        assert (await client.delete(f"{URL}/{link}", headers=headers)).status == 204
    for wrong in (str(uuid.uuid4()), "x", link.upper().replace("-", "")):
        reply = await client.delete(f"{URL}/{wrong}")
        assert reply.status == 404 and (await reply.json())["detail"] == "Link not found"


async def test_a_session_cookie_of_a_token_cannot_create_or_revoke(
    aiohttp_client, client, things, make_link, make_token, rows
):
    nobody = await aiohttp_client(client.server, cookie_jar=DummyCookieJar())
    _, cookie = await bearing(nobody, make_token())
    link = (await make_link(suite_run_id=things["suite_run_id"]))["id"]
    assert (await nobody.get(URL, headers=cookie)).status == 200
    assert (await nobody.post(URL, json={"suite_run_id": things["suite_run_id"]}, headers=cookie)).status == 401
    assert (await nobody.delete(f"{URL}/{link}", headers=cookie)).status == 401
    assert [row["revoked_at"] for row in rows("SELECT revoked_at FROM evidence_links")] == [None]


# --- the database ----------------------------------------------------------------------------------------------


async def test_a_link_is_deleted_with_its_object(client, things, make_link, rows):
    def left():
        return {str(row["id"]) for row in rows("SELECT id FROM evidence_links")}

    of = {name: (await make_link(**{name: thing}))["id"] for name, thing in things.items()}
    assert (await client.delete(f"{BASE}/artifacts/{things['artifact_id']}")).status == 204
    assert left() == {of["suite_run_id"], of["test_case_result_id"]}
    assert (await client.delete(f"{BASE}/suite-runs/{things['suite_run_id']}")).status == 204
    assert left() == set()


def test_a_link_without_an_object_is_refused_by_the_database(rows, dsn):
    insert = "INSERT INTO evidence_links (id, project_id, caller_id, expires_at) SELECT %s, id, id, now() FROM projects"
    with pytest.raises(psycopg.errors.CheckViolation):
        rows(insert, uuid.uuid4())


async def test_opening_a_link_creates_no_signing_key(client, rows):
    forged = links.sign(KEY, ID, EXPIRES)
    assert (await client.get(f"/shared/{forged}")).status == 404
    assert rows("SELECT * FROM signing_keys") == []


async def test_concurrent_servers_create_one_signing_key_and_cache_it(client, start, things, make_link, rows, queries):
    others = [await start() for _ in range(3)]
    body = {"suite_run_id": things["suite_run_id"]}
    replies = await asyncio.gather(*(app.post(URL, json=body) for app in [client, *others] for _ in range(3)))
    assert {reply.status for reply in replies} == {201}
    (key,) = rows("SELECT purpose, length(key) AS length FROM signing_keys")
    assert key == {"purpose": "evidence_links", "length": 32}
    for reply in replies:
        url = (await reply.json())["url"]
        assert [(await app.get(url)).status for app in [client, *others]] == [200] * 4
    queries.clear()
    await make_link(**body)
    asked = [query for query in queries if query not in ("BEGIN;", "COMMIT;")]
    assert len(asked) == 6 and not any("signing_keys" in query for query in asked)


# --- users with several projects, and the audit trail ----------------------------------------------------------


async def test_a_role_in_another_project_does_not_count(client, aiohttp_client, make_user, make_token, make_run):
    make_token(project="theirs")
    nobody = await aiohttp_client(client.server, cookie_jar=DummyCookieJar())
    run = {"suite_run_id": await make_run(project="default")}
    admin, viewer, uploader = [
        await logged_in(nobody, make_user(default=role, theirs=other))
        for role, other in [("admin", "viewer"), ("viewer", "admin"), ("uploader", "admin")]
    ]
    assert (await nobody.post(URL, json=run, headers=viewer)).status == 403
    refused = await (await nobody.post(URL, json=run, headers=viewer)).json()
    assert refused["detail"] == "This needs the role uploader; yours is viewer."
    made = await (await nobody.post(URL, json=run, headers=admin)).json()
    own = await (await nobody.post(URL, json=run, headers=uploader)).json()
    for who, seen in [(admin, {made["id"], own["id"]}), (uploader, {made["id"], own["id"]}), (viewer, set())]:
        page = await (await nobody.get(URL, headers=who)).json()
        assert {link["id"] for link in page["items"]} == seen
    for who, link, status in [
        (viewer, made, 403),
        (uploader, made, 403),
        (uploader, own, 204),
        (admin, made, 204),
    ]:
        assert (await nobody.delete(f"{URL}/{link['id']}", headers=who)).status == status
    other = await logged_in(nobody, make_user(theirs="admin", elsewhere="admin"))
    assert (await nobody.post(URL, json=run, headers=other)).status == 404
    assert (await nobody.delete(f"{URL}/{made['id']}", headers=other)).status == 404


async def test_creating_and_revoking_write_audit_entries(client, things, make_link, rows):
    made = await make_link(artifact_id=things["artifact_id"], note="for the vendor")
    for _ in range(2):
        assert (await client.delete(f"{URL}/{made['id']}")).status == 204
    await client.post(URL, json={"artifact_id": str(uuid.uuid4())})
    entries = rows("SELECT * FROM audit_entries WHERE subject_kind = 'link' ORDER BY id")
    assert [entry["action"] for entry in entries] == ["link.created", "link.revoked"]  # one for both revocations
    (run,) = rows("SELECT project_id FROM suite_runs")
    for entry in entries:
        columns = [entry[key] for key in ("actor_kind", "subject_kind", "subject_name", "project_id")]
        assert columns == ["token", "link", "for the vendor", run["project_id"]]
        assert str(entry["subject_id"]) == made["id"]
    assert entries[0]["detail"] == {"artifact_id": things["artifact_id"], "expires_at": made["expires_at"][:19] + "Z"}
    assert "rpl_" not in str(entries)
