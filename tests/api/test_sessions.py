"""Logins with a password and sessions: the cookie, CSRF protection, expiry, throttling and roles per project."""

import asyncio
import gzip
import json
import unicodedata
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie

import psycopg
import pytest
from aiohttp import FormData, web_request
from argon2 import PasswordHasher

from server.api.sessions import MAX_LOGIN_SIZE
from server.auth import passwords
from server.auth import throttling as logins
from server.auth.accounts import LOGINS
from server.auth.passwords import hash_password
from server.auth.throttling import Attempt
from server.auth.tokens import csrf_token, hash_of
from server.database.queries import SQL
from server.errors import TooManyLogins
from server.http.authenticate import COOKIE
from server.services import SERVICES
from tests.people import LOGIN, PASSWORD, logged_in, password_hash

RUNS = "/api/v1/reports/suite-runs"
SESSION = "/api/v1/auth/session"
LOGOUT = "/api/v1/auth/logout"
PROXY = "203.0.113.7"


@pytest.fixture
def attempt(nobody):
    """await attempt(name, password, **headers): tries to log in and returns the reply."""

    async def send(name, password=PASSWORD, **headers):
        return await nobody.post(LOGIN, json={"name": name, "password": password}, headers=headers)

    return send


def expire_cache(client):
    """Expire every cached caller, instead of waiting."""
    cache = client.app[SERVICES].callers
    assert cache, "no caller was cached: the test would check nothing"
    for key, (caller, _) in cache.items():
        cache[key] = (caller, 0.0)


def outcomes():
    return {name: LOGINS.labels(name)._value.get() for name in ("succeeded", "failed", "throttled")}


# --- logging in ------------------------------------------------------------------------------------------------


async def test_a_login_sets_an_httponly_session_cookie(nobody, attempt, make_user, rows):
    name = make_user(default="viewer")
    before = outcomes()
    reply = await attempt(name)
    assert reply.status == 201
    cookie = SimpleCookie(reply.headers["Set-Cookie"])[COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["secure"]) == (True, "Lax", "/", "")
    body = await reply.json()
    assert body.keys() == {"name", "expires_at", "csrf_token"} and body["name"] == name
    (row,) = rows("SELECT session_hash, expires_at, token_id FROM sessions")
    assert bytes(row["session_hash"]) == hash_of(cookie.value) and row["token_id"] is None
    assert abs(row["expires_at"] - datetime.fromisoformat(body["expires_at"])) < timedelta(milliseconds=1)
    assert 12 * 3600 - 60 < int(cookie["max-age"]) <= 12 * 3600
    assert cookie.value not in str(rows("SELECT * FROM sessions")) and body["csrf_token"] not in cookie.value
    assert (await nobody.get(RUNS, headers={"Cookie": f"{COOKIE}={cookie.value}"})).status == 200
    after = outcomes()
    assert (after["succeeded"], after["failed"]) == (before["succeeded"] + 1, before["failed"])


async def test_behind_tls_the_cookie_is_secure(attempt, make_user):
    reply = await attempt(make_user(default="viewer"), **{"X-Forwarded-Proto": "https"})
    assert SimpleCookie(reply.headers["Set-Cookie"])[COOKIE]["secure"] is True


async def test_the_case_of_a_name_does_not_matter(attempt, make_user):
    assert (await attempt(make_user(default="viewer").upper())).status == 201


async def test_wrong_unknown_and_disabled_logins_get_the_same_reply(attempt, make_user, rows):
    name, disabled = make_user(default="viewer"), make_user(default="admin")
    rows("UPDATE users SET disabled_at = now() WHERE name = %s", disabled)
    bodies = set()
    for who, password in [(name, "wrong"), (name, PASSWORD + " "), ("unknown", PASSWORD), (disabled, PASSWORD)]:
        reply = await attempt(who, password)
        assert reply.status == 401 and "Set-Cookie" not in reply.headers
        bodies.add(json.dumps({**await reply.json(), "request_id": None}))
    assert len(bodies) == 1 and '"code": "wrong_credentials"' in bodies.pop()
    assert rows("SELECT FROM sessions") == []


async def test_every_failed_login_costs_one_argon2_hash(client, attempt, make_user, monkeypatch):
    """Otherwise the response time would reveal which accounts exist. Counts hashes, since timing is too noisy."""
    verified = []

    class Counting(PasswordHasher):
        def verify(self, hash, password):
            verified.append(hash)
            return super().verify(hash, password)

    monkeypatch.setattr(passwords, "_hasher", Counting())
    for name in (make_user(default="viewer"), "unknown", "unknown too"):
        assert (await attempt(name, "wrong")).status == 401
    assert len(verified) == 3
    parameters = {text.rsplit("$", 2)[0] for text in verified}
    assert len(parameters) == 1 and parameters.pop().startswith("$argon2id$v=19$m=65536,t=3,p=4")


