"""A caller's right is checked again before a request that took long commits."""

import asyncio
import json

import pytest
from aiohttp import DummyCookieJar

from server.services import SERVICES
from tests.forms import CONTENT_TYPE, single
from tests.makers import png
from tests.people import logged_in

BASE = "/api/v1/reports"


@pytest.fixture
async def anybody(client, aiohttp_client):
    return await aiohttp_client(client.server, cookie_jar=DummyCookieJar())


@pytest.fixture
def long(monkeypatch):
    """Every request counts as long."""
    monkeypatch.setattr("server.services._UNCHECKED_SECONDS", 0.0)


@pytest.fixture
def send(anybody, client):
    """await send(method, url, body, type, headers, then): sends half of the body, calls then(), and sends the rest."""

    async def sent(method, url, body, kind, headers, then):
        cached = dict(client.app[SERVICES].callers)

        async def halves():
            yield body[: len(body) // 2]
            await asyncio.sleep(0.1)
            cached.update(client.app[SERVICES].callers)
            await asyncio.to_thread(then)
            client.app[SERVICES].callers.update(cached)  # as on a server that has just looked the caller up
            yield body[len(body) // 2 :]

        reply = await anybody.request(method, url, data=halves(), headers={**headers, "Content-Type": kind})
        return reply.status, await reply.json()

    return sent


def uploads(case):
    """Requests that a slow client may send: method, URL, body, type."""
    form = single(png(seed=1), step_number=1)
    steps = json.dumps({"steps": [{"step_number": 1, "step_type": "other"}]}).encode()
    bulk = json.dumps({"test_cases": [{"name": "x"}]}).encode()
    return {
        "upload": ("POST", f"{case}/artifacts", form, CONTENT_TYPE),
        "steps": ("POST", f"{case}/steps", steps, "application/json"),
        "replace": ("PUT", f"{case}/steps", steps, "application/json"),
        "patch": ("PATCH", case, b'{"status": "Failed"}', "application/json"),
        "bulk": ("POST", "{run}/test-cases/bulk", bulk, "application/json"),
        "run": ("POST", f"{BASE}/suite-runs", b'{"name": "slow", "project": "default"}', "application/json"),
    }


NAMES = list(uploads(""))


def written(rows):
    tables = ("suite_runs", "test_case_results", "test_step_results", "test_artifacts")
    tables += ("idempotency_keys", "idempotency_replies")
    counts = {table: rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables}
    return counts, rows("SELECT status FROM test_case_results")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "k"}])
async def test_nothing_is_stored_for_a_token_that_was_revoked_meanwhile(
    long, send, make_run, make_case, make_token, command, rows, stored_files, name, key
):
    run = await make_run(project="default")
    case = f"{BASE}/test-case-results/{await make_case(run=run)}"
    headers = {"Authorization": f"Bearer {make_token(name='ci', role='uploader')}", **key}
    before = written(rows)
    method, url, body, kind = uploads(case)[name]
    url = url.replace("{run}", f"{BASE}/suite-runs/{run}")
    status, reply = await send(method, url, body, kind, headers, lambda: command("token", "revoke", "ci"))
    assert (status, reply["code"]) == (401, "unauthorized")
    assert written(rows) == before and stored_files() == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("role", "status"), [("default=viewer", 403), ("theirs=admin", 404), ("default=uploader", 0), ("admin", 0)]
)
async def test_the_role_of_a_person_is_checked_again(
    long, send, make_run, make_case, make_user, anybody, command, rows, stored_files, name, role, status
):
    run = await make_run(project="default")
    case = f"{BASE}/test-case-results/{await make_case(run=run)}"
    person = make_user(default="uploader", theirs="uploader")
    headers, before = await logged_in(anybody, person), written(rows)
    method, url, body, kind = uploads(case)[name]
    url = url.replace("{run}", f"{BASE}/suite-runs/{run}")
    change = lambda: command("user", "set-roles", person, "--role", role)  # noqa: E731
    found, reply = await send(method, url, body, kind, headers, change)
    if status:
        assert found == {("run", 404): 422}.get((name, status), status), reply
        assert written(rows) == before and stored_files() == []
    else:
        assert found in (200, 201), reply
        assert written(rows) != before


async def test_the_role_that_a_query_parameter_needs_is_checked_again(
    long, send, make_case, make_token, client, rows, make_run
):
    case = f"{BASE}/test-case-results/{await make_case()}"
    steps = {"steps": [{"step_number": n, "step_type": "other"} for n in (1, 2)]}
    assert (await client.post(f"{case}/steps", json=steps)).status == 201
    headers = {"Authorization": f"Bearer {make_token(name='ci', role='admin')}"}
    body = json.dumps({"steps": steps["steps"][:1]}).encode()
    change = lambda: rows("UPDATE tokens SET role = 'uploader' WHERE name = 'ci'")  # noqa: E731
    status, _ = await send("PUT", f"{case}/steps?prune=true", body, "application/json", headers, change)
    assert status == 403 and len(rows("SELECT * FROM test_step_results")) == 2


async def test_a_short_request_is_not_checked_again(send, make_case, make_token, command, rows):
    """For up to 10 seconds an upload costs no further query."""
    case = f"{BASE}/test-case-results/{await make_case()}"
    headers = {"Authorization": f"Bearer {make_token(name='ci', role='uploader')}"}
    status, _ = await send(*uploads(case)["upload"], headers, lambda: command("token", "revoke", "ci"))
    assert status == 201 and len(rows("SELECT * FROM test_artifacts")) == 1


async def test_a_server_that_needs_no_token_checks_nothing(long, start, case_url):
    everybody, url = await start(auth={"required": False}), await case_url()
    del everybody.session.headers["Authorization"]
    reply = await everybody.post(f"{url}/artifacts", data=single(png()), headers={"Content-Type": CONTENT_TYPE})
    assert reply.status == 201
