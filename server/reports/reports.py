"""The report of a test case: everything that was stored of it, in one reply. It composes the other nouns."""

from dataclasses import dataclass
from uuid import UUID

from server.database.pool import Pool
from server.database.queries import SQL
from server.reports import steps, test_cases
from server.reports.artifacts import Artifact
from server.reports.checkpoints import Checkpoint
from server.reports.steps import IllustratedStep
from server.reports.test_cases import TestCase

MOST = 2_000  # of each list


@dataclass(slots=True)
class Report:
    test_case_result: TestCase
    steps: list[IllustratedStep]
    artifacts: list[Artifact]
    checkpoints: list[Checkpoint]
    console_log_count: int
    network_log_count: int
    truncated: bool


async def gather(pool: Pool, case_id: UUID, scope: UUID | None, types: str | None = None) -> Report:
    """The whole report; of its artifacts those whose MIME type begins with `types`. Raises CaseNotFound."""
    # One snapshot: a report must not show half of a PUT.
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        case = await test_cases.by_id(connection, case_id, scope)
        (total, *_), _, shown = await steps.of_case(connection, case_id, scope, limit=MOST)
        filters = (None, None, None, None, types)
        artifacts = await connection.fetch(SQL.artifacts.for_case, case_id, *filters, MOST + 1, 0)
        checkpoints = await connection.fetch(SQL.checkpoints.for_case, case_id, None, None, MOST + 1, 0)
        console, network = await connection.fetchrow(SQL.logs.counts, case_id)
    return Report(
        case,
        shown,
        [Artifact(*columns) for columns in artifacts[:MOST]],
        [Checkpoint(*columns) for columns in checkpoints[:MOST]],
        console,
        network,
        total > MOST or any(len(rows) > MOST for rows in (artifacts, checkpoints)),
    )
