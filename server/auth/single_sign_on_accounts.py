"""Accounts of people who sign in at a provider: made at the first sign-in, and given their roles at each."""

import hashlib
from collections.abc import Mapping
from typing import Any

from server.auth import id_tokens, people
from server.auth.accounts import Client, NewSession
from server.auth.passwords import prepared
from server.auth.people import Person
from server.auth.roles import Role
from server.auth.tokens import hash_of
from server.database.pool import Pool
from server.database.queries import SQL
from server.errors import ClaimsRefused
from server.ids import new_id
from server.observe.audit import Action, Subject, record
from server.trust import Oidc, grants_of

_NAMES = ("preferred_username", "email", "name")  # the first of them that is free becomes the name here
_LONGEST = 100
Grants = Mapping[str | None, Role]  # by project; None: all projects


async def start(pool: Pool, oidc: Oidc, claims: dict[str, Any], session: NewSession, client: Client) -> None:
    """Save the session of the person whom verified claims are about. Raises ClaimsRefused."""
    subject_hash = hashlib.sha256(f"{oidc.issuer}\0{claims['sub']}".encode()).digest()
    grants = roles_of(oidc, claims)
    async with pool.transaction() as connection:
        person = await _find(connection, subject_hash)
        if person is None and grants:
            person = await _create(connection, oidc, subject_hash, claims, client)
        if person is not None and not person.disabled:
            await _set_roles(connection, person, grants, client)
            if grants:
                await _save(connection, person, session, client)
    if not grants:  # after the commit, which takes away the roles that the person had
        raise ClaimsRefused(
            f"You have signed in at {oidc.issuer}, but have no role here. Ask for one and sign in again."
        )
    if person is not None and person.disabled:
        raise ClaimsRefused(f"The account {person.name} is disabled here. Ask an admin of this server.")


def roles_of(oidc: Oidc, claims: dict[str, Any]) -> Grants:
    """The roles that `role_map` gives for the values of the roles claim; of two in a project, the larger one."""
    found: dict[str | None, Role] = {}
    for value in id_tokens.texts(id_tokens.claim(claims, oidc.roles_claim)):
        for project, word in grants_of(oidc.role_map.get(value, [])):
            found[project] = max(found.get(project, Role.VIEWER), Role.of(word))
    return found


async def _find(connection: Any, subject_hash: bytes) -> Person | None:
    row = await connection.fetchrow(SQL.users.by_subject, subject_hash)
    return None if row is None else Person(*row)


async def _create(
    connection: Any, oidc: Oidc, subject_hash: bytes, claims: dict[str, Any], client: Client
) -> Person | None:
    for name in _names(claims, subject_hash):
        user_id = await connection.fetchval(SQL.users.create_by_subject, new_id(0), name, subject_hash)
        if user_id is not None:
            actor, subject = client.actor_as("person", user_id, name), Subject("person", user_id, name)
            await record(connection, Action.USER_CREATED, actor, subject, issuer=oidc.issuer, sub=claims["sub"])
            return await _find(connection, subject_hash)
        # Somebody else has this name, or another sign-in of the same person has just made the account.
        if (person := await _find(connection, subject_hash)) is not None:
            return person
    raise LookupError("every name is taken, also the one with the hash of the subject")


def _names(claims: dict[str, Any], subject_hash: bytes) -> list[str]:
    """Names for a new account. A name that somebody has, such as a local account, is never taken over."""
    found = [prepared(claims[key]) for key in _NAMES if isinstance(claims.get(key), str)]
    names = [name for name in found if 1 <= len(name) <= _LONGEST and name.isprintable() and name.strip() == name]
    first = names[0] if names else claims["sub"]
    return [*names, f"{first[:80]} #{subject_hash.hex()[:8]}"]


async def _set_roles(connection: Any, person: Person, grants: Grants, client: Client) -> None:
    """Replace the roles of a person, if they have changed. Without a role, the sessions of the person end, too."""
    had = {project: role for _, project, role in await people.roles_of(connection, person)}
    if had == grants:
        return
    actor = client.actor_as("person", person.id, person.name)
    await people.replace_roles(connection, person, list(grants.items()), actor)
    if not grants:
        await connection.execute(SQL.sessions.delete_for_user, person.id)


async def _save(connection: Any, person: Person, session: NewSession, client: Client) -> None:
    await connection.execute(SQL.sessions.create_by_subject, hash_of(session.cookie), person.id, session.ends)
    # End the browser's previous session, too, as at a login with a password.
    await connection.execute(SQL.sessions.delete, hash_of(session.previous))
    actor = client.actor_as("person", person.id, person.name)
    await record(connection, Action.LOGIN_SUCCEEDED, actor, person.subject)
