"""Signing in and out with a browser: where it leads, what is refused, and that no page of another site can do it."""

from http.cookies import SimpleCookie
from urllib.parse import quote

import pytest
from yarl import URL

from server.auth.tokens import new_token
from server.http.authenticate import COOKIE
from tests.people import PASSWORD

PAGE = "/sign-in"
CROSS_SITE = {"Sec-Fetch-Site": "cross-site"}


async def sign_in(client, headers=(), **fields):
    return await client.post(PAGE, data=fields, headers=dict(headers), allow_redirects=False)


def cookie_of(reply):
    return {"Cookie": f"{COOKIE}={SimpleCookie(reply.headers['Set-Cookie'])[COOKIE].value}"}


@pytest.fixture
async def person(nobody, make_user):
    name = make_user(default="viewer")
    return name, cookie_of(await sign_in(nobody, name=name, password=PASSWORD))


def csrf_in(text):
    return text.partition('name="csrf_token" value="')[2].partition('"')[0]


async def test_a_person_signs_in_goes_back_to_the_page_that_was_asked_for_and_signs_out(nobody, make_user, rows):
    asked = await nobody.get(URL("/sign-out?x=%26", encoded=True), allow_redirects=False)
    assert (asked.status, asked.headers["Location"]) == (303, "/sign-in?next=%2Fsign-out%3Fx%3D%2526")
    form = await (await nobody.get(URL(asked.headers["Location"], encoded=True))).text()
    assert 'name="next" value="/sign-out?x=%26"' in form
    reply = await sign_in(nobody, name=make_user(default="viewer"), password=PASSWORD, next="/sign-out?x=%26")
    assert (reply.status, reply.headers["Location"]) == (303, "/sign-out?x=%26")
    cookie = cookie_of(reply)
    page = await nobody.get("/sign-out", headers={**cookie, "Accept-Encoding": "gzip"})
    assert page.status == 200 and "Content-Encoding" not in page.headers  # it has a CSRF token
    token = csrf_in(await page.text())
    refused = await nobody.post("/sign-out", headers=cookie, data={"csrf_token": token[:-1] + "x"})
    assert refused.status == 403
    assert (await nobody.post("/sign-out", headers={**cookie, **CROSS_SITE}, data={"csrf_token": token})).status == 403
    left = await nobody.post("/sign-out", headers=cookie, data={"csrf_token": token}, allow_redirects=False)
    assert (left.status, left.headers["Location"]) == (303, "/sign-in") and "Max-Age=0" in left.headers["Set-Cookie"]
    assert (await nobody.get("/sign-out", headers=cookie, allow_redirects=False)).status == 303
    assert rows("SELECT 1 FROM sessions") == []
    again = await nobody.post("/sign-out", headers=cookie, data={"csrf_token": token}, allow_redirects=False)
    assert again.status == 303  # the session has ended already


async def test_a_wrong_password_keeps_the_name_and_tells_nothing(nobody, make_user, rows):
    name = make_user(default="viewer")
    texts = []
    for fields in ({"name": name, "password": "wrong"}, {"name": "nobody", "password": "wrong"}, {"name": name}):
        reply = await sign_in(nobody, **fields)
        text = await reply.text()
        assert (
            reply.status == 401 and "The name or the password is wrong." in text and "Set-Cookie" not in reply.headers
        )
        texts.append(text.replace(fields["name"], "NAME"))
    assert len(set(texts)) == 1 and 'value="NAME"' in texts[0] and "wrong" not in texts[0].partition("<form")[2]
    assert rows("SELECT 1 FROM sessions") == []


async def test_too_many_wrong_passwords_are_throttled(nobody, make_user):
    name = make_user(default="viewer")
    for _ in range(10):
        assert (await sign_in(nobody, name=name, password="wrong")).status == 401
    reply = await sign_in(nobody, name=name, password=PASSWORD)
    assert reply.status == 429 and int(reply.headers["Retry-After"]) > 0 and "Too many" in await reply.text()


