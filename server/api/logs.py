"""Console and network logs of a test case: appended in bulk, read back in the order sent."""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import orjson
from aiohttp import web
from msgspec import Meta, Struct

from server.context import CALLER, MASKS, POOL, SQL
from server.errors import CaseNotFound
from server.http import reply
from server.http.fields import FreeText, HeaderMap, Instant, Level, Moment, Natural, Page, Positive, Text50
from server.http.idempotency import once
from server.http.lock import lock_case
from server.http.reply import Response
from server.ids import bucket_of, new_ids
from server.mask import Masks
from server.redact import redact_text, redact_url

ByteCount = Annotated[int, Meta(ge=-1, le=2**63 - 1)]  # -1 is HAR's word for unknown
Sequence = Annotated[int, Meta(ge=0, le=2**62)]


class NewConsoleEntry(Struct):
    level: Level
    message: FreeText
    source_url: FreeText | None = None
    line_number: Natural | None = None
    column_number: Natural | None = None
    step_number: Natural | None = None
    iteration_number: Positive | None = None
    logged_at: Instant | None = None


class NewConsoleLogs(Struct):
    entries: Annotated[list[NewConsoleEntry], Meta(max_length=10_000)]
    first_sequence: Sequence | None = None


class NewNetworkEntry(Struct):
    method: Annotated[str, Meta(min_length=1, max_length=20)]
    url: Annotated[str, Meta(min_length=1, max_length=1 << 20)]
    status_code: Annotated[int, Meta(ge=0, le=999)] | None = None
    resource_type: Text50 | None = None
    request_headers: HeaderMap | None = None
    response_headers: HeaderMap | None = None
    request_size: ByteCount | None = None
    response_size: ByteCount | None = None
    duration_ms: Natural | None = None
    error_text: FreeText | None = None
    step_number: Natural | None = None
    iteration_number: Positive | None = None
    started_at: Instant | None = None


class NewNetworkLogs(Struct):
    entries: Annotated[list[NewNetworkEntry], Meta(max_length=10_000)]
    first_sequence: Sequence | None = None


class ConsoleFilter(Page):
    step_number: Natural | None = None
    iteration_number: Positive | None = None
    level: Level | None = None


class NetworkFilter(Page):
    step_number: Natural | None = None
    iteration_number: Positive | None = None
    status_min: Annotated[int, Meta(ge=0, le=999)] | None = None
    resource_type: Text50 | None = None


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


async def create_console(request: web.Request, case_id: UUID, body: NewConsoleLogs) -> Response:
    """Appends console entries. With `first_sequence`, entries that were sent before add nothing."""
    items, hide = body.entries, request.app[MASKS].hide
    columns: list[list[Any]] = [
        _sequences(body.first_sequence, len(items)),
        [item.level for item in items],
        await hide([redact_text(item.message) for item in items]),
        await hide([item.source_url and redact_url(item.source_url) for item in items]),
        [item.line_number for item in items],
        [item.column_number for item in items],
        [item.step_number for item in items],
        [item.iteration_number or 1 for item in items],
        [item.logged_at for item in items],
    ]
    return await _append(request, case_id, request.app[SQL].logs.insert_console, columns)


async def create_network(request: web.Request, case_id: UUID, body: NewNetworkLogs) -> Response:
    """Appends network entries, without the credentials of the system under test."""
    items, hide = body.entries, request.app[MASKS].hide
    columns: list[list[Any]] = [
        _sequences(body.first_sequence, len(items)),
        [item.method for item in items],
        await hide([redact_url(item.url) for item in items]),
        [item.status_code for item in items],
        [item.resource_type for item in items],
        await _hide_values(request.app[MASKS], [item.request_headers or "{}" for item in items]),
        await _hide_values(request.app[MASKS], [item.response_headers or "{}" for item in items]),
        [None if item.request_size == -1 else item.request_size for item in items],
        [None if item.response_size == -1 else item.response_size for item in items],
        [item.duration_ms for item in items],
        await hide([item.error_text and redact_text(item.error_text) for item in items]),
        [item.step_number for item in items],
        [item.iteration_number or 1 for item in items],
        [item.started_at for item in items],
    ]
    return await _append(request, case_id, request.app[SQL].logs.insert_network, columns)


async def index_console(request: web.Request, case_id: UUID, query: ConsoleFilter) -> Response:
    """The console log of a test case, in the order sent."""
    sql, filters = request.app[SQL].logs, (query.step_number, query.iteration_number, query.level)
    total, rows = await _page(request, case_id, query, sql.count_console, sql.console_for_case, filters)
    return reply.ok(ConsolePage(total, query.number, query.size, [ConsoleEntry(*row) for row in rows]))


async def index_network(request: web.Request, case_id: UUID, query: NetworkFilter) -> Response:
    """The network log of a test case, in the order sent."""
    sql = request.app[SQL].logs
    filters = (query.step_number, query.iteration_number, query.status_min, query.resource_type)
    total, rows = await _page(request, case_id, query, sql.count_network, sql.network_for_case, filters)
    return reply.ok(NetworkPage(total, query.number, query.size, [NetworkEntry(*row) for row in rows]))


async def _hide_values(masks: Masks, maps: list[str]) -> list[str]:
    """Headers as JSON, what the configured patterns find in their values hidden."""
    if not masks.any:
        return maps
    headers: list[dict[str, Any]] = [orjson.loads(text.encode()) for text in maps]
    lists = [[of] if isinstance(of, str) else of for one in headers for of in one.values()]
    hidden = iter(await masks.hide([text for texts in lists for text in texts]))
    for one in headers:
        for name, of in one.items():
            one[name] = next(hidden) if isinstance(of, str) else [next(hidden) for _ in of]
    return [orjson.dumps(one).decode() for one in headers]


def _sequences(first: int | None, count: int) -> list[int | None]:
    return [None] * count if first is None else list(range(first, first + count))


async def _append(request: web.Request, case_id: UUID, query: str, columns: list[list[Any]]) -> Response:
    async def work(connection: Any) -> web.Response:
        await lock_case(request, connection, case_id)
        ids = new_ids(bucket_of(case_id), len(columns[0]))
        return reply.created(EntriesCreated(len(await connection.fetch(query, case_id, ids, *columns))))

    return await once(request, work)


async def _page(
    request: web.Request, case_id: UUID, page: Page, count: str, rows: str, filters: tuple[Any, ...]
) -> tuple[int, list[Any]]:
    async with request.app[POOL].acquire() as connection:
        total = await connection.fetchval(count, case_id, request[CALLER].project_id, *filters)
        if total is None:
            raise CaseNotFound()
        return total, await connection.fetch(rows, case_id, *filters, page.size, page.offset)