async def test_a_password_matches_in_any_unicode_normal_form(client, attempt, make_user, rows):
    name = make_user(default="viewer")
    rows("UPDATE users SET password_hash = %s", hash_password(unicodedata.normalize("NFD", "Überlanges Wört")))
    assert (await attempt(name, unicodedata.normalize("NFC", "Überlanges Wört"))).status == 201


async def test_a_login_replaces_a_hash_with_old_parameters(attempt, make_user, rows):
    name = make_user(default="viewer")
    weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    rows("UPDATE users SET password_hash = %s", weak)
    assert (await attempt(name, "wrong")).status == 401
    assert rows("SELECT password_hash FROM users")[0]["password_hash"] == weak
    assert (await attempt(name)).status == 201
    renewed = rows("SELECT password_hash FROM users")[0]["password_hash"]
    assert renewed != weak and "m=65536" in renewed
    assert (await attempt(name)).status == 201


async def test_a_malformed_hash_refuses_every_password(attempt, make_user, rows):
    name = make_user(default="viewer")
    for broken in ("", "x", "$argon2id$v=19$m=65536,t=3,p=4$", password_hash()[:-5]):
        rows("UPDATE users SET password_hash = %s", broken)
        for password in (PASSWORD, "x", broken or "-"):
            assert (await attempt(name, password)).status == 401
        rows("DELETE FROM login_buckets")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"name": "x"}, "password"),
        ({"password": "x"}, "name"),
        ({"name": "", "password": "x"}, "name"),
        ({"name": "x", "password": ""}, "password"),
        ({"name": "x" * 101, "password": "x"}, "name"),
        ({"name": "x", "password": "x" * 1001}, "password"),
        ({"name": 7, "password": "x"}, "name"),
        ({"name": "x\0", "password": "x"}, ""),
        ({"name": "x", "password": ["x"]}, "password"),
        ([], ""),
    ],
)
async def test_a_malformed_login_is_refused_and_not_counted(nobody, body, path, rows):
    reply = await nobody.post(LOGIN, json=body)
    error = (await reply.json())["errors"][0]
    assert reply.status == 422 and path in error["path"] + error["message"]
    assert rows("SELECT FROM login_buckets") == []


@pytest.mark.parametrize("path", ["name", "password"])
async def test_the_longest_name_and_password_are_accepted(attempt, path):
    """Each character has the longest escape that JSON allows."""
    sent = {"name": "x", "password": "x", path: "\U0001f600" * {"name": 100, "password": 1000}[path]}
    assert (await attempt(**sent)).status == 401


@pytest.mark.parametrize("announced", [True, False])
async def test_a_login_body_above_the_maximum_size_is_refused(client, nobody, announced):
    body = json.dumps({"name": "x", "password": "x"}) + " " * MAX_LOGIN_SIZE
    chunks = body[:1000], body[1000:]

    async def sent():
        for chunk in chunks:
            yield chunk.encode()

    reply = await nobody.post(LOGIN, data=body if announced else sent())
    assert (reply.status, (await reply.json())["code"]) == (413, "too_large")
    packed = gzip.compress(body.encode())
    assert (await nobody.post(LOGIN, data=packed, headers={"Content-Encoding": "gzip"})).status == 413


async def test_a_login_that_is_not_json_is_refused(nobody):
    assert (await nobody.post(LOGIN, data=b"{")).status == 400
    assert (await nobody.post(LOGIN, data=FormData({"name": "x", "password": "y"}))).status == 400


async def test_a_login_body_may_have_16_kib(nobody, rows):
    """Logins need no token, so they must not use up the memory that uploads share."""
    longest = {"name": "x" * 100, "password": "\U0001f600" * 1000}
    assert (await nobody.post(LOGIN, data=json.dumps(longest))).status == 401  # json.dumps escapes each character

    async def pieces():
        for _ in range(5):
            yield b" " * 4096

    for body in (b" " * ((16 << 10) + 1), pieces()):
        reply = await nobody.post(LOGIN, data=body)
        assert (reply.status, (await reply.json())["code"]) == (413, "too_large")
    assert len(rows("SELECT FROM login_buckets")) == 3  # only those of the first request


