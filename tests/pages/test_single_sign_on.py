"""Single sign-on: the way to the provider and back, the account and its roles, and everything that is refused."""

import asyncio
import time
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
import pytest
from aiohttp import DummyCookieJar, web
from yarl import URL

from server.auth import issuers, throttling
from server.auth.single_sign_on import Flow
from server.config import Config
from server.http import fetch
from server.http.authenticate import COOKIE
from server.pages.sign_in import FLOW_COOKIE
from server.redact.rules import redact_target
from server.services import SERVICES
from server.trust import Oidc
from tests import provider as providers
from tests.people import LOGIN, PASSWORD

ROLES = {"qa": ["web=uploader", "viewer"], "leads": ["web=admin"], "none": [], "7": ["api=viewer"]}


@pytest.fixture
async def provider():
    async with providers.running() as found:
        yield found


@pytest.fixture
async def browser(start, aiohttp_client, provider):
    """A client without a cookie jar, of a server with single sign-on."""
    oidc = Oidc(provider.issuer, providers.CLIENT, providers.SECRET, role_map=ROLES)
    server = (await start(auth={"oidc": oidc})).server
    return await aiohttp_client(server, cookie_jar=DummyCookieJar())


def cookies_of(reply):
    return {
        name: one.value for line in reply.headers.getall("Set-Cookie", []) for name, one in SimpleCookie(line).items()
    }


async def begin(browser, next="/runs"):
    """The address of the provider, and the browser's cookie."""
    reply = await browser.get(f"/sign-in/start?next={quote(next, safe='')}", allow_redirects=False)
    assert reply.status == 303, await reply.text()
    return reply.headers["Location"], {"Cookie": f"{FLOW_COOKIE}={cookies_of(reply)[FLOW_COOKIE]}"}


