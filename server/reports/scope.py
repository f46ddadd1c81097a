"""The things that ids in paths name, and which project each belongs to."""

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

# An id in a path: its noun in sql/, and what is said when it is malformed or there is no such thing.
RESOURCES: Mapping[str, tuple[str, type[ReportError]]] = {
    "suite_id": ("suite_runs", SuiteRunNotFound),
    "case_id": ("test_cases", CaseNotFound),
    "step_id": ("steps", StepNotFound),
    "artifact_id": ("artifacts", ArtifactNotFound),
    "link_id": ("links", LinkNotFound),
}


async def project_named(where: Any, name: str) -> UUID | None:
    """The project of this name; None when there is none."""
    found: UUID | None = await where.fetchval(SQL.projects.by_name, name)
    return found


async def project_of(where: Any, name: str, some_id: UUID, scope: UUID | None) -> UUID | None:
    """The project of the thing that `name` (a key of RESOURCES) and an id name; None when the scope has none such."""
    noun = getattr(SQL, RESOURCES[name][0])
    found: UUID | None = await where.fetchval(noun.project_of, some_id, scope)
    return found
