"""The report of a test case: everything that was stored of it, in one reply. It composes the other nouns."""

from dataclasses import dataclass
from uuid import UUID

from aiohttp import web

from server.api.artifacts import Artifact
from server.api.checkpoints import Checkpoint
from server.api.steps import IllustratedStep
from server.api.test_cases import TestCase
from server.context import CALLER, POOL, SQL
from server.errors import CaseNotFound
from server.http import reply
from server.http.reply import Response

MOST = 2_000


@dataclass(slots=True)
class Report:
    test_case_result: TestCase
    steps: list[IllustratedStep]
    artifacts: list[Artifact]
    checkpoints: list[Checkpoint]
    console_log_count: int
    network_log_count: int
    truncated: bool


async def show(request: web.Request, case_id: UUID) -> Response:
    """A test case result with its steps, artifacts and checkpoints: the first 2,000 of each."""
    return reply.ok(await gather(request, case_id))


async def gather(request: web.Request, case_id: UUID, types: str | None = None) -> Report:
    """The whole report; of its artifacts those whose MIME type begins with `types`. Raises CaseNotFound."""
    sql, project_id = request.app[SQL], request[CALLER].project_id
    # One snapshot: a report must not show half of a PUT.
    async with (
        request.app[POOL].acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        row = await connection.fetchrow(sql.test_cases.by_id, case_id, project_id)
        if row is None:
            raise CaseNotFound()
        total, *_, steps = await connection.fetchrow(sql.steps.illustrated, case_id, project_id, None, None, MOST, 0)
        filters = (None, None, None, None, types)
        artifacts = await connection.fetch(sql.artifacts.for_case, case_id, *filters, MOST + 1, 0)
        checkpoints = await connection.fetch(sql.checkpoints.for_case, case_id, None, None, MOST + 1, 0)
        console, network = await connection.fetchrow(sql.logs.counts, case_id)
    return Report(
        TestCase(*row),
        steps,
        [Artifact(*columns) for columns in artifacts[:MOST]],
        [Checkpoint(*columns) for columns in checkpoints[:MOST]],
        console,
        network,
        total > MOST or any(len(rows) > MOST for rows in (artifacts, checkpoints)),
    )