async def test_passwords_are_neither_logged_nor_stored(attempt, make_user, rows, caplog):
    caplog.set_level("DEBUG")
    name, secret = make_user(default="viewer"), "in the wrong field 1234"
    await attempt(name, secret)
    await attempt(secret, "x")
    await attempt(name)
    tables = rows("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
    for table in tables:
        assert secret not in str(rows(f"SELECT to_jsonb(t)::text FROM {table['name']} t"))
    assert secret not in caplog.text and PASSWORD not in caplog.text


async def test_logins_and_logouts_write_audit_entries(nobody, attempt, make_user, rows, monkeypatch):
    name = make_user(default="viewer")
    sent = {"X-Forwarded-For": PROXY, "X-Request-Id": "find-me"}
    typed = "unknown, or a password"
    await attempt(name, "wrong", **sent)
    await attempt(typed, "wrong", **sent)
    headers = await logged_in(nobody, name)
    await nobody.post(LOGOUT, headers={**headers, **sent})
    await nobody.post(LOGOUT, headers={**headers, **sent})  # the session has ended already
    await attempt(name, "", **sent)
    await attempt(name, "wrong", **{"Sec-Fetch-Site": "cross-site"})
    monkeypatch.setattr(logins, "_OF_AN_ACCOUNT_FROM_AN_ADDRESS", 0.5)  # too small for a single attempt
    assert (await attempt(name, "wrong", **sent)).status == 429
    entries = rows("SELECT * FROM audit_entries ORDER BY id")
    assert [
        (entry["action"], entry["actor_kind"], entry["actor_name"], entry["subject_name"]) for entry in entries
    ] == [
        ("login.failed", "anyone", None, name),
        ("login.failed", "anyone", None, None),
        ("login.succeeded", "person", name, name),
        ("logout", "person", name, name),
    ]
    (person,) = rows("SELECT id FROM users")
    assert [entry["subject_id"] for entry in entries] == [person["id"], None, person["id"], person["id"]]
    assert {(entry["remote"], entry["request_id"]) for entry in entries[:2] + entries[3:]} == {(PROXY, "find-me")}
    assert all(entry["project_id"] is None for entry in entries) and typed not in str(entries)


# --- sessions --------------------------------------------------------------------------------------------------


async def test_a_login_sets_a_new_cookie_and_ends_the_session_of_the_old_one(nobody, make_user, rows):
    name = make_user(default="viewer")
    first = await logged_in(nobody, name)
    reply = await nobody.post(LOGIN, json={"name": name, "password": PASSWORD}, headers={"Cookie": first["Cookie"]})
    second = f"{COOKIE}={SimpleCookie(reply.headers['Set-Cookie'])[COOKIE].value}"
    assert second != first["Cookie"]
    assert (await nobody.get(RUNS, headers={"Cookie": first["Cookie"]})).status == 401
    assert (await nobody.get(RUNS, headers={"Cookie": second})).status == 200
    # Session fixation: a cookie value that was planted before the login does not become a session.
    planted = "x" * 43
    await nobody.post(LOGIN, json={"name": name, "password": PASSWORD}, headers={"Cookie": f"{COOKIE}={planted}"})
    assert (await nobody.get(RUNS, headers={"Cookie": f"{COOKIE}={planted}"})).status == 401
    # A login in another browser does not end this session.
    await logged_in(nobody, name)
    assert (await nobody.get(RUNS, headers={"Cookie": second})).status == 200


async def test_logout_ends_the_session_at_once(nobody, make_user, rows):
    headers = await logged_in(nobody, make_user(default="viewer"))
    assert (await nobody.get(RUNS, headers=headers)).status == 200
    reply = await nobody.post(LOGOUT, headers=headers)
    assert reply.status == 204
    ended = SimpleCookie(reply.headers["Set-Cookie"])[COOKIE]
    assert (ended.value, ended["max-age"], ended["path"]) == ("", "0", "/")
    assert rows("SELECT FROM sessions") == []
    assert (await nobody.get(RUNS, headers=headers)).status == 401
    assert (await nobody.post(LOGOUT, headers=headers)).status == 401  # the same request again


async def test_get_session_shows_the_caller_and_its_roles(client, nobody, make_user, make_token):
    several = await logged_in(nobody, make_user(everywhere="viewer", theirs="admin", ours="uploader"))
    session = await (await nobody.get(SESSION, headers=several)).json()
    assert session["csrf_token"] == several["X-CSRF-Token"] and session["kind"] == "person"
    assert {(role["project"], role["role"]) for role in session["roles"]} == {
        (None, "viewer"),
        ("theirs", "admin"),
        ("ours", "uploader"),
    }
    token = {"Authorization": f"Bearer {make_token(name='ci', project='ours', role='uploader')}"}
    session = await (await nobody.get(SESSION, headers=token)).json()
    roles = [{"project": "ours", "role": "uploader"}]
    assert session == {"kind": "token", "name": "ci", "roles": roles, "csrf_token": None}


async def test_a_session_ends_when_it_expires_or_its_user_loses_access(client, nobody, make_user, rows):
    for change in (
        "UPDATE sessions SET expires_at = now() - interval '1 s'",
        "UPDATE users SET disabled_at = now()",
        "DELETE FROM user_roles",
        "DELETE FROM users",
    ):
        headers = await logged_in(nobody, make_user(default="viewer"))
        assert (await nobody.get(RUNS, headers=headers)).status == 200
        rows(change)
        expire_cache(client)
        assert (await nobody.get(RUNS, headers=headers)).status == 401, change


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("{}", 200),
        ("a=b; {}; c=d", 200),
        ("a=b;{};c", 200),
        ("reportd_session=x; {}", 200),
        ("{}; reportd_session=x", 401),
        ("a=b {}", 401),
        ("x{}", 401),
        ("X-{}", 401),
        ("{}x", 401),
        ("a" * 4000 + "; {}", 200),
    ],
)
async def test_the_session_cookie_is_found_without_parsing_other_cookies(
    nobody, make_user, header, status, monkeypatch
):
    """aiohttp's parser would block the event loop for 20 ms on 8 KB of malformed cookies."""
    headers = await logged_in(nobody, make_user(default="viewer"))
    monkeypatch.delattr(web_request, "parse_cookie_header")
    assert (await nobody.get(RUNS, headers={"Cookie": header.format(headers["Cookie"])})).status == status


