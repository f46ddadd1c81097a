"""Projects: what commands and pages do to them. Every change writes its audit entry."""

from typing import Any
from uuid import UUID

from server.database.queries import SQL
from server.observe.audit import Action, Actor, Subject, record


async def set_main_branch(connection: Any, name: str, branch: str, actor: Actor) -> bool:
    """Set the branch that runs and results of the project are compared with; False when no project has this name."""
    project_id: UUID | None = await connection.fetchval(SQL.projects.set_main_branch, name, branch)
    if project_id is None:
        return False
    subject = Subject("project", project_id, name, project_id)
    await record(connection, Action.PROJECT_CHANGED, actor, subject, main_branch=branch)
    return True
