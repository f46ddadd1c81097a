"""Authentication: tokens on every route, revocation, browser sessions, and the order of the checks."""

import asyncio
import re
import uuid
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from types import SimpleNamespace

import asyncpg
import pytest

from server.auth import callers
from server.auth import throttling as logins
from server.auth.tokens import hash_of, new_token
from server.database.queries import SQL
from server.errors import Overloaded
from server.http.authenticate import COOKIE
from server.routes import ROUTES
from server.services import SERVICES

RUNS = "/api/v1/reports/suite-runs"
SESSION = "/api/v1/auth/session"
LOGIN = "/api/v1/auth/login"
EXCHANGE = "/api/v1/auth/exchange"


def requests():
    """(route, method, path) of every route, plus HEAD for each GET. The ids in the paths do not exist.

    Leaves out the routes that an evidence link opens.
    """
    for route in ROUTES:
        if route.access.opened_by is not None:
            continue
        path = route.path
        for name in route.ids:
            path = path.replace("{" + name + "}", str(uuid.UUID(int=7)))
        yield route, route.method, path
        if route.method == "GET":
            yield route, "HEAD", path


def expire_cache(client):
    """Expires every cache entry, so that a test need not wait for it."""
    cache = client.app[SERVICES].callers
    assert cache, "no cache entry to expire: the test would prove nothing"
    for key, (caller, _) in cache.items():
        cache[key] = (caller, 0.0)


async def status(client, authorization, method="GET", url=RUNS):
    reply = await client.request(method, url, headers={"Authorization": authorization})
    return reply.status


# --- every route -----------------------------------------------------------------------------------------------


