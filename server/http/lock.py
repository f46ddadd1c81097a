"""The row lock that every writer of steps, artifacts and what belongs to them takes first."""

from typing import Any
from uuid import UUID

from aiohttp import web

from server.context import CALLER, SQL


async def lock_case(request: web.Request, connection: Any, case_id: UUID) -> None:
    """Takes the test case's row for writing; PostgreSQL raises what becomes CaseNotFound."""
    await connection.execute(request.app[SQL].test_cases.lock, case_id, request[CALLER].project_id)
