"""The row lock that every writer of steps, artifacts and what belongs to them takes first."""

from typing import Any
from uuid import UUID

from aiohttp import web

from server.context import CALLER, SQL
from server.errors import CaseNotFound


async def lock_case(request: web.Request, connection: Any, case_id: UUID) -> UUID:
    """Takes the test case's row for writing; its project's id. Raises CaseNotFound."""
    query = request.app[SQL].test_cases.lock
    project_id: UUID | None = await connection.fetchval(query, case_id, request[CALLER].project_id)
    if project_id is None:
        raise CaseNotFound()
    return project_id
