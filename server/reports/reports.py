"""The report of a test case in one reply: its steps, artifacts and checkpoints, and the counts of its logs."""

from dataclasses import dataclass
from uuid import UUID

from server.database.pool import Pool
from server.database.queries import SQL
from server.reports import steps, test_cases
from server.reports.artifacts import Artifact
from server.reports.checkpoints import Checkpoint
from server.reports.steps import IllustratedStep
from server.reports.test_cases import TestCase

MAX_ITEMS = 2_000  # per list


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
    """The report, with the artifacts whose MIME type starts with `types` (None: all). Raises CaseNotFound."""
    # One snapshot: otherwise a report could show half of a concurrent PUT.
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        case = await test_cases.by_id(connection, case_id, scope)
        (total, *_), _, shown = await steps.of_case(connection, case_id, scope, limit=MAX_ITEMS)
        filters = (None, None, None, None, types)
        artifacts = await connection.fetch(SQL.artifacts.for_case, case_id, *filters, MAX_ITEMS + 1, 0)
        checkpoints = await connection.fetch(SQL.checkpoints.for_case, case_id, None, None, MAX_ITEMS + 1, 0)
        console, network = await connection.fetchrow(SQL.logs.counts, case_id)
    return Report(
        case,
        shown,
        [Artifact(*columns) for columns in artifacts[:MAX_ITEMS]],
        [Checkpoint(*columns) for columns in checkpoints[:MAX_ITEMS]],
        console,
        network,
        total > MAX_ITEMS or any(len(rows) > MAX_ITEMS for rows in (artifacts, checkpoints)),
    )