async def at_provider(address):
    """Where the provider sends the browser back to, after the person has signed in there."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(URL(address, encoded=True), allow_redirects=False) as there,
    ):
        assert there.status == 302, await there.text()
        return urlsplit(there.headers["Location"])


async def come_back(browser, back, cookie, **headers):
    path = URL(f"{back.path}?{back.query}", encoded=True)
    return await browser.get(path, headers={**cookie, **headers}, allow_redirects=False)


async def sign_in(browser, next="/runs", **headers):
    address, cookie = await begin(browser, next)
    return await come_back(browser, await at_provider(address), cookie, **headers)


async def whoami(browser, reply):
    headers = {"Cookie": f"{COOKIE}={cookies_of(reply)[COOKIE]}"}
    shown = await (await browser.get("/api/v1/auth/session", headers=headers)).json()
    return shown["name"], sorted((role["project"] or "*", role["role"]) for role in shown["roles"])


async def refused(reply, status, words):
    text = await reply.text()
    assert (reply.status, reply.content_type) == (status, "text/html") and words in text, text
    assert COOKIE not in cookies_of(reply) and "Single sign-on" in text


def actions(rows):
    return [row["action"] for row in rows("SELECT action FROM audit_entries ORDER BY id")]


async def test_the_page_offers_it_only_where_it_is_configured(browser, nobody):
    text = await (await browser.get("/sign-in?next=/runs?a=%26")).text()
    assert (
        'href="/sign-in/start?next=%2Fruns%3Fa%3D%26"' in text and "at 127.0.0.1" in text and 'name="password"' in text
    )
    assert "Single sign-on" not in await (await nobody.get("/sign-in")).text()
    for path in ("/sign-in/start", "/sign-in/callback?code=a&state=b"):
        assert (await nobody.get(path)).status == 404


async def test_a_person_comes_back_signed_in_to_the_page_that_was_asked_for(browser, provider, rows):
    address, cookie = await begin(browser, "/runs?branch=a%26b")
    query = parse_qs(urlsplit(address).query)
    port = browser.server.port
    assert query["redirect_uri"] == [f"http://127.0.0.1:{port}/sign-in/callback"]
    assert query["scope"] == ["openid profile email"] and query["tenant"] == ["a"]
    back = await at_provider(address)
    for tell_tale in (query["state"][0], query["nonce"][0], query["code_challenge"][0]):
        assert tell_tale not in cookie["Cookie"]
    reply = await come_back(browser, back, cookie)
    assert (reply.status, reply.headers["Location"]) == (303, "/runs?branch=a%26b")
    assert cookies_of(reply)[FLOW_COOKIE] == "" and "HttpOnly" in reply.headers.getall("Set-Cookie")[-1]
    assert await whoami(browser, reply) == ("jane", [("*", "viewer"), ("web", "uploader")])
    page = await browser.get("/runs", headers={"Cookie": f"{COOKIE}={cookies_of(reply)[COOKIE]}"})
    assert page.status == 200 and "jane" in await page.text()
    assert actions(rows) == ["user.created", "user.roles_changed", "login.succeeded"]
    (entry,) = rows("SELECT actor_kind, actor_name, detail FROM audit_entries WHERE action = 'user.created'")
    assert entry == {
        "actor_kind": "person",
        "actor_name": "jane",
        "detail": {"issuer": provider.issuer, "sub": "248289761001"},
    }
    await refused(await come_back(browser, back, cookie), 401, "did not accept")  # a code works once
    again = await sign_in(browser)
    assert actions(rows)[4:] == ["login.succeeded"] and await whoami(browser, again) == await whoami(browser, reply)
    assert len(rows("SELECT 1 FROM users")) == 1


async def test_the_callback_uses_the_address_behind_a_trusted_proxy(browser):
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "reports.example"}
    reply = await browser.get("/sign-in/start", headers=headers, allow_redirects=False)
    query = parse_qs(urlsplit(reply.headers["Location"]).query)
    assert query["redirect_uri"] == ["https://reports.example/sign-in/callback"]
    (line,) = reply.headers.getall("Set-Cookie")
    assert all(word in line for word in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/sign-in", "Max-Age=900"))


async def test_the_callback_uses_the_public_address_if_it_is_set(start, aiohttp_client, provider):
    oidc = Oidc(provider.issuer, providers.CLIENT, providers.SECRET, role_map=ROLES)
    server = (await start(auth={"oidc": oidc}, server={"public_url": "https://reports.example/"})).server
    address, _ = await begin(await aiohttp_client(server, cookie_jar=DummyCookieJar()))
    query = parse_qs(urlsplit(address).query)
    assert query["redirect_uri"] == ["https://reports.example/sign-in/callback"]


async def test_the_way_back_never_leads_elsewhere(browser):
    for next in ("//evil.example", "https://evil.example", "/\\evil", "/" + "x" * 2500, ""):
        reply = await sign_in(browser, next)
        assert (reply.status, reply.headers["Location"]) == (303, "/"), next


async def test_credentials_of_a_netrc_are_not_sent_to_the_provider(browser, provider, tmp_path, monkeypatch):
    """Those of the user that runs the server may be for something else at that host. With them, requests that have
    credentials of their own would fail."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login anna password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    provider.only_userinfo = {"groups"}
    assert (await whoami(browser, await sign_in(browser)))[0] == "jane"