async def test_every_route_requires_a_valid_token(nobody, make_token, rows):
    expired = make_token(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    revoked = make_token(name="revoked")
    rows("UPDATE tokens SET revoked_at = now() WHERE name = 'revoked'")
    callers = [
        {},
        {"Authorization": f"Bearer {new_token()}"},
        {"Authorization": f"Bearer {expired}"},
        {"Authorization": f"Bearer {revoked}"},
        {"Authorization": f"Basic {make_token()}"},
        {"Authorization": make_token()},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer   "},
        {"Authorization": "Bearer \udce4\udcff"},
        {"Cookie": f"{COOKIE}={make_token()}"},
    ]
    count = 0
    for route, method, path in requests():
        if route.access.public is True:
            continue
        for headers in callers:
            reply = await nobody.request(method, path, headers=headers)
            assert reply.status == 401, (method, path, headers)
            assert reply.headers["WWW-Authenticate"] == "Bearer"
            if method != "HEAD":
                assert (await reply.json())["code"] == "unauthorized"
            count += 1
    assert count > 300


async def test_public_routes_answer_without_a_token(nobody):
    public = {path for route, _, path in requests() if route.access.public is True}
    assert public == {"/healthz", "/readyz", "/docs", "/static/{file}", "/api/v1/openapi.json", LOGIN, EXCHANGE}
    page = await (await nobody.get("/docs")).text()
    files = set(re.findall(r'"(/static/[^"]+)"', page))
    assert files
    for path in (public | files) - {LOGIN, EXCHANGE, "/static/{file}"}:
        for method in ("GET", "HEAD"):
            assert (await nobody.request(method, path)).status == 200, path


async def test_metrics_are_public_only_when_configured(nobody, client, start, aiohttp_client):
    assert (await nobody.get("/metrics")).status == 401
    assert (await client.get("/metrics")).status == 200
    opened = await start(auth={"metrics_public": True})
    anyone = await aiohttp_client(opened.server)
    assert (await anyone.get("/metrics")).status == 200
    assert (await anyone.get(RUNS)).status == 401


async def test_the_authorization_scheme_is_case_insensitive(nobody, make_token):
    token = make_token()
    for authorization in (f"bearer {token}", f"BEARER {token}", f"Bearer   {token} "):
        assert await status(nobody, authorization) == 200, authorization
    assert await status(nobody, f"Bearer {token}x") == 401
    assert await status(nobody, f"Bearer {token[:-1]}") == 401


async def test_only_the_hash_of_a_token_is_stored(make_token, rows):
    token = make_token()
    assert token.startswith("rpt_") and len(token) >= 40
    assert token[4:] not in str(rows("SELECT * FROM tokens"))
    assert bytes(rows("SELECT token_hash FROM tokens")[0]["token_hash"]) == hash_of(token)


async def test_no_token_is_needed_when_auth_is_not_required(start, aiohttp_client, make_token):
    opened = await start(auth={"required": False}, token=make_token(project="ours"))
    anyone = await aiohttp_client(opened.server)
    assert (await anyone.post(RUNS, json={"name": "x"})).status == 201
    assert len((await (await anyone.get(RUNS)).json())["items"]) == 1
    # A token is still evaluated when it is sent: a valid one limits the caller to its project, a wrong one gets 401.
    assert (await (await opened.get(RUNS)).json())["items"] == []
    assert await status(anyone, "Bearer wrong") == 401
    # A session can only be created with a token.
    assert (await anyone.post(SESSION)).status == 401


# --- revoked and expired ---------------------------------------------------------------------------------------


async def test_a_revocation_takes_effect_when_the_cache_entry_expires(client, nobody, make_token, rows):
    token = make_token(name="mine")
    assert await status(nobody, f"Bearer {token}") == 200
    rows("UPDATE tokens SET revoked_at = now() WHERE name = 'mine'")
    expire_cache(client)
    assert await status(nobody, f"Bearer {token}") == 401
    assert (await client.get(RUNS)).status == 200


async def test_a_caller_is_cached_for_at_most_five_seconds(client, nobody, make_token, monkeypatch):
    """Reads the expiry times from the cache itself, with its clock fixed at 1000 s."""
    monkeypatch.setattr(callers, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    long, short = make_token(), make_token(expires_at=datetime.now(UTC) + timedelta(seconds=3))
    for token in (long, short):
        assert await status(nobody, f"Bearer {token}") == 200
    cache = client.app[SERVICES].callers
    assert cache[hash_of(long) + b"t"][1] == 1005.0
    assert 1000.0 < cache[hash_of(short) + b"t"][1] <= 1003.0


async def test_a_cached_caller_is_not_looked_up_again(client, rows):
    assert (await client.get(RUNS)).status == 200
    rows("UPDATE tokens SET revoked_at = now()")
    assert (await client.get(RUNS)).status == 200
    expire_cache(client)
    assert (await client.get(RUNS)).status == 401


async def test_the_last_use_of_a_token_is_recorded(client, rows):
    await client.get(RUNS)
    assert rows("SELECT now() - last_used_at < interval '1 minute' AS fresh FROM tokens") == [{"fresh": True}]


# --- sessions --------------------------------------------------------------------------------------------------


async def a_session(client):
    """The value of a new session's cookie."""
    reply = await client.post(SESSION)
    assert reply.status == 201, await reply.text()
    return SimpleCookie(reply.headers["Set-Cookie"])[COOKIE].value


def by_cookie(value):
    return {"Cookie": f"{COOKIE}={value}"}


async def test_a_session_cookie_is_http_only_and_stored_as_a_hash(client, rows):
    reply = await client.post(SESSION)
    cookie = SimpleCookie(reply.headers["Set-Cookie"])[COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
    hours = 12 * 3600
    assert hours - 60 < int(cookie["max-age"]) <= hours
    ends = datetime.fromisoformat((await reply.json())["expires_at"])
    (row,) = rows("SELECT session_hash, expires_at FROM sessions")
    assert abs(row["expires_at"] - ends) < timedelta(milliseconds=1)
    assert bytes(row["session_hash"]) == hash_of(cookie.value)  # not the value itself
    assert len(cookie.value) >= 40


async def test_a_session_may_read_but_not_write(client, nobody, make_case):
    case = await make_case()
    cookie = by_cookie(await a_session(client))
    for route, method, path in requests():
        path = path.replace(str(uuid.UUID(int=7)), case) if "{case_id}" in route.path else path
        reply = await nobody.request(method, path, headers=cookie)
        if path in (LOGIN, EXCHANGE):
            assert reply.status == 400  # no body
        elif route.access.public or method in ("GET", "HEAD"):
            needs_query = path.endswith(("/tests", "/search"))
            assert reply.status in ((422,) if needs_query else (200, 404)), (method, path)
            assert reply.status != 404 or "case_id" not in route.path
        else:
            assert reply.status == 401, (method, path)


async def test_a_session_sees_what_its_token_sees(start, make_token, aiohttp_client):
    ours = await start(token=make_token(project="ours", shape="array"))
    theirs = await start(token=make_token(project="theirs"))
    await ours.post(RUNS, json={"name": "mine"})
    browser = await aiohttp_client(ours.server)
    for owner, seen in [(ours, ["mine"]), (theirs, [])]:
        page = await (await browser.get(RUNS, headers=by_cookie(await a_session(owner)))).json()
        assert [run["name"] for run in page["items"]] == seen


async def test_a_session_expires(client, nobody, rows):
    cookie = by_cookie(await a_session(client))
    assert (await nobody.get(RUNS, headers=cookie)).status == 200
    rows("UPDATE sessions SET expires_at = now() - interval '1 second'")
    expire_cache(client)
    assert (await nobody.get(RUNS, headers=cookie)).status == 401


@pytest.mark.parametrize("change", ["revoked_at = now()", "expires_at = now() - interval '1 second'"])
async def test_a_session_ends_with_its_token(client, nobody, rows, change):
    cookie = by_cookie(await a_session(client))
    assert (await nobody.get(RUNS, headers=cookie)).status == 200
    rows(f"UPDATE tokens SET {change}")
    expire_cache(client)
    assert (await nobody.get(RUNS, headers=cookie)).status == 401


async def test_a_token_is_refused_as_a_cookie_and_a_cookie_as_a_token(client, nobody, make_token):
    token, session = make_token(), await a_session(client)
    for _ in range(2):  # the second time from the cache
        assert await status(nobody, f"Bearer {token}") == 200
        assert await status(nobody, f"Bearer {session}") == 401
        assert (await nobody.get(RUNS, headers=by_cookie(token))).status == 401
        assert (await nobody.get(RUNS, headers=by_cookie(session))).status == 200
    # The Authorization header takes precedence over the cookie.
    assert (await nobody.get(RUNS, headers={**by_cookie(session), "Authorization": "Bearer wrong"})).status == 401


async def test_the_sessions_of_a_token_are_limited(client, rows, monkeypatch):
    """Each session writes rows, and its audit entry stays for good: a read-only caller must not fill the disk."""
    monkeypatch.setattr(logins, "_SESSIONS_OF_A_TOKEN", 3)
    replies = [await client.post(SESSION) for _ in range(4)]
    assert [reply.status for reply in replies] == [201] * 3 + [429]
    assert 1 <= int(replies[-1].headers["Retry-After"]) <= 300
    assert len(rows("SELECT FROM sessions")) == len(rows("SELECT FROM audit_entries")) == 3
    assert (await client.get(RUNS)).status == 200


async def test_expired_sessions_are_swept(client, rows):
    await a_session(client)
    await a_session(client)
    rows("UPDATE sessions SET expires_at = now() - interval '1 second' WHERE ctid = (SELECT min(ctid) FROM sessions)")
    rows(SQL.sessions.sweep)
    assert len(rows("SELECT FROM sessions")) == 1


# --- the order of checks ---------------------------------------------------------------------------------------


async def test_404_and_405_come_before_401(nobody):
    for url in ("/nothing", "/api/v1/reports", "/api/v1/reports/suite-runs/", f"{RUNS}/{uuid.uuid4()}/x"):
        reply = await nobody.get(url)
        assert (reply.status, (await reply.json())["code"]) == (404, "route_not_found"), url
    for method, path, allowed in [
        ("DELETE", RUNS, "GET,HEAD,POST"),
        ("POST", f"{RUNS}/x", "DELETE,GET,HEAD,PATCH"),
        ("PUT", "/healthz", "GET,HEAD"),
        ("OPTIONS", SESSION, "GET,HEAD,POST"),
        ("PUT", SESSION, "GET,HEAD,POST"),
        ("PATCH", "/api/v1/reports/test-case-results/x/steps", "GET,HEAD,POST,PUT"),
    ]:
        reply = await nobody.request(method, path)
        assert (reply.status, (await reply.json())["code"]) == (405, "method_not_allowed"), path
        assert sorted(word.strip() for word in reply.headers["Allow"].split(",")) == allowed.split(",")


async def test_401_comes_before_every_other_error(nobody):
    for method, url, headers, body in [
        ("GET", f"{RUNS}/{uuid.uuid4()}", {}, None),
        ("GET", f"{RUNS}/nonsense", {}, None),
        ("GET", f"{RUNS}?limit=0", {}, None),
        ("POST", RUNS, {}, b"{"),
        ("POST", RUNS, {"Idempotency-Key": ""}, b"{}"),
        ("POST", RUNS, {}, b" " * ((16 << 20) + 1)),
        ("POST", f"/api/v1/reports/test-case-results/{uuid.uuid4()}/artifacts", {}, b"no multipart"),
    ]:
        reply = await nobody.request(method, url, headers=headers, data=body)
        assert reply.status == 401, (method, url)


@pytest.mark.parametrize(
    "error",
    [Overloaded(), TimeoutError(), OSError(), asyncpg.InterfaceError("gone"), asyncpg.ReadOnlySQLTransactionError()],
)
async def test_a_request_succeeds_when_its_last_use_cannot_be_recorded(client, make_token, monkeypatch, error):
    pool, queries = client.app[SERVICES].pool, []

    async def failing(query, *arguments):
        if query == SQL.tokens.touch:  # the sweeper runs queries, too
            queries.append(query)
        raise error

    monkeypatch.setattr(pool, "execute", failing)
    reply = await client.get(RUNS, headers={"Authorization": f"Bearer {make_token()}"})
    assert (reply.status, queries) == (200, [SQL.tokens.touch])


async def test_a_request_does_not_wait_long_for_its_last_use_to_be_recorded(client, make_token, monkeypatch):
    async def stuck(query, *arguments):
        await asyncio.sleep(60)

    monkeypatch.setattr(client.app[SERVICES].pool, "execute", stuck)
    monkeypatch.setattr("server.auth.callers._TOUCH_SECONDS", 0.05)
    async with asyncio.timeout(10):
        reply = await client.get(RUNS, headers={"Authorization": f"Bearer {make_token()}"})
    assert reply.status == 200
