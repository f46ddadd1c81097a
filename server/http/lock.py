"""The row lock that every writer of steps, artifacts and what belongs to them takes first."""

from typing import Any
from uuid import UUID

from aiohttp import web

from server.context import CALLER, SQL


async def lock_case(request: web.Request, connection: Any, case_id: UUID) -> UUID:
    """Takes the test case's row for writing, and gives its project; PostgreSQL raises what becomes CaseNotFound."""
    project_id: UUID = await connection.fetchval(request.app[SQL].test_cases.lock, case_id, request[CALLER].project_id)
    return project_id
