"""Console and network logs of a test case: appends and lists their entries."""

from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.http import reply
from server.http.fields import (
    FreeText,
    HeaderMap,
    Instant,
    Level,
    LevelFilter,
    Measured,
    Natural,
    Page,
    Positive,
    Text50,
)
from server.http.idempotency import once
from server.http.repair import FREE_TEXT, MEASURED, SIZE
from server.http.reply import Response
from server.redact.patterns import Patterns
from server.redact.rules import redact_text, redact_url
from server.reports import logs
from server.reports.logs import ConsolePage, EntriesCreated, NetworkPage
from server.services import CALL, SERVICES

ByteCount = Annotated[int, Meta(ge=-1, le=2**63 - 1, extra=SIZE)]  # HAR sends -1 for an unknown size
Sequence = Annotated[int, Meta(ge=0, le=2**62)]


class NewConsoleEntry(Struct, omit_defaults=True):
    level: Level
    message: FreeText
    source_url: FreeText | None = None
    line_number: Measured | None = None
    column_number: Measured | None = None
    step_number: Natural | None = None
    iteration_number: Positive | None = None
    logged_at: Instant | None = None


class NewConsoleLogs(Struct):
    entries: Annotated[list[NewConsoleEntry], Meta(max_length=10_000)]
    first_sequence: Sequence | None = None


class NewNetworkEntry(Struct, omit_defaults=True):
    method: Annotated[str, Meta(min_length=1, max_length=20)]
    url: Annotated[str, Meta(min_length=1, max_length=1 << 20, extra=FREE_TEXT)]
    status_code: Annotated[int, Meta(ge=0, le=999, extra=MEASURED)] | None = None
    resource_type: Text50 | None = None
    request_headers: HeaderMap | None = None
    response_headers: HeaderMap | None = None
    request_size: ByteCount | None = None
    response_size: ByteCount | None = None
    duration_ms: Measured | None = None
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
    level: LevelFilter | None = None


class NetworkFilter(Page):
    step_number: Natural | None = None
    iteration_number: Positive | None = None
    status_min: Annotated[int, Meta(ge=0, le=999)] | None = None
    resource_type: Text50 | None = None


async def create_console(request: web.Request, case_id: UUID, body: NewConsoleLogs) -> Response:
    """Appends entries to the console log of a test case.

    With `first_sequence`, the client's own number of the first entry, a request may be repeated: entries whose number
    is already stored are skipped, and `created` is the number of the others. Credentials in URLs and matches of the
    configured patterns are stored as `[redacted]`.
    """
    hide = request.app[SERVICES].patterns.hide
    messages = await hide([redact_text(item.message) for item in body.entries])
    urls = await hide([item.source_url and redact_url(item.source_url) for item in body.entries])
    for item, message, url in zip(body.entries, messages, urls, strict=True):
        item.message, item.source_url = message or "", url
    return await _append(request, "console", case_id, body)


async def create_network(request: web.Request, case_id: UUID, body: NewNetworkLogs) -> Response:
    """Appends entries to the network log of a test case.

    With `first_sequence`, the client's own number of the first entry, a request may be repeated: entries whose number
    is already stored are skipped, and `created` is the number of the others. Credentials in headers and URLs, and
    matches of the configured patterns, are stored as `[redacted]`. A size of -1 means that it is unknown.
    """
    patterns = request.app[SERVICES].patterns
    urls = await patterns.hide([redact_url(item.url) for item in body.entries])
    errors = await patterns.hide([item.error_text and redact_text(item.error_text) for item in body.entries])
    requests = await _hide_values(patterns, [item.request_headers for item in body.entries])
    responses = await _hide_values(patterns, [item.response_headers for item in body.entries])
    for item, url, error, sent, received in zip(body.entries, urls, errors, requests, responses, strict=True):
        item.url, item.error_text, item.request_headers, item.response_headers = url or "", error, sent, received
    return await _append(request, "network", case_id, body)


async def index_console(request: web.Request, case_id: UUID, query: ConsoleFilter) -> Response:
    """Lists the console log of a test case, in the order in which entries were sent.

    `per_page` is 100 by default and at most 500.
    """
    filters = (query.step_number, query.iteration_number, query.level)
    async with request.app[SERVICES].pool.acquire() as connection:
        total, items = await logs.console_of_case(
            connection, case_id, request[CALL].scope, filters, query.size, query.offset
        )
    return reply.ok(ConsolePage(total, query.number, query.size, items))


async def index_network(request: web.Request, case_id: UUID, query: NetworkFilter) -> Response:
    """Lists the network log of a test case, in the order in which entries were sent.

    `status_min=400` selects entries with that status code or a higher one. `per_page` is 100 by default and at most
    500.
    """
    filters = (query.step_number, query.iteration_number, query.status_min, query.resource_type)
    async with request.app[SERVICES].pool.acquire() as connection:
        total, items = await logs.network_of_case(
            connection, case_id, request[CALL].scope, filters, query.size, query.offset
        )
    return reply.ok(NetworkPage(total, query.number, query.size, items))


async def _append(
    request: web.Request, log: Literal["console", "network"], case_id: UUID, body: NewConsoleLogs | NewNetworkLogs
) -> Response:
    async def work(connection: Any) -> web.Response:
        scope = request[CALL].scope
        added = await logs.append(connection, log, case_id, scope, body.entries, body.first_sequence)
        return reply.created(EntriesCreated(added))

    return await once(request, work)


async def _hide_values(patterns: Patterns, maps: list[HeaderMap | None]) -> list[HeaderMap | None]:
    """The headers with matches of the configured patterns redacted. One call of hide(): each call has a time limit."""
    if not patterns.any:
        return maps
    values = [value for each in maps if each is not None for value in each.value.values()]
    texts = [text for value in values for text in ([value] if isinstance(value, str) else value)]
    hidden = iter(await patterns.hide(texts))

    def redacted(value: str | list[str]) -> Any:
        return next(hidden) if isinstance(value, str) else [next(hidden) for _ in value]

    return [
        None if each is None else HeaderMap.of({name: redacted(value) for name, value in each.value.items()})
        for each in maps
    ]
