"""Projects: what commands and pages do to them. Every change writes its audit entry."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from server.database.queries import SQL
from server.errors import NameTaken
from server.ids import new_id
from server.observe.audit import Action, Actor, Subject, record


@dataclass(frozen=True, slots=True)
class Listed:
    id: UUID
    name: str
    main_branch: str
    created_at: datetime


async def page(
    where: Any, projects: Sequence[UUID] | None, before: UUID | None, limit: int
) -> tuple[list[Listed], bool]:
    """At most `limit` of these projects (None: all), newest first, and whether there are more."""
    rows = await where.fetch(SQL.projects.page, projects, before, limit + 1)
    return [Listed(*row) for row in rows[:limit]], len(rows) > limit


async def by_id(where: Any, project_id: UUID, projects: Sequence[UUID] | None) -> Listed | None:
    """One entry of `page`."""
    if projects is not None and project_id not in projects:
        return None
    found, _ = await page(where, [project_id], None, 1)
    return found[0] if found else None


async def create(connection: Any, name: str, main_branch: str, actor: Actor) -> UUID:
    """A new project: its id. Raises NameTaken."""
    project_id = new_id(0)
    try:
        await connection.execute(SQL.projects.create, project_id, name, main_branch)
    except asyncpg.UniqueViolationError:
        raise _taken(name) from None
    subject = Subject("project", project_id, name, project_id)
    await record(connection, Action.PROJECT_CREATED, actor, subject, main_branch=main_branch)
    return project_id


async def rename(connection: Any, project: Listed, name: str, actor: Actor) -> None:
    """Give a project another name. Raises NameTaken."""
    try:
        await connection.execute(SQL.projects.rename, project.id, name)
    except asyncpg.UniqueViolationError:
        raise _taken(name) from None
    subject = Subject("project", project.id, project.name, project.id)
    await record(connection, Action.PROJECT_CHANGED, actor, subject, name=name)


async def set_main_branch(connection: Any, name: str, branch: str, actor: Actor) -> bool:
    """Set the branch that runs and results of the project are compared with; False when no project has this name."""
    project_id: UUID | None = await connection.fetchval(SQL.projects.set_main_branch, name, branch)
    if project_id is None:
        return False
    subject = Subject("project", project_id, name, project_id)
    await record(connection, Action.PROJECT_CHANGED, actor, subject, main_branch=branch)
    return True


def _taken(name: str) -> NameTaken:
    return NameTaken(f"A project named {name} exists already. Choose another name.")
