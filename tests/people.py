"""Users for the tests, and how they log in."""

from functools import cache
from http.cookies import SimpleCookie

import psycopg

from server.auth.passwords import hash_password
from server.auth.tokens import hash_of, new_token
from server.http.authenticate import COOKIE
from server.ids import new_id

PASSWORD = "correct horse battery staple"
LOGIN = "/api/v1/auth/login"


@cache
def password_hash():
    """The hash of PASSWORD. Cached, because hashing takes a tenth of a second."""
    return hash_password(PASSWORD)


def an_admin(dsn: str) -> str:
    """A new token with the role admin in all projects."""
    token = new_token()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO tokens (id, name, token_hash, role) VALUES (%s, 'admin', %s, 'admin')",
            (new_id(0), hash_of(token)),
        )
    return token


async def logged_in(client, name, password=PASSWORD):
    """The headers of a browser after login: the session cookie, and the CSRF token that changes need."""
    reply = await client.post(LOGIN, json={"name": name, "password": password})
    assert reply.status == 201, await reply.text()
    cookie = SimpleCookie(reply.headers["Set-Cookie"])[COOKIE].value
    return {"Cookie": f"{COOKIE}={cookie}", "X-CSRF-Token": (await reply.json())["csrf_token"]}
