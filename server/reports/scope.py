"""The resources that path ids refer to, and the project of each."""

from collections.abc import Mapping
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


async def project_named(where: Any, name: str) -> UUID | None:
    """The id of the project with this name; None when there is none."""
    found: UUID | None = await where.fetchval(SQL.projects.by_name, name)
    return found


async def project_of(where: Any, name: str, some_id: UUID, scope: UUID | None) -> UUID | None:
    """The project of a resource (`name` is a key of RESOURCES); None when the scope has no such resource."""
    noun = getattr(SQL, RESOURCES[name][0])
    found: UUID | None = await where.fetchval(noun.project_of, some_id, scope)
    return found
