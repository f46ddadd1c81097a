"""Checkpoints in the database: named verifications within a test case."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from msgspec import Struct

from server.database.queries import SQL
from server.database.rows import encode_portions
from server.errors import CaseNotFound
from server.ids import bucket_of, new_ids
from server.reports import listing
from server.reports.words import Moment, Status


@dataclass(slots=True)
class Checkpoint:
    id: UUID
    test_case_result_id: UUID
    iteration_number: int
    checkpoint_number: int
    step_number: int | None
    name: str
    checkpoint_type: str | None
    status: Status
    expected_value: str | None
    actual_value: str | None
    message: str | None
    screenshot_artifact_id: UUID | None
    captured_at: Moment | None
    created_at: Moment


@dataclass(slots=True)
class CheckpointPage:
    total: int
    page: int
    per_page: int
    items: list[Checkpoint]


@dataclass(slots=True)
class Appended:
    created: int


async def insert_many(connection: Any, cases: Sequence[UUID], new: Sequence[Struct]) -> None:
    """Inserts checkpoints in the order sent, each of its test case. The caller holds their locks."""
    if not new:
        return
    ids, at = new_ids(bucket_of(cases[0]), len(new)), 0
    async for count, rows in encode_portions(new):
        some = slice(at, at + count)
        await connection.execute(SQL.checkpoints.insert_many, cases[some], ids[some], rows)
        at += count


async def own_artifacts(connection: Any, case_id: UUID, wanted: Sequence[UUID]) -> set[UUID]:
    """The ids in `wanted` that are artifacts of the test case."""
    return {row["id"] for row in await connection.fetch(SQL.checkpoints.own_artifacts, case_id, wanted)}


async def of_case(
    connection: Any, case_id: UUID, scope: UUID | None, filters: Sequence[Any], limit: int, offset: int
) -> tuple[int, Any]:
    """How many checkpoints of a test case match, and a Listing of a page of Checkpoint, in the order sent. `filters`:
    step, iteration. Raises CaseNotFound.
    """
    total = await connection.fetchval(SQL.checkpoints.count_for_case, case_id, scope, *filters)
    if total is None:
        raise CaseNotFound()
    return total, await some(connection, case_id, filters, total, limit, offset)


async def some(connection: Any, case_id: UUID, filters: Sequence[Any], total: int, limit: int, offset: int = 0) -> Any:
    """A Listing of a page of the `total` checkpoints that match."""
    fetch = listing.rows(SQL.checkpoints.for_case, (case_id, *filters), Checkpoint, len(fields(Checkpoint)))
    return await listing.read(connection, fetch, (0,), total, limit, offset)
