"""Users for the tests, and how they log in."""

from functools import cache
from http.cookies import SimpleCookie

from server.auth.passwords import hash_password
from server.http.authenticate import COOKIE

PASSWORD = "correct horse battery staple"
LOGIN = "/api/v1/auth/login"


@cache
def password_hash():
    """The hash of PASSWORD. Cached, because hashing takes a tenth of a second."""
    return hash_password(PASSWORD)


async def logged_in(client, name, password=PASSWORD):
    """The headers of a browser after login: the session cookie, and the CSRF token that changes need."""
    reply = await client.post(LOGIN, json={"name": name, "password": password})
    assert reply.status == 201, await reply.text()
    cookie = SimpleCookie(reply.headers["Set-Cookie"])[COOKIE].value
    return {"Cookie": f"{COOKIE}={cookie}", "X-CSRF-Token": (await reply.json())["csrf_token"]}
