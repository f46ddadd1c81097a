"""Pages of other origins: nothing without `[server] allowed_origins`; with it, the browser's questions are answered."""

import re
from http.cookies import SimpleCookie

import pytest

from server.http.authenticate import COOKIE
from tests.api.test_steps import send_png
from tests.people import LOGIN, PASSWORD

RUNS = "/api/v1/reports/suite-runs"
FRONT, OTHER = "https://front.example", "https://front.example.evil.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


def cors_headers(reply):
    return {name: value for name, value in reply.headers.items() if name.startswith("Access-Control-")}


def steady(reply):
    """The headers of a reply, without those that differ in every reply."""
    return [(name, value) for name, value in reply.headers.items() if name.lower() not in ("date", "x-request-id")]


@pytest.fixture
async def open_client(start):
    return await start(server={"allowed_origins": ["http://localhost:5173", FRONT]})


async def test_without_the_setting_no_reply_depends_on_the_origin(client, case_url):
    artifact = await send_png(client, await case_url())
    download = f"/api/v1/reports/artifacts/{artifact}/download"
    for method, path in [("GET", RUNS), ("GET", download), ("OPTIONS", RUNS), ("GET", "/nothing"), ("GET", "/docs"),
                         ("HEAD", download), ("GET", "/static/x.js"), ("DELETE", RUNS)]:  # fmt: skip
        plain = await client.request(method, path)
        for origin in (FRONT, "null", "*", ""):
            asked = await client.request(method, path, headers={"Origin": origin, **PREFLIGHT})
            body = re.sub(rb'"request_id":"\w+"', b"", await asked.read())
            assert (asked.status, steady(asked)) == (plain.status, steady(plain)), (method, path)
            assert body == re.sub(rb'"request_id":"\w+"', b"", await plain.read())
        assert not cors_headers(plain) and "Origin" not in plain.headers.get("Vary", "")


async def test_a_preflight_is_answered_without_a_token(open_client):
    for path in (RUNS, "/api/v1/auth/login", "/nothing"):
        headers = {"Origin": FRONT, **PREFLIGHT, "Authorization": ""}
        reply = await open_client.options(path, headers=headers)
        assert (reply.status, await reply.read()) == (204, b"")
        found = cors_headers(reply)
        assert found["Access-Control-Allow-Origin"] == FRONT
        assert found["Access-Control-Allow-Credentials"] == "true" and found["Access-Control-Max-Age"] == "7200"
        assert {"GET", "POST", "PUT", "PATCH", "DELETE"} <= set(found["Access-Control-Allow-Methods"].split(", "))
        sent = set(found["Access-Control-Allow-Headers"].split(", "))
        assert {"Authorization", "Content-Type", "Idempotency-Key", "X-CSRF-Token", "If-None-Match"} <= sent
        assert reply.headers["Vary"] == "Origin"


async def test_an_options_request_that_is_no_preflight_is_refused_as_before(open_client, client):
    for headers in ({}, {"Origin": FRONT}, {"Origin": OTHER, **PREFLIGHT}, PREFLIGHT):
        reply, before = [await each.options(RUNS, headers=headers) for each in (open_client, client)]
        assert reply.status == before.status == 405 and reply.headers["Allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("origin", [OTHER, "null", "https://FRONT.example", f"{FRONT}:443", f"{FRONT}/", "*", ""])
async def test_other_origins_may_read_nothing(open_client, origin):
    for method in ("GET", "OPTIONS"):
        reply = await open_client.request(method, RUNS, headers={"Origin": origin, **PREFLIGHT})
        assert not cors_headers(reply) and reply.headers["Vary"] == "Origin"


async def test_every_reply_may_be_read_with_its_headers(open_client):
    made = await open_client.post(RUNS, json={"name": "x"}, headers={"Origin": FRONT})
    run = (await made.json())["id"]
    case = await open_client.post(f"{RUNS}/{run}/test-cases", json={"name": "x"})
    artifact = await send_png(open_client, f"/api/v1/reports/test-case-results/{(await case.json())['id']}")
    download = f"/api/v1/reports/artifacts/{artifact}/download"
    for path, headers, status in [
        (f"{RUNS}?shape=array", {}, 200),
        (f"{RUNS}/x", {}, 404),
        (RUNS, {"Authorization": "Bearer wrong"}, 401),
        (f"{RUNS}?limit=0", {}, 422),
        ("/nothing", {}, 404),
        (download, {}, 200),
        (download, {"Range": "bytes=0-3"}, 206),
        (download, {"If-None-Match": "*"}, 304),
        ("/docs", {}, 200),
    ]:
        for origin in (FRONT, "http://localhost:5173"):
            reply = await open_client.get(path, headers={"Origin": origin, **headers})
            assert reply.status == status and reply.headers.getall("Access-Control-Allow-Origin") == [origin], path
            readable = set(reply.headers["Access-Control-Expose-Headers"].split(", "))
            assert {"X-Request-Id", "X-Total-Count", "ETag", "Content-Disposition", "Retry-After"} <= readable
            assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert (await open_client.get(path, headers=headers)).headers["Vary"].endswith("Origin")


async def test_what_a_reply_depended_on_stays_in_vary(open_client):
    reply = await open_client.get("/sign-in", headers={"Origin": FRONT})
    assert reply.headers.getall("Vary") == ["Accept-Encoding, Cookie, Origin"]


@pytest.mark.parametrize("site", ["cross-site", "same-site", None])
async def test_a_page_of_an_allowed_origin_logs_people_in_and_writes_with_the_csrf_token(
    open_client, aiohttp_client, make_user, site
):
    browser = await aiohttp_client(open_client.server)
    fetched = {"Sec-Fetch-Site": site} if site else {}
    name = {"name": make_user(default="uploader"), "password": PASSWORD}
    for origin in (OTHER, "null"):
        refused = await browser.post(LOGIN, json=name, headers={"Origin": origin, **fetched})
        assert (refused.status, (await refused.json())["code"]) == (403, "cross_site")
    reply = await browser.post(LOGIN, json=name, headers={"Origin": FRONT, **fetched})
    assert reply.status == 201
    cookie = {"Cookie": f"{COOKIE}={SimpleCookie(reply.headers['Set-Cookie'])[COOKIE].value}", **fetched}
    csrf = (await reply.json())["csrf_token"]
    for origin, token, status in [(FRONT, csrf, 201), (FRONT, "", 403), (OTHER, csrf, 403)]:
        headers = {**cookie, "Origin": origin, "X-CSRF-Token": token}
        assert (await browser.post(RUNS, json={"name": "x"}, headers=headers)).status == status
