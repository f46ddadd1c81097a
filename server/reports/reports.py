"""The report of a test case in one reply: its steps, artifacts and checkpoints, and the counts of its logs."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from server.database.queries import SQL
from server.database.reads import Reads
from server.reports import artifacts, checkpoints, steps, test_cases
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


async def gather(reads: Reads, case_id: UUID, scope: UUID | None, types: str | None = None) -> Report:
    """The report, with the artifacts whose MIME type starts with `types` (None: all). Its lists are Listings, from one
    snapshot except for what is more than a portion. Raises CaseNotFound."""
    # One snapshot: otherwise a report could show half of a concurrent PUT.
    async with (
        reads.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        case = await test_cases.by_id(connection, case_id, scope)
        totals = await connection.fetchrow(SQL.test_cases.report_counts, case_id, types)
        (total, *_), _, shown = await steps.of_case(connection, case_id, scope, limit=MAX_ITEMS)
        filters = (None, None, None, None, types)
        files = await artifacts.some(connection, case_id, filters, totals["artifacts"], MAX_ITEMS)
        points = await checkpoints.some(connection, case_id, (None, None), totals["checkpoints"], MAX_ITEMS)
    truncated = max(total, totals["artifacts"], totals["checkpoints"]) > MAX_ITEMS
    return Report(case, shown, files, points, totals["console"], totals["network"], truncated)


def lists(report: Report) -> list[Any]:
    """The Listings of a report, in its order."""
    return [report.steps, report.artifacts, report.checkpoints]
