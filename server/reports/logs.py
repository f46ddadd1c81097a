"""Console and network logs in the database: appended in bulk, read back in the order sent."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct

from server.database.queries import SQL
from server.database.rows import encode_portions
from server.errors import CaseNotFound
from server.ids import bucket_of, new_ids
from server.reports import listing, test_cases
from server.reports.words import Moment


@dataclass(slots=True)
class ConsoleEntry:
    id: UUID
    test_case_result_id: UUID
    level: str
    message: str
    source_url: str | None
    line_number: int | None
    column_number: int | None
    step_number: int | None
    iteration_number: int
    logged_at: Moment | None
    created_at: Moment


@dataclass(slots=True)
class NetworkEntry:
    id: UUID
    test_case_result_id: UUID
    method: str
    url: str
    status_code: int | None
    resource_type: str | None
    request_headers: dict[str, Any]
    response_headers: dict[str, Any]
    request_size: int | None
    response_size: int | None
    duration_ms: int | None
    error_text: str | None
    step_number: int | None
    iteration_number: int
    started_at: Moment | None
    created_at: Moment


@dataclass(slots=True)
class ConsolePage:
    total: int
    page: int
    per_page: int
    items: list[ConsoleEntry]


@dataclass(slots=True)
class NetworkPage:
    total: int
    page: int
    per_page: int
    items: list[NetworkEntry]


@dataclass(slots=True)
class EntriesCreated:
    created: int


async def append(
    connection: Any,
    log: Literal["console", "network"],
    case_id: UUID,
    scope: UUID | None,
    new: Sequence[Struct],
    first: int | None,
) -> int:
    """Appends entries in the order sent and returns how many were added. `first` is the client's sequence number of the
    first entry: entries whose number is stored already are skipped. Raises CaseNotFound."""
    await test_cases.lock(connection, case_id, scope)
    return await insert_many(connection, log, [case_id] * len(new), new, first)


async def insert_many(
    connection: Any,
    log: Literal["console", "network"],
    cases: Sequence[UUID],
    new: Sequence[Struct],
    first: int | None = None,
) -> int:
    """Like append(), each entry to its test case. The caller holds their locks."""
    if not new:
        return 0
    query = SQL.logs.insert_console if log == "console" else SQL.logs.insert_network
    ids, added, at = new_ids(bucket_of(cases[0]), len(new)), 0, 0
    async for count, rows in encode_portions(new):
        number = None if first is None else first + at
        some = slice(at, at + count)
        added += len(await connection.fetch(query, cases[some], ids[some], rows, number))
        at += count
    return added


async def console_of_case(
    connection: Any, case_id: UUID, scope: UUID | None, filters: Sequence[Any], limit: int, offset: int
) -> tuple[int, Any]:
    """How many entries match, and a Listing of a page of ConsoleEntry. `filters`: step, iteration, level.

    Raises CaseNotFound.
    """
    queries = SQL.logs.count_console, SQL.logs.console_for_case
    return await _page(connection, *queries, ConsoleEntry, case_id, scope, filters, limit, offset)


async def network_of_case(
    connection: Any, case_id: UUID, scope: UUID | None, filters: Sequence[Any], limit: int, offset: int
) -> tuple[int, Any]:
    """How many entries match, and a Listing of a page of NetworkEntry. `filters`: step, iteration, lowest status code,
    resource type. Raises CaseNotFound."""
    queries = SQL.logs.count_network, SQL.logs.network_for_case
    return await _page(connection, *queries, NetworkEntry, case_id, scope, filters, limit, offset)


async def _page(
    connection: Any,
    count: str,
    for_case: str,
    make: type[ConsoleEntry] | type[NetworkEntry],
    case_id: UUID,
    scope: UUID | None,
    filters: Sequence[Any],
    limit: int,
    offset: int,
) -> tuple[int, Any]:
    total = await connection.fetchval(count, case_id, scope, *filters)
    if total is None:
        raise CaseNotFound()
    fetch = listing.rows(for_case, (case_id, *filters), make, len(fields(make)))
    return total, await listing.read(connection, fetch, (0,), total, limit, offset)
