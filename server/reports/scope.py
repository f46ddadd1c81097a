"""The resources that path ids refer to, and the project of each."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from server.database.queries import SQL
from server.errors import (
    ArtifactNotFound,
    CaseNotFound,
    LinkNotFound,
    ReportError,
    StepNotFound,
    SuiteRunNotFound,
)

# Path id: its file in sql/, and the error when the id is malformed or no such resource exists.
RESOURCES: Mapping[str, tuple[str, type[ReportError]]] = {
    "suite_id": ("suite_runs", SuiteRunNotFound),
    "case_id": ("test_cases", CaseNotFound),
    "step_id": ("steps", StepNotFound),
    "artifact_id": ("artifacts", ArtifactNotFound),
    "link_id": ("links", LinkNotFound),
}


async def project_within(where: Any, name: str, some_id: UUID, projects: Sequence[UUID] | None) -> UUID:
    """The project of a resource that a query names; `name` is a key of RESOURCES. Raises its error when it is in none
    of a caller's `projects` (None: all)."""
    found = await project_of(where, name, some_id, None)
    if found is None or (projects is not None and found not in projects):
        raise RESOURCES[name][1]()
    return found


async def project_named(where: Any, name: str) -> UUID | None:
    """The id of the project with this name; None when there is none."""
    found: UUID | None = await where.fetchval(SQL.projects.by_name, name)
    return found


async def name_and_main_branch(where: Any, project_id: UUID) -> tuple[str, str]:
    """The name of a project that exists, and of its main branch."""
    name, main_branch = await where.fetchrow(SQL.projects.by_id, project_id)
    return name, main_branch


async def projects_named(where: Any, name: str | None, projects: Sequence[UUID] | None) -> Sequence[UUID] | None:
    """Those of a caller's `projects` (None: all) that a list shows: all, or the one with this name, if there is one."""
    if name is None:
        return projects
    found = await project_named(where, name)
    return [found] if found is not None and (projects is None or found in projects) else []


async def only_project(where: Any, name: str | None, projects: Sequence[UUID] | None) -> UUID | None:
    """The one project of what has no id, as for a new run: the one with this name, else the caller's only one, else
    `default`; None when that is not one of the caller's `projects` (None: all)."""
    if name is None and projects is not None and len(projects) == 1:
        return projects[0]
    found = await projects_named(where, name or "default", projects)
    return found[0] if found else None


async def project_of(where: Any, name: str, some_id: UUID, scope: UUID | None) -> UUID | None:
    """The project of a resource (`name` is a key of RESOURCES); None when the scope has no such resource."""
    noun = getattr(SQL, RESOURCES[name][0])
    found: UUID | None = await where.fetchval(noun.project_of, some_id, scope)
    return found
