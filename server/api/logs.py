"""Console and network logs of a test case: appends and lists their entries."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.background import aside
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
from server.redact.rules import redact_text, redact_url
from server.reports import logs
from server.reports.logs import ConsolePage, EntriesCreated, NetworkPage
from server.services import CALL, SERVICES

ByteCount = Annotated[int, Meta(ge=-1, le=2**63 - 1, extra=SIZE)]  # HAR sends -1 for an unknown size
T = TypeVar("T")
Texts = list[str | None]
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
    await _redact(request, body.entries, _redact_console, _console_texts, _set_console)
    return await _append(request, "console", case_id, body)


async def create_network(request: web.Request, case_id: UUID, body: NewNetworkLogs) -> Response:
    """Appends entries to the network log of a test case.

    With `first_sequence`, the client's own number of the first entry, a request may be repeated: entries whose number
    is already stored are skipped, and `created` is the number of the others. Credentials in headers and URLs, and
    matches of the configured patterns, are stored as `[redacted]`. A size of -1 means that it is unknown.
    """
    await _redact(request, body.entries, _redact_network, _network_texts, _set_network)
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
    return await reply.listed(request, ConsolePage(total, query.number, query.size, items), [items])


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
    return await reply.listed(request, NetworkPage(total, query.number, query.size, items), [items])


async def _append(
    request: web.Request, log: Literal["console", "network"], case_id: UUID, body: NewConsoleLogs | NewNetworkLogs
) -> Response:
    async def work(connection: Any) -> web.Response:
        scope = request[CALL].scope
        added = await logs.append(connection, log, case_id, scope, body.entries, body.first_sequence)
        return reply.created(EntriesCreated(added))

    return await once(request, work)


async def _redact(
    request: web.Request,
    entries: list[T],
    redact: Callable[[list[T]], None],
    texts_of: Callable[[list[T]], list[Texts]],
    replace: Callable[[list[T], list[Texts]], None],
) -> None:
    """Redacts credentials, and then the matches of the configured patterns in `texts_of(entries)`, one call of hide()
    for each list of texts: each call has a limit."""
    patterns, size = request.app[SERVICES].patterns, request[CALL].body_size
    await aside(size, redact, entries)
    if patterns.any:
        texts = await aside(size, texts_of, entries)
        hidden = [await patterns.hide(some) for some in texts]
        await aside(size, replace, entries, hidden)


def _redact_console(entries: list[NewConsoleEntry]) -> None:
    for item in entries:
        item.message = redact_text(item.message)
        item.source_url = item.source_url and redact_url(item.source_url)


def _console_texts(entries: list[NewConsoleEntry]) -> list[Texts]:
    return [[item.message for item in entries], [item.source_url for item in entries]]


def _set_console(entries: list[NewConsoleEntry], hidden: list[Texts]) -> None:
    for item, message, url in zip(entries, *hidden, strict=True):
        item.message, item.source_url = message or "", url


def _redact_network(entries: list[NewNetworkEntry]) -> None:
    """Headers are redacted as they are decoded."""
    for item in entries:
        item.url = redact_url(item.url)
        item.error_text = item.error_text and redact_text(item.error_text)


def _network_texts(entries: list[NewNetworkEntry]) -> list[Texts]:
    requests, responses = ([text for each in maps for text in _values(each)] for maps in _headers(entries))
    return [[item.url for item in entries], [item.error_text for item in entries], requests, responses]


def _set_network(entries: list[NewNetworkEntry], hidden: list[Texts]) -> None:
    urls, errors, *values = hidden
    requests, responses = (
        [_with_values(each, texts) for each in maps]
        for maps, texts in zip(_headers(entries), map(iter, values), strict=True)
    )
    for item, url, error, sent, received in zip(entries, urls, errors, requests, responses, strict=True):
        item.url, item.error_text, item.request_headers, item.response_headers = url or "", error, sent, received


def _headers(entries: list[NewNetworkEntry]) -> tuple[list[HeaderMap | None], list[HeaderMap | None]]:
    return [item.request_headers for item in entries], [item.response_headers for item in entries]


def _values(headers: HeaderMap | None) -> Iterator[str | None]:
    """All values, those of lists one by one."""
    for value in headers.value.values() if headers is not None else ():
        yield from [value] if isinstance(value, str) else value


def _with_values(headers: HeaderMap | None, texts: Iterator[str | None]) -> HeaderMap | None:
    """The headers with other values, in the order of _values()."""
    if headers is None:
        return None

    def other(value: str | list[str]) -> Any:
        return next(texts) if isinstance(value, str) else [next(texts) for _ in value]

    return HeaderMap.of({name: other(value) for name, value in headers.value.items()})
