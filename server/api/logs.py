"""Console and network logs of a test case: appends and lists their entries."""

from typing import Annotated, Any, Literal
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.bodies.logs import NewConsoleEntry, NewNetworkEntry, redact_console, redact_network
from server.http import reply
from server.http.fields import (
    LevelFilter,
    Natural,
    Page,
    Positive,
    Text50,
)
from server.http.idempotency import once
from server.http.reply import Response
from server.reports import logs
from server.reports.logs import ConsolePage, EntriesCreated, NetworkPage
from server.services import CALL, SERVICES

Sequence = Annotated[int, Meta(ge=0, le=2**62)]


class NewConsoleLogs(Struct):
    entries: Annotated[list[NewConsoleEntry], Meta(max_length=10_000)]
    first_sequence: Sequence | None = None


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
    await redact_console(body.entries, request.app[SERVICES].patterns, request[CALL].body_size)
    return await _append(request, "console", case_id, body)


async def create_network(request: web.Request, case_id: UUID, body: NewNetworkLogs) -> Response:
    """Appends entries to the network log of a test case.

    With `first_sequence`, the client's own number of the first entry, a request may be repeated: entries whose number
    is already stored are skipped, and `created` is the number of the others. Credentials in headers and URLs, and
    matches of the configured patterns, are stored as `[redacted]`. A size of -1 means that it is unknown.
    """
    await redact_network(body.entries, request.app[SERVICES].patterns, request[CALL].body_size)
    return await _append(request, "network", case_id, body)


async def index_console(request: web.Request, case_id: UUID, query: ConsoleFilter) -> Response:
    """Lists the console log of a test case, in the order in which entries were sent.

    `per_page` is 100 by default and at most 500.
    """
    filters = (query.step_number, query.iteration_number, query.level)
    async with request[CALL].reads.acquire() as connection:
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
    async with request[CALL].reads.acquire() as connection:
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