async def test_a_token_starts_a_session_that_only_reads(nobody, make_token, rows):
    token = make_token(project="default", role="admin")
    reply = await sign_in(nobody, token=f" {token} ", next="/sign-out")
    assert (reply.status, reply.headers["Location"]) == (303, "/sign-out")
    cookie = cookie_of(reply)
    text = await (await nobody.get("/sign-out", headers=cookie)).text()
    assert "with the token" in text
    made = await nobody.post("/api/v1/reports/suite-runs", headers=cookie, json={"name": "x"})
    assert made.status == 401
    left = await nobody.post("/sign-out", headers=cookie, data={"csrf_token": csrf_in(text)}, allow_redirects=False)
    assert left.status == 303 and rows("SELECT 1 FROM sessions") == []


TOKENS = {"unknown": new_token(), "short": "x", "long": "a" * 200, "no ASCII": "\u20ac"}


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
async def test_a_wrong_token_is_said_to_be_wrong(nobody, token):
    reply = await sign_in(nobody, token=token)
    text = await reply.text()
    assert reply.status == 401 and "This token is not valid." in text and f'value="{token}"' not in text


ELSEWHERE = ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "runs", "",
             "/\t/evil.example", "/runs\r\nSet-Cookie: x=1", "/ /x"]  # fmt: skip


@pytest.mark.parametrize("address", ELSEWHERE)
async def test_the_way_back_never_leads_to_another_host(nobody, make_user, address):
    text = await (await nobody.get(f"{PAGE}?next={quote(address, safe='')}")).text()
    assert 'name="next" value="/"' in text
    reply = await sign_in(nobody, name=make_user(default="viewer"), password=PASSWORD, next=address)
    assert (reply.status, reply.headers["Location"]) == (303, "/")


async def test_no_page_of_another_site_signs_anybody_in(nobody, make_user, make_token):
    for fields in ({"name": make_user(default="viewer"), "password": PASSWORD}, {"token": make_token()}):
        reply = await sign_in(nobody, CROSS_SITE, **fields)
        assert reply.status == 403 and "Set-Cookie" not in reply.headers


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b'{"name": "x"}', "application/json", 415),
        (b"name=x", None, 415),
        (b"name=" + b"x" * 101, "application/x-www-form-urlencoded", 422),
        (b"name=%ff", "application/x-www-form-urlencoded", 400),
        (b"name=%00", "application/x-www-form-urlencoded", 422),
        (b"name=\xff", "application/x-www-form-urlencoded", 400),
        (b"a=1&" * 200, "application/x-www-form-urlencoded", 400),
        (b"a=" + b"x" * 20_000, "application/x-www-form-urlencoded", 413),
    ],
)
async def test_a_form_that_is_none_is_refused(nobody, body, content_type, status):
    headers = {"Content-Type": content_type} if content_type else {"Content-Type": "text/plain"}
    reply = await nobody.post(PAGE, data=body, headers=headers)
    assert reply.status == status and reply.content_type == "text/html"


async def test_names_are_shown_as_text(nobody):
    text = await (await sign_in(nobody, name='<b>"x', password="wrong")).text()
    assert "<b>" not in text and "&lt;b&gt;&#34;x" in text


async def test_an_unknown_address_is_a_page_for_browsers_and_json_for_programs(nobody):
    reply = await nobody.get("/nothing", headers={"Accept": "text/html"})
    assert reply.status == 404 and "There is nothing at this address" in await reply.text()
    assert (await (await nobody.get("/nothing")).json())["code"] == "route_not_found"


async def test_pages_are_compressed_for_clients_that_take_it(nobody):
    for accepted, packed in [("gzip, br", True), ("gzip;q=0", False), ("identity", False), ("*", True)]:
        reply = await nobody.get(f"{PAGE}?next=/{'x' * 2000}", headers={"Accept-Encoding": accepted})
        assert ("Content-Encoding" in reply.headers) == packed and "Sign in" in await reply.text()
        assert reply.headers["Vary"] == "Accept-Encoding, Cookie"