async def test_the_provider_is_asked_through_the_proxy_of_the_environment(browser, provider, monkeypatch):
    """Here the provider is its own proxy, which gets the whole address and the credentials for the proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    host = provider.issuer.partition("://")[2]
    monkeypatch.setenv("http_proxy", f"http://anna:secret@{host}")
    await begin(browser)
    assert provider.proxied == ["Basic YW5uYTpzZWNyZXQ="] * 2
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert (await sign_in(browser)).status == 303 and len(provider.proxied) == 2


async def test_roles_follow_the_claim_at_each_sign_in(browser, provider, rows):
    first = await sign_in(browser)
    for groups, expected in [
        (["qa", "leads"], [("*", "viewer"), ("web", "admin")]),
        ("leads", [("web", "admin")]),
        ([7, None, {"qa": 1}, ["qa"], "unknown", "none"], [("api", "viewer")]),
    ]:
        provider.person["groups"] = groups
        assert (await whoami(browser, await sign_in(browser)))[1] == expected
    browser.app[SERVICES].callers.clear()
    assert (await whoami(browser, first))[1] == [("api", "viewer")]  # also in sessions that are open
    for groups in ([], ["none"], None, True):
        provider.person["groups"] = groups
        await refused(await sign_in(browser), 403, "have no role here")
    assert rows("SELECT 1 FROM sessions") == rows("SELECT 1 FROM user_roles") == []
    browser.app[SERVICES].callers.clear()
    ended = await browser.get("/api/v1/auth/session", headers={"Cookie": f"{COOKIE}={cookies_of(first)[COOKIE]}"})
    assert ended.status == 401
    provider.person["sub"] = "somebody else without a role"
    await refused(await sign_in(browser), 403, "have no role here")
    assert len(rows("SELECT 1 FROM users")) == 1


async def test_an_account_takes_no_name_that_somebody_has(browser, provider, make_user, rows, command):
    local = make_user(default="admin")
    provider.person |= {"preferred_username": local.upper(), "email": "jane@corp.example"}
    assert (await whoami(browser, await sign_in(browser)))[0] == "jane@corp.example"
    names = []
    for number, changed in enumerate(
        (
            {},
            {"preferred_username": "\u202ex", "email": 7, "name": " "},
            {"preferred_username": "a\0b", "email": "x" * 101},
        )
    ):
        provider.person |= {"sub": f"sub-{number}", **changed}
        names.append((await whoami(browser, await sign_in(browser)))[0])
    assert (
        names[0].startswith(f"{local.upper()} #") and names[1].startswith("sub-1 #") and names[2].startswith("sub-2 #")
    )
    reply = await browser.post(LOGIN, json={"name": local, "password": PASSWORD})
    assert reply.status == 201  # local accounts go on
    for password in ("", "nobody's", PASSWORD):
        wrong = await browser.post("/sign-in", data={"name": "jane@corp.example", "password": password})
        assert wrong.status == 401
    assert rows("SELECT count(*) AS n FROM users WHERE subject_hash IS NOT NULL")[0]["n"] == 4
    assert command("user", "list")[1].count("SSO") == 4
    for arguments in (
        ("reset-password", "jane@corp.example", "--generate"),
        ("set-roles", "jane@corp.example", "--role", "admin"),
    ):
        code, _, errors = command("user", *arguments)
        assert code != 0 and "signs in at the provider" in errors


async def test_admins_see_who_signs_in_at_the_provider_and_give_neither_roles_nor_passwords(browser, make_user, rows):
    await sign_in(browser)
    (person,) = rows("SELECT id FROM users")
    admin = await browser.post(LOGIN, json={"name": make_user(everywhere="admin"), "password": PASSWORD})
    session, csrf = {"Cookie": f"{COOKIE}={cookies_of(admin)[COOKIE]}"}, (await admin.json())["csrf_token"]
    assert "valid, SSO" in await (await browser.get("/admin/people", headers=session)).text()
    page = await (await browser.get(f"/admin/people?change={person['id']}", headers=session)).text()
    assert "at the provider" in page and "Disable" in page
    assert "Generate a new password" not in page and "Set the role" not in page
    for fields in ({"action": "reset-password"}, {"action": "give-role", "role": "admin"}):
        sent = {**fields, "id": str(person["id"]), "csrf_token": csrf}
        reply = await browser.post("/admin/people", data=sent, headers=session)
        text = await reply.text()
        assert reply.status == 409 and "come from there at each sign-in (role_map). Disable the account" in text


async def test_a_disabled_person_is_refused_although_the_provider_lets_them_in(browser, command, rows):
    await sign_in(browser)
    assert command("user", "disable", "jane")[0] == 0
    await refused(await sign_in(browser), 403, "is disabled here")
    assert rows("SELECT 1 FROM sessions") == []
    assert command("user", "enable", "jane")[0] == 0
    assert (await sign_in(browser)).status == 303


async def test_two_sign_ins_at_once_make_one_account(browser, rows):
    replies = await asyncio.gather(*(sign_in(browser) for _ in range(5)))
    assert {reply.status for reply in replies} == {303}
    assert len(rows("SELECT 1 FROM users")) == 1 and len(rows("SELECT 1 FROM user_roles")) == 2


async def test_the_former_session_of_the_browser_ends(browser, rows):
    first = await sign_in(browser)
    address, cookie = await begin(browser)
    both = {"Cookie": f"{cookie['Cookie']}; {COOKIE}={cookies_of(first)[COOKIE]}"}
    assert (await come_back(browser, await at_provider(address), both)).status == 303
    assert len(rows("SELECT 1 FROM sessions")) == 1


# --- clients of the provider -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "methods"),
    [
        (providers.SECRET, ["client_secret_post"]),
        (providers.SECRET, ["client_secret_basic", "client_secret_post"]),
        (None, ["none"]),
    ],
)
async def test_the_client_authenticates_as_the_provider_wants(start, aiohttp_client, provider, secret, methods):
    provider.secret, provider.auth_methods = secret, methods
    oidc = Oidc(provider.issuer, providers.CLIENT, secret or "", role_map=ROLES)
    browser = await aiohttp_client((await start(auth={"oidc": oidc})).server, cookie_jar=DummyCookieJar())
    assert (await sign_in(browser)).status == 303


@pytest.mark.parametrize(
    ("name", "claims"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["qa"]}}),
        ("https://x.example/roles", {"https://x.example/roles": "qa"}),
    ],
)
async def test_roles_may_be_in_a_nested_claim_or_at_the_userinfo_endpoint(
    start, aiohttp_client, provider, name, claims
):
    provider.person |= {**claims, "groups": None}
    oidc = Oidc(provider.issuer, providers.CLIENT, providers.SECRET, roles_claim=name, role_map=ROLES)
    browser = await aiohttp_client((await start(auth={"oidc": oidc})).server, cookie_jar=DummyCookieJar())
    assert (await sign_in(browser)).status == 303 and "/userinfo" not in provider.asked
    provider.only_userinfo = set(claims)
    assert (await sign_in(browser)).status == 303 and "/userinfo" in provider.asked
    provider.replies["/userinfo"] = lambda: web.json_response({**provider.person, "sub": "somebody else"})
    await refused(await sign_in(browser), 401, "did not accept")
    provider.replies["/userinfo"] = lambda: web.Response(status=500)
    await refused(await sign_in(browser), 503, "userinfo endpoint replied 500")


# --- refusals --------------------------------------------------------------------------------------------------


async def test_a_sign_in_of_another_browser_is_refused(browser, provider, rows):
    (address, cookie), (_, other) = await begin(browser), await begin(browser)
    back = await at_provider(address)
    asked = len(provider.asked)
    for headers in ({}, other, {"Cookie": f"{FLOW_COOKIE}=x"}, {"Cookie": f"{FLOW_COOKIE}={'x' * 43}.{'=' * 9}"}):
        await refused(await come_back(browser, back, headers), 401, "began in another browser")
    for query in ("", "code=a", "state=", "code=a&state=%ff", f"code=a&state={'x' * 201}", "code=%00&state=%ed%a0%80"):
        reply = await come_back(browser, back._replace(query=query), cookie)
        assert reply.status in (400, 401, 422) and COOKIE not in cookies_of(reply), query
    assert len(provider.asked) == asked, "the provider is asked for codes of this browser only"
    assert rows("SELECT 1 FROM users") == []
    assert (await come_back(browser, back, cookie)).status == 303


async def test_what_the_provider_says_is_shown_as_text(browser):
    address, cookie = await begin(browser)
    state = parse_qs(urlsplit(address).query)["state"][0]
    for query, words in [
        ("error=access_denied", "has not signed you in: &#39;access_denied&#39;"),
        ("error=%3Cb%3E%22%E2%80%AE", "&lt;b&gt;"),
        ("", "no code"),
        ("code=x&iss=https%3A%2F%2Fevil.example", "has not signed you in"),
    ]:
        back = urlsplit(f"/sign-in/callback?state={state}&{query}")
        await refused(await come_back(browser, back, cookie), 401, words)


async def test_id_tokens_that_are_not_for_this_sign_in_are_refused(browser, provider, rows):
    evil = providers.rsa_key("evil")
    for case, (change, words) in {
        "another audience": (lambda c: c.update(aud="another"), "another audience"),
        "given to another client": (lambda c: c.update(aud=[providers.CLIENT, "b"], azp="b"), "another client (azp)"),
        "for several, given to nobody": (lambda c: c.update(aud=[providers.CLIENT, "b"]), "another client (azp)"),
        "expired": (lambda c: c.update(exp=int(time.time()) - 61), "has expired"),
        "no nonce": (lambda c: c.pop("nonce") and None, "another sign-in (nonce)"),
        "another nonce": (lambda c: c.update(nonce="x"), "another sign-in (nonce)"),
        "another issuer": (lambda c: c.update(iss="https://evil.example"), "another issuer"),
        "unsigned": (providers.unsigned, "signed with"),
        "HS256 with the public key": (lambda c: providers.hmac_signed(c, provider.keys[0]), "signed with"),
        "another key": (lambda c: provider.sign(c, evil, kid="first"), "signature"),
        "no token": (lambda c: "x", "no ID token"),
    }.items():
        provider.change = change
        reply = await sign_in(browser)
        assert reply.status == 401 and words in await reply.text(), case
        assert COOKIE not in cookies_of(reply), case
    assert set(actions(rows)) == {"login.failed"} and rows("SELECT 1 FROM users") == []
    provider.change = lambda claims: claims.update(aud=[providers.CLIENT, "b"], azp=providers.CLIENT)
    assert (await sign_in(browser)).status == 303


async def test_keys_that_were_rotated_are_fetched_again(browser, provider, monkeypatch):
    monkeypatch.setattr(issuers, "_ASK_AGAIN_SECONDS", 0.0)
    assert (await sign_in(browser)).status == 303
    provider.rotate("second")
    assert (await sign_in(browser)).status == 303
    assert provider.asked.count("/keys") == 2


def slow():
    async def reply():
        await asyncio.sleep(30)
        return web.json_response({})

    return reply()


async def test_a_provider_that_is_away_slow_or_wrong_is_503_and_passwords_go_on(
    browser, provider, monkeypatch, make_user
):
    monkeypatch.setattr(fetch, "_SECONDS", 0.5)
    monkeypatch.setattr(issuers, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(issuers, "_FRESH_SECONDS", 0.0)
    for make, words in [
        (lambda: web.Response(status=500), "replied 500"),
        (slow, "has not replied within"),
        (lambda: web.json_response({"issuer": provider.issuer, "jwks_uri": f"{provider.issuer}/keys"}), "no endpoints"),
    ]:
        provider.replies["/.well-known/openid-configuration"] = make
        reply = await browser.get("/sign-in/start?next=/runs", allow_redirects=False)
        await refused(reply, 503, words)
        assert int(reply.headers["Retry-After"]) > 0 and 'value="/runs"' in await reply.text()
    provider.replies.clear()
    for make, status, words in [
        (lambda: web.Response(status=500), 503, "token endpoint replied 500"),
        (slow, 503, "has not replied within"),
        (lambda: web.Response(body=b"x" * (2 << 20)), 503, "larger than"),
        (lambda: web.json_response({"access_token": "x"}), 503, "id_token"),
        (lambda: web.json_response({"error": "invalid_client"}, status=401), 401, "did not accept"),
        (lambda: web.Response(status=400, text="<html>"), 401, "did not accept"),
        (lambda: web.Response(status=302, headers={"Location": "/keys"}), 503, "replied 302"),
    ]:
        provider.replies["/token"] = make
        await refused(await sign_in(browser), status, words)
    person = {"name": make_user(default="viewer"), "password": PASSWORD}
    assert (await browser.post("/sign-in", data=person, allow_redirects=False)).status == 303


async def test_codes_are_throttled_by_address(browser, provider, monkeypatch, rows):
    monkeypatch.setattr(throttling, "_OF_AN_ADDRESS", 3)
    for _ in range(4):
        assert (await sign_in(browser)).status == 303  # right ones do not count
    provider.replies["/token"] = lambda: web.json_response({"error": "invalid_grant"}, status=400)
    assert [(await sign_in(browser)).status for _ in range(4)] == [401, 401, 401, 429]
    provider.replies.clear()
    assert (await sign_in(browser)).status == 429
    assert (await sign_in(browser, **{"X-Forwarded-For": "192.0.2.7"})).status == 303


def test_the_three_texts_of_a_flow_differ_and_have_the_length_that_pkce_wants():
    flow = Flow("x" * 43, "")
    assert len({flow.state, flow.nonce, flow.verifier, flow.challenge}) == 4 and len(flow.verifier) == 43


def test_codes_are_not_logged():
    shown = redact_target("/sign-in/callback?code=s3cret&state=s3cret")
    assert "s3cret" not in shown and shown.startswith("/sign-in/callback?")


def test_it_is_off_by_default():
    assert not Config().auth.oidc.on