async def test_forged_and_truncated_cookies_are_refused(nobody, make_user, rows):
    headers = await logged_in(nobody, make_user(default="admin"))
    value = headers["Cookie"].partition("=")[2]
    (row,) = rows("SELECT session_hash FROM sessions")
    for forged in (
        value[:-1],
        value + "A",
        value.swapcase(),
        value[1:] + value[0],
        "",
        '""',
        "x" * 43,
        "x" * 5000,
        bytes(row["session_hash"]).hex(),
        headers["X-CSRF-Token"],
        f"{value}, {value}",
        "%00" + value,
    ):
        for method in ("GET", "POST"):
            sent = {**headers, "Cookie": f"{COOKIE}={forged}"}
            assert (await nobody.request(method, RUNS, headers=sent, json={"name": "x"})).status == 401, forged
    assert (await nobody.get(RUNS, headers={"Authorization": f"Bearer {value}"})).status == 401


async def test_a_request_updates_last_seen_at_of_the_user(nobody, make_user, rows):
    await nobody.get(RUNS, headers=await logged_in(nobody, make_user(default="viewer")))
    assert rows("SELECT now() - last_seen_at < interval '1 minute' AS fresh FROM users") == [{"fresh": True}]


async def test_a_login_fails_if_the_user_changes_while_the_password_is_verified(
    client, attempt, make_user, rows, monkeypatch
):
    name = make_user(default="viewer")
    match = client.app[SERVICES].passwords.match
    for change in ("UPDATE users SET password_hash = 'other'", "UPDATE users SET disabled_at = now()"):
        rows("UPDATE users SET disabled_at = NULL, password_hash = %s", password_hash())

        async def slow(stored, password, change=change):
            found = await match(stored, password)
            rows(change)
            return found

        monkeypatch.setattr(client.app[SERVICES].passwords, "match", slow)
        failed = outcomes()["failed"]
        assert (await attempt(name)).status == 401
        assert rows("SELECT FROM sessions") == []
        assert outcomes()["failed"] == failed + 1
    assert [entry["action"] for entry in rows("SELECT action FROM audit_entries")] == ["login.failed"] * 2
    assert rows("SELECT round(sum(level)::numeric, 1)::float AS level FROM login_buckets WHERE level > 0.1") == [
        {"level": 0.2}
    ]


# --- cross-site requests ---------------------------------------------------------------------------------------


async def test_a_session_cookie_without_its_csrf_token_changes_nothing(nobody, make_user, make_run, rows):
    run = await make_run(project="default")
    headers = await logged_in(nobody, make_user(default="admin"))
    other = await logged_in(nobody, make_user(default="admin"))
    value = headers["Cookie"].partition("=")[2]
    before = rows("SELECT to_jsonb(r)::text FROM suite_runs r"), rows("SELECT count(*) FROM sessions")
    for token in (None, "", "x", other["X-CSRF-Token"], headers["X-CSRF-Token"][:-1], headers["X-CSRF-Token"].upper()):
        sent = {"Cookie": headers["Cookie"], **({"X-CSRF-Token": token} if token is not None else {})}
        for method, url in [("PATCH", f"{RUNS}/{run}"), ("DELETE", f"{RUNS}/{run}"), ("POST", RUNS), ("POST", LOGOUT)]:
            reply = await nobody.request(method, url, headers=sent, json={"name": "changed"})
            assert (reply.status, (await reply.json())["code"]) == (403, "csrf_token_needed"), (method, token)
    assert (rows("SELECT to_jsonb(r)::text FROM suite_runs r"), rows("SELECT count(*) FROM sessions")) == before
    assert (await nobody.patch(f"{RUNS}/{run}", headers=headers, json={"name": "changed"})).status == 200
    assert csrf_token(value) == headers["X-CSRF-Token"]


