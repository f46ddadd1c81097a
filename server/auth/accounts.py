"""Browser sessions: read-only ones for tokens, and those of people who log in with name and password."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

from prometheus_client import Counter

from server.auth.callers import Caller
from server.auth.passwords import Passwords, prepared
from server.auth.throttling import Attempt, admit_session
from server.auth.tokens import hash_of
from server.database.pool import Pool
from server.database.queries import SQL
from server.errors import TooManyLogins, WrongCredentials
from server.observe.audit import Action, Actor, Subject, record

LOGINS = Counter("reportd_logins", "Logins of people, by outcome", ["outcome"])


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to start: its cookie, the browser's previous cookie (empty without one), and its end."""

    cookie: str
    previous: str
    ends: datetime


class Client(Protocol):
    """The client of a login: its address, and the actors for audit entries."""

    @property
    def remote(self) -> str: ...
    def actor(self) -> Actor: ...
    def actor_as(self, kind: Literal["person"], id: UUID | None, name: str | None) -> Actor: ...


async def start_for_token(
    connection: Any, caller: Caller, secret: str, cookie: str, ends: datetime, actor: Actor
) -> datetime:
    """Save a token's session and return its end, which is no later than that of the secret. Raises TooManyLogins."""
    await admit_session(connection, caller.id)
    columns = hash_of(cookie), caller.id, ends, hash_of(secret)
    end: datetime = await connection.fetchval(SQL.sessions.create_for_token, *columns)
    subject = Subject("token", caller.id, caller.name, caller.project_id)
    await record(connection, Action.SESSION_STARTED, actor, subject, expires_at=end)
    return end


async def log_in(
    pool: Pool, passwords: Passwords, name: str, password: str, session: NewSession, client: Client
) -> str:
    """Start a person's session and return the person's name. Raises TooManyLogins, WrongCredentials, Overloaded."""
    with passwords.slot():  # before the attempt is counted: an overloaded server must not use up a person's attempts
        user = await pool.fetchrow(SQL.users.for_login, prepared(name))
        attempt = Attempt(user["account"], client.remote)
        try:
            await attempt.admit(pool)
        except TooManyLogins:
            LOGINS.labels("throttled").inc()
            raise
        right = await passwords.match(user["password_hash"], password)
    # The stored name, never the typed one: people type passwords into the name field.
    subject = Subject("person", user["id"], user["name"])
    if not right or user["disabled"] or not await _start(pool, passwords, user, password, attempt, session, client):
        await record(pool, Action.LOGIN_FAILED, client.actor(), subject)
        LOGINS.labels("failed").inc()
        raise WrongCredentials()
    LOGINS.labels("succeeded").inc()
    return str(user["name"])


async def log_out(connection: Any, caller: Caller, cookie: str, actor: Actor) -> None:
    """End a session."""
    await connection.execute(SQL.sessions.delete, hash_of(cookie))
    await record(connection, Action.LOGOUT, actor, Subject(caller.kind, caller.id, caller.name))


async def _start(
    pool: Pool, passwords: Passwords, user: Any, password: str, attempt: Attempt, session: NewSession, client: Client
) -> bool:
    """Save a person's session. False when the person was disabled, or the password changed, since it was checked."""
    renewed = await passwords.renewed(user["password_hash"], password)
    async with pool.transaction() as connection:
        columns = hash_of(session.cookie), user["id"], session.ends, user["password_hash"]
        if not await connection.fetchval(SQL.sessions.create_for_user, *columns):
            return False
        if renewed is not None:
            await connection.execute(SQL.users.set_password, user["id"], renewed)
        # End the browser's previous session, too: an attacker who planted or stole its cookie must not keep access.
        await connection.execute(SQL.sessions.delete, hash_of(session.previous))
        actor = client.actor_as("person", user["id"], user["name"])
        await record(connection, Action.LOGIN_SUCCEEDED, actor, Subject("person", user["id"], user["name"]))
        await attempt.forgive(connection)
    return True
