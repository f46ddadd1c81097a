"""The first access to a new `reportd up`: an admin token for programs, and the person `admin` for a browser.

Each is in a file of the folder, readable by its owner only, and is made once.
"""

import os
import secrets
from pathlib import Path

import asyncpg

from server.auth import access_tokens, people
from server.auth.passwords import Passwords, hash_password
from server.auth.roles import Role
from server.auth.tokens import hash_of, is_token, new_token
from server.database.embedded import EmbeddedError
from server.database.queries import SQL
from server.observe.audit import operator

TOKEN, PASSWORD = "admin-token", "admin-password"
_ADMIN = "admin"


async def ensure(data: Path, dsn: str) -> str | None:
    """Creates the token and the person at the first start. Returns the person's password if it was made now.

    Each file is written before its row: after a crash in between, the next start adds the missing row.
    """
    connection = await asyncpg.connect(dsn)
    try:
        await _ensure_token(connection, data)
        return await _ensure_person(connection, data)
    finally:
        await connection.close()


def replace_token(data: Path, former_hash: bytes, token: str) -> None:
    """Replace the secret in the admin-token file after a rotation, if the file holds the rotated token."""
    path = data / TOKEN
    if path.exists() and hash_of(path.read_text("ascii").strip()) == former_hash:
        write(path, token + "\n")


def forget_password(data: Path, name: str) -> None:
    """Remove the admin-password file after the person `admin` got another password, which is no business of a file."""
    if name == _ADMIN:
        (data / PASSWORD).unlink(missing_ok=True)


async def forget_another_password(data: Path, dsn: str) -> bool:
    """Remove the admin-password file if the person `admin` has another one in a restored database. Whether it did."""
    path = data / PASSWORD
    if not path.exists():
        return False
    connection, passwords = await asyncpg.connect(dsn), Passwords()
    try:
        row = await connection.fetchrow(SQL.users.for_login, _ADMIN)
        if await passwords.match(row["password_hash"], path.read_text("utf-8").strip()):
            return False
    finally:
        passwords.close()
        await connection.close()
    path.unlink()
    return True


def write(path: Path, text: str) -> None:
    """Write a file atomically, readable by its owner only."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)


async def _ensure_token(connection: asyncpg.Connection, data: Path) -> None:
    path = data / TOKEN
    tokens = await connection.fetch(SQL.tokens.all)
    if not path.exists() and tokens:
        return  # removed on purpose, or lost: `reportd token create --data` makes a new one
    if not path.exists():
        write(path, new_token() + "\n")
    token = path.read_text("ascii").strip()
    if not is_token(token):
        raise EmbeddedError(f"{path} holds no token. Remove it, then run `reportd token create --data {data}`.")
    if not await connection.fetchval(SQL.tokens.known, hash_of(token)):
        name = _ADMIN if _ADMIN not in {row["name"] for row in tokens} else f"{_ADMIN}-{os.urandom(3).hex()}"
        async with connection.transaction():
            await access_tokens.create(connection, name, token, Role.ADMIN, None, None, operator())


async def _ensure_person(connection: asyncpg.Connection, data: Path) -> str | None:
    path = data / PASSWORD
    if await connection.fetch(SQL.users.all):
        return None  # made at an earlier start, or added by the operator
    if not path.exists():
        write(path, secrets.token_urlsafe(12) + "\n")
    password = path.read_text("utf-8").strip()
    async with connection.transaction():
        await people.create(connection, _ADMIN, hash_password(password), [(None, Role.ADMIN)], operator())
    return password