async def test_pages_of_other_sites_can_neither_change_data_nor_log_in(nobody, attempt, make_user):
    name = make_user(default="admin")
    headers = await logged_in(nobody, name)
    host = f"http://{nobody.host}:{nobody.port}"
    for sent, allowed in [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"}, True),  # a proxy changed the host
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "nonsense"}, False),
        ({"Origin": host}, True),
        ({"Origin": "null"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": f"http://{nobody.host}.evil.example"}, False),
        ({"Origin": "https://reports.example", "X-Forwarded-Host": "reports.example:8443"}, True),
        ({}, True),
    ]:
        changed = await nobody.post(RUNS, json={"name": "x"}, headers={**headers, **sent})
        started = await attempt(name, **sent)
        assert (changed.status, started.status) == ((201, 201) if allowed else (403, 403)), sent
        if not allowed:
            assert (await changed.json())["code"] == (await started.json())["code"] == "cross_site"
        read = await nobody.get(RUNS, headers={"Cookie": headers["Cookie"], **sent})
        assert read.status == 200  # safe: the headers of the reply keep another site from reading it


async def test_a_token_needs_no_csrf_token(client):
    reply = await client.post(RUNS, json={"name": "x"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert reply.status == 201


# --- throttling ------------------------------------------------------------------------------------------------


async def failures(attempt, name, most=100, **headers):
    """Send wrong passwords until one is throttled: the number of attempts before that, and the 429 reply."""
    for count in range(most):
        reply = await attempt(name, "wrong", **headers)
        if reply.status == 429:
            return count, reply
        assert reply.status == 401
    return most, None


async def test_an_account_allows_ten_failures_from_one_address(nobody, attempt, make_user, rows, slow_leak):
    name, other = make_user(default="viewer"), make_user(default="viewer")
    headers = await logged_in(nobody, name)
    before = outcomes()
    count, refused = await failures(attempt, name)
    assert count == 10
    code = (await refused.json())["code"]
    assert code == "too_many_logins" and 1 <= int(refused.headers["Retry-After"]) <= 90_000
    assert outcomes()["throttled"] == before["throttled"] + 1
    # The right password is refused too, in any spelling of the name. Other accounts and open sessions go on.
    for same in (name, name.upper()):
        assert (await attempt(same)).status == 429
    assert (await attempt(other)).status == 201
    assert (await nobody.get(RUNS, headers=headers)).status == 200
    # Its owner can log in from another address: an attacker cannot lock an account. Refused attempts are not counted.
    assert (await attempt(name, **{"X-Forwarded-For": PROXY})).status == 201
    again = await attempt(name)
    assert again.status == 429 and int(again.headers["Retry-After"]) <= int(refused.headers["Retry-After"])
    rows("UPDATE login_buckets SET updated_at = updated_at - interval '90000 s'")
    assert (await failures(attempt, name))[0] == 1
    rows("UPDATE login_buckets SET updated_at = updated_at - interval '90000 s'")
    assert (await attempt(name)).status == 201
    assert (await failures(attempt, name))[0] == 10  # the successful login has reset the account's failures


async def test_an_account_has_a_limit_for_all_addresses_together(attempt, make_user, slow_leak, monkeypatch):
    name, other = make_user(default="viewer"), make_user(default="viewer")
    monkeypatch.setattr(logins, "_OF_AN_ACCOUNT", 20)
    counts = []
    for number in range(3):
        sent = {"X-Forwarded-For": f"203.0.113.{number}"}
        counts.append((await failures(attempt, name, **sent))[0])
        assert (await attempt(other, **sent)).status == 201
    assert counts == [10, 10, 0]
    assert (await attempt(name, **{"X-Forwarded-For": "203.0.113.9"})).status == 429


async def test_an_unknown_account_is_throttled_like_an_existing_one(attempt, make_user, slow_leak):
    existing, found = make_user(default="viewer"), []
    for name in (existing, "not there"):
        count, refused = await failures(attempt, name, **{"X-Forwarded-For": f"203.0.113.{len(name)}"})
        found.append((count, {**await refused.json(), "request_id": None}))
    assert found[0] == found[1]


@pytest.fixture
def slow_leak(monkeypatch):
    """Buckets leak a thousand times more slowly, so that they stay full even if a busy machine slows the test down."""
    monkeypatch.setattr(logins, "WINDOW_SECONDS", logins.WINDOW_SECONDS * 1000)


async def test_an_address_allows_sixty_failures(nobody, attempt, make_user, rows, slow_leak):
    here, there = {"X-Forwarded-For": PROXY}, {"X-Forwarded-For": "203.0.113.8"}
    mine = make_user(default="viewer")
    for number in range(60):
        assert (await attempt(f"somebody {number}", "wrong", **here)).status == 401
        if number % 20 == 0:  # a successful login does not reset the failures of the address
            assert (await attempt(mine, **here)).status == 201
    refused = await attempt(mine, **here)
    assert refused.status == 429 and 1 <= int(refused.headers["Retry-After"]) <= 15_000
    assert (await attempt(mine, **there)).status == 201
    assert (await failures(attempt, "somebody else", **there))[0] == 10
    rows("UPDATE login_buckets SET updated_at = updated_at - interval '20000 s'")
    assert (await attempt(mine, **here)).status == 201


async def test_an_ipv6_network_of_64_bits_counts_as_one_address(attempt, slow_leak):
    for number in range(60):
        sent = {"X-Forwarded-For": f"2001:db8:0:1:{number:x}::{number:x}"}
        assert (await attempt(f"somebody {number}", "wrong", **sent)).status == 401
    assert (await attempt("x", "wrong", **{"X-Forwarded-For": "2001:db8:0:1::ffff"})).status == 429
    assert (await attempt("x", "wrong", **{"X-Forwarded-For": "2001:db8:0:2::1"})).status == 401


async def test_clients_without_an_address_share_one_limit(client, slow_leak):
    """These are clients behind a unix socket whose proxy does not send their address."""
    pool = client.app[SERVICES].pool
    for number in range(60):
        await Attempt(f"somebody {number}", "").admit(pool)
    with pytest.raises(TooManyLogins):
        await Attempt("somebody else", "").admit(pool)
    await Attempt("somebody else", PROXY).admit(pool)


async def test_every_spelling_of_a_name_shares_the_limit_of_its_account(attempt, make_user, rows, slow_leak):
    """Lower case is PostgreSQL's: Python's lower() gives another text for the Turkish İ."""
    rows("UPDATE users SET name = 'irini' WHERE name = %s", make_user(default="viewer"))
    folded = rows("SELECT lower('\u0130RINI') AS name")[0]["name"]
    assert folded == "irini" != "\u0130RINI".lower(), "PostgreSQL and Python agree: the test would check nothing"
    for number, name in enumerate(["irini", "\u0130rini", "irin\u0130", "\u0130RIN\u0130", "Irini"] * 2):
        assert (await attempt(name, "wrong")).status == 401, number
    assert (await attempt("ir\u0130ni", "wrong")).status == 429
    assert len(rows("SELECT FROM login_buckets")) == 3


async def test_a_name_matches_in_any_unicode_normal_form(attempt, make_user, rows):
    rows("UPDATE users SET name = 'Ren\u00e9' WHERE name = %s", make_user(default="viewer"))
    assert (await attempt("rene\u0301")).status == 201


async def test_retry_after_is_computed_from_the_full_bucket(attempt, rows, slow_leak):
    """Only the address is full. It has capacity for one more attempt after a sixtieth of the window."""
    await attempt("x", "wrong")
    rows("UPDATE login_buckets SET level = round(level::numeric, 1)")  # 0.1, of the account, and 0.0
    rows("UPDATE login_buckets SET level = CASE WHEN level = 0 THEN 1 ELSE 0.9 END")
    refused = await attempt("x", "wrong")
    assert refused.status == 429 and int(refused.headers["Retry-After"]) <= 15_000


async def test_two_logins_do_not_deadlock(client, rows, dsn):
    pool = client.app[SERVICES].pool
    attempts = (Attempt(f"somebody {number}", f"198.51.100.{number % 250}") for number in range(1000))
    attempt = next(attempt for attempt in attempts if list(attempt._shares) == sorted(attempt._shares, reverse=True))
    await attempt.admit(pool)
    last, _, first = attempt._shares
    with psycopg.connect(dsn) as other:  # locks the rows in key order, as another login does
        lock = "SELECT FROM login_buckets WHERE key = %s FOR UPDATE NOWAIT"
        other.execute(lock, [first])
        forgiving = asyncio.create_task(attempt.forgive(pool))
        waiting = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while not rows(waiting):
            await asyncio.sleep(0.01)
        other.execute(lock, [last])
    await forgiving


async def test_a_sweep_skips_rows_that_a_login_has_locked(client, rows, dsn):
    pool, free_space = client.app[SERVICES].pool, client.app[SERVICES].free_space
    async with asyncio.timeout(10):
        while free_space._daily is None:  # wait for the end of the server's own first sweep
            await asyncio.sleep(0.01)
    attempt = Attempt("somebody", PROXY)
    await attempt.admit(pool)
    rows("UPDATE login_buckets SET updated_at = now() - interval '1 day'")
    with psycopg.connect(dsn) as other:
        other.execute("SELECT FROM login_buckets WHERE key = %s FOR UPDATE", [next(iter(attempt._shares))])
        async with asyncio.timeout(10):
            assert await pool.execute(SQL.logins.sweep, logins.WINDOW_SECONDS) == "DELETE 2"


async def test_concurrent_attempts_are_counted_before_their_passwords_are_verified(attempt, make_user):
    name = make_user(default="viewer")
    replies = await asyncio.gather(*(attempt(name, "wrong") for _ in range(15)))
    assert sorted(reply.status for reply in replies) == [401] * 10 + [429] * 5


async def test_a_login_that_finds_the_queue_full_is_a_503_and_not_counted(
    client, attempt, make_user, monkeypatch, slow_leak
):
    name = make_user(default="viewer")
    assert (await failures(attempt, name, 3)) == (3, None)
    with monkeypatch.context() as busy:
        busy.setattr(passwords, "_MOST_WAITING", 0)
        for _ in range(9):
            reply = await attempt(name)
            assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
    # The refused attempts were not counted, and did not reset the earlier failures.
    assert (await failures(attempt, name))[0] == 7


async def test_empty_buckets_are_deleted(client, attempt, rows):
    await attempt("x", "wrong")
    await attempt("y", "wrong")
    (oldest,) = rows("SELECT min(key) AS key FROM login_buckets")
    rows("UPDATE login_buckets SET updated_at = now() - interval '901 s' WHERE key = %s", oldest["key"])
    rows(SQL.logins.sweep.replace("$1", str(logins.WINDOW_SECONDS)))
    assert len(rows("SELECT FROM login_buckets")) == 4


async def test_verifying_a_password_does_not_block_the_event_loop(client, nobody, attempt, make_user):
    """A request that arrives during a login gets its reply first."""
    name = make_user(default="viewer")
    await attempt(name)
    order = []

    async def log_in():
        await asyncio.gather(*(attempt(name) for _ in range(3)))
        order.append("logins")

    async def read():
        await asyncio.sleep(0.05)
        assert (await client.get(RUNS)).status == 200
        order.append("read")

    await asyncio.gather(log_in(), read())
    assert order == ["read", "logins"]


# --- roles in several projects ---------------------------------------------------------------------------------


@pytest.fixture
async def person(nobody, make_user):
    """await person(default="viewer", …): the headers of a logged-in user with these roles."""

    async def make(**roles):
        return await logged_in(nobody, make_user(**roles))

    return make


async def make_run_in(client, project, **fields):
    reply = await client.post(RUNS, json={"name": "x", "project": project, **fields})
    assert reply.status in (200, 201), await reply.text()
    return (await reply.json())["id"]


async def test_a_user_can_have_another_role_in_each_project(client, nobody, person, make_token):
    make_token(project="web"), make_token(project="api"), make_token(project="secret")
    runs = {project: await make_run_in(client, project) for project in ("web", "api", "secret", "default")}
    headers = await person(web="admin", api="viewer", default="uploader")
    for project, read, write, remove in [
        ("web", 200, 200, 204),
        ("api", 200, 403, 403),
        ("default", 200, 200, 403),
        ("secret", 404, 404, 404),
    ]:
        url = f"{RUNS}/{runs[project]}"
        assert (await nobody.get(url, headers=headers)).status == read
        assert (await nobody.patch(url, json={"name": "y"}, headers=headers)).status == write
        assert (await nobody.delete(url, headers=headers)).status == remove
    seen = (await (await nobody.get(RUNS, headers=headers)).json())["items"]
    assert {run["project"] for run in seen} == {"api", "default"}  # the run of web was deleted


async def test_the_larger_of_two_roles_counts(client, nobody, person, make_token):
    make_token(project="web"), make_token(project="api")
    runs = {project: await make_run_in(client, project) for project in ("web", "api")}
    headers = await person(everywhere="uploader", web="admin", api="viewer")
    assert (await nobody.delete(f"{RUNS}/{runs['api']}", headers=headers)).status == 403
    assert (await nobody.patch(f"{RUNS}/{runs['api']}", json={"name": "y"}, headers=headers)).status == 200
    assert (await nobody.delete(f"{RUNS}/{runs['web']}", headers=headers)).status == 204
    assert (await nobody.get("/metrics", headers=headers)).status == 200
    assert (await nobody.get("/metrics", headers=await person(web="admin", api="admin"))).status == 403


async def test_the_runs_of_several_projects_are_paged_as_one_list(client, nobody, person, make_token):
    make_token(project="web"), make_token(project="api"), make_token(project="secret")
    made = [await make_run_in(client, ("web", "api", "secret")[number % 3]) for number in range(12)]
    mine = [run for number, run in enumerate(made) if number % 3 != 2]
    headers, seen, cursor = await person(web="viewer", api="admin"), [], ""
    while cursor is not None:
        page = await (await nobody.get(f"{RUNS}?limit=3{cursor}", headers=headers)).json()
        assert len(page["items"]) <= 3
        seen += [run["id"] for run in page["items"]]
        cursor = f"&cursor={page['next_cursor']}" if page["next_cursor"] else None
    assert seen == sorted(mine, reverse=True)  # in order of ids: those of one millisecond are in random order
    page = await (await nobody.get(RUNS, headers=await person(everywhere="viewer", web="admin"))).json()
    assert [run["id"] for run in page["items"]] == sorted(made, reverse=True)


async def test_a_user_reads_the_audit_trail_of_the_projects_with_the_role_admin(client, nobody, person, make_token):
    for project in ("web", "api", "secret"):
        make_token(project=project)
        await make_run_in(client, project)
    for roles, seen in [
        ({"web": "admin", "api": "admin", "secret": "uploader"}, {"web", "api"}),
        ({"everywhere": "viewer", "api": "admin"}, {"api"}),
        ({"everywhere": "admin", "api": "viewer"}, {"web", "api", "secret", None}),
    ]:
        entries = await (await nobody.get("/api/v1/audit", headers=await person(**roles))).json()
        assert {entry["project"] for entry in entries["items"]} == seen
    assert (await nobody.get("/api/v1/audit", headers=await person(web="uploader", api="viewer"))).status == 403


async def test_a_new_run_needs_a_project_if_the_caller_has_several(nobody, person, make_token):
    make_token(project="secret")
    headers = await person(web="admin", api="viewer")
    for project, status in [("web", 201), ("api", 403), ("secret", 422), ("nothing", 422), (None, 422)]:
        reply = await nobody.post(RUNS, json={"name": "x", "project": project}, headers=headers)
        body = await reply.json()
        assert reply.status == status, body
        if status == 422:
            assert body["errors"] == [{"path": "project", "message": "must be one of api, web"}]
    default = await person(default="uploader", web="viewer")
    made = await (await nobody.post(RUNS, json={"name": "x"}, headers=default)).json()
    assert made["project"] == "default"
    only = await person(web="uploader")
    assert (await (await nobody.post(RUNS, json={"name": "x"}, headers=only)).json())["project"] == "web"
    viewer = await person(web="viewer", api="viewer")
    assert (await nobody.post(RUNS, json={"name": "x", "project": "web"}, headers=viewer)).status == 403
    first = {**headers, "Idempotency-Key": "k"}
    both = [await nobody.post(RUNS, json={"name": "k", "project": "web"}, headers=first) for _ in range(2)]
    assert [(reply.status, reply.headers.get("Idempotent-Replayed")) for reply in both] == [(201, None), (201, "true")]
    assert (await both[0].json())["id"] == (await both[1].json())["id"]


@pytest.mark.parametrize(("project", "code"), [("web", "invalid"), (None, "idempotency_key_reused")])
async def test_a_reply_is_not_replayed_to_a_caller_who_has_lost_access(
    client, nobody, make_user, make_token, rows, project, code
):
    make_token(project="api")
    headers = {**await logged_in(nobody, make_user(web="uploader")), "Idempotency-Key": "k"}
    run = {"name": "secret", "project": project}
    assert (await nobody.post(RUNS, json=run, headers=headers)).status == 201
    rows("UPDATE user_roles SET project_id = (SELECT id FROM projects WHERE name = 'api')")
    expire_cache(client)
    reply = await nobody.post(RUNS, json=run, headers=headers)
    assert (reply.status, (await reply.json())["code"]) == (422, code)


async def test_an_expired_session_is_refused_although_it_is_cached(nobody, make_user, rows):
    headers = await logged_in(nobody, make_user(default="viewer"))
    ends = datetime.now(UTC) + timedelta(seconds=0.3)
    rows("UPDATE sessions SET expires_at = %s", ends)
    assert (await nobody.get(RUNS, headers=headers)).status == 200
    await asyncio.sleep(0.4)
    assert (await nobody.get(RUNS, headers=headers)).status == 401


async def test_the_wrong_kind_of_caller_is_told_which_kind_is_needed(client, nobody, make_user):
    reply = await client.post(LOGOUT)
    detail = (
        "This is for a person who is logged in (POST /api/v1/auth/login). A token cannot log out: revoke it instead."
    )
    assert (reply.status, (await reply.json())["detail"]) == (401, detail)
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    reply = await nobody.post(LOGOUT)
    assert (reply.status, (await reply.json())["detail"].partition(":")[0]) == (401, "A valid token is needed")
