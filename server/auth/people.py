"""People who log in: what commands and pages do to them. Every change writes its audit entry.

A change begins with find, which locks the person. `by_provider`: the person signs in at the provider of [auth.oidc],
which has the password and gives the roles. New roles replace all earlier ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from server.auth.roles import Role
from server.database.queries import SQL
from server.errors import ByProvider, NameTaken
from server.ids import new_id
from server.observe.audit import Action, Actor, Subject, record

Roles = Sequence[tuple[str | None, Role]]  # each in the project with this name; None: in all projects


@dataclass(frozen=True, slots=True)
class Person:
    id: UUID
    name: str
    disabled: bool
    by_provider: bool

    @property
    def subject(self) -> Subject:
        return Subject("person", self.id, self.name)


@dataclass(frozen=True, slots=True)
class Listed:
    """A person in a list. `roles` are texts like `admin` (in all projects) or `shop=viewer`; `elsewhere`: whether there
    are more, in projects that the reader does not administer."""

    id: UUID
    name: str
    created_at: datetime
    last_seen_at: datetime | None
    disabled_at: datetime | None
    by_provider: bool
    roles: list[str]
    elsewhere: bool


async def create(connection: Any, name: str, password_hash: str, roles: Roles, actor: Actor) -> UUID:
    """Add a person and return the id. Projects that are missing are created. Raises NameTaken."""
    user_id = new_id(0)
    try:
        await connection.execute(SQL.users.create, user_id, name, password_hash)
    except asyncpg.UniqueViolationError:
        raise NameTaken(f"A person named {name} exists already. Choose another name.") from None
    await _give_roles(connection, user_id, roles)
    subject = Subject("person", user_id, name)
    await record(connection, Action.USER_CREATED, actor, subject, roles=_words(roles))
    return user_id


async def page(
    where: Any, projects: Sequence[UUID] | None, before: UUID | None, limit: int
) -> tuple[list[Listed], bool]:
    """At most `limit` people who have a role in these projects (None: all people), newest first, and whether there are
    more. Their roles in other projects are not named."""
    rows = await where.fetch(SQL.users.page, projects, before, limit + 1)
    return [Listed(*row) for row in rows[:limit]], len(rows) > limit


async def by_id(where: Any, user_id: UUID, projects: Sequence[UUID] | None) -> Listed | None:
    """One entry of `page`."""
    row = await where.fetchrow(SQL.users.one, user_id, projects)
    return None if row is None else Listed(*row)


async def find(connection: Any, id_or_name: str) -> Person | None:
    """The person with this id, else with this name, locked; None when there is none."""
    row = await connection.fetchrow(SQL.users.find, id_or_name)
    return None if row is None else Person(*row)


async def roles_of(connection: Any, person: Person) -> list[tuple[UUID | None, str | None, Role]]:
    """All roles of a person: the project's id and name (None: all projects), and the role."""
    rows = await connection.fetch(SQL.users.roles_of, person.id)
    return [(row["project_id"], row["project"], Role.of(row["role"])) for row in rows]


async def set_roles(connection: Any, person: Person, roles: Roles, actor: Actor) -> None:
    """Replace all roles. Ends the person's evidence links in projects in which the new roles do not allow them. Raises
    ByProvider."""
    _check_local(person)
    await replace_roles(connection, person, roles, actor)


async def replace_roles(connection: Any, person: Person, roles: Roles, actor: Actor) -> None:
    """What set_roles does, also to a person whose roles come from a provider: for the sign-in there."""
    await connection.execute(SQL.users.forget_roles, person.id)
    await _give_roles(connection, person.id, roles)
    await connection.execute(SQL.links.end_without_role, person.id)
    await record(connection, Action.USER_ROLES_CHANGED, actor, person.subject, roles=_words(roles))


async def set_password(connection: Any, person: Person, password_hash: str, actor: Actor) -> None:
    """Set a new password, and end all sessions and evidence links. Raises ByProvider."""
    _check_local(person)
    await connection.execute(SQL.users.set_password, person.id, password_hash)
    await _end_access(connection, person)
    await record(connection, Action.USER_PASSWORD_RESET, actor, person.subject)


async def disable(connection: Any, person: Person, actor: Actor) -> None:
    """Forbid to log in, and end all sessions and evidence links."""
    await connection.execute(SQL.users.disable, person.id)
    await _end_access(connection, person)
    await record(connection, Action.USER_DISABLED, actor, person.subject)


async def enable(connection: Any, person: Person, actor: Actor) -> None:
    """Allow to log in again. Sessions and links that have ended stay so."""
    await connection.execute(SQL.users.enable, person.id)
    await record(connection, Action.USER_ENABLED, actor, person.subject)


def _check_local(person: Person) -> None:
    if person.by_provider:
        raise ByProvider()


async def _end_access(connection: Any, person: Person) -> None:
    """End all sessions and evidence links of a person: those who used them may have been somebody else."""
    await connection.execute(SQL.sessions.delete_for_user, person.id)
    await connection.execute(SQL.links.end_all, person.id)


async def _give_roles(connection: Any, user_id: UUID, roles: Roles) -> None:
    for project, role in roles:
        project_id = None
        if project is not None:
            project_id = await connection.fetchval(SQL.projects.ensure, new_id(0), project)
        await connection.execute(SQL.users.add_role, user_id, project_id, role.word)


def _words(roles: Roles) -> list[str]:
    return [f"{project}={role.word}" if project else role.word for project, role in roles]
