"""Test case results: the outcome of one test in one suite run."""

from typing import Annotated, Any
from uuid import UUID

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from server.bodies.test_cases import NewTestCase
from server.http import reply
from server.http.fields import (
    AnyStatus,
    FreeText,
    Instant,
    JsonObject,
    Measured,
    Page,
    Positive,
    RequiredText,
    Tags,
    TestId,
    Text255,
)
from server.http.idempotency import once
from server.http.reply import Response
from server.reports import test_cases
from server.reports.test_cases import TestCasePage, TestCasesCreated
from server.services import CALL, SERVICES


class NewTestCases(Struct):
    test_cases: Annotated[list[NewTestCase], Meta(max_length=10_000)]


class TestCasePatch(Struct):
    name: RequiredText | UnsetType = UNSET
    test_id: TestId | UnsetType = UNSET
    status: AnyStatus | UnsetType = UNSET
    duration_ms: Measured | None | UnsetType = UNSET
    error_message: FreeText | None | UnsetType = UNSET
    error_type: Text255 | None | UnsetType = UNSET
    stack_trace: FreeText | None | UnsetType = UNSET
    attempt: Positive | UnsetType = UNSET
    browser: Text255 | None | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    metadata: JsonObject | UnsetType = UNSET
    started_at: Instant | None | UnsetType = UNSET
    completed_at: Instant | None | UnsetType = UNSET


class TestCaseFilter(Page):
    status: AnyStatus | None = None
    q: Annotated[str, Meta(max_length=500)] | None = None


async def create(request: web.Request, suite_id: UUID, body: NewTestCase) -> Response:
    """Adds a test case result to a suite run.

    Unless they are sent, `test_id` is the `name` and `status` is `Pending`.
    """

    async def work(connection: Any) -> web.Response:
        (case,) = await test_cases.insert_many(connection, suite_id, request[CALL].scope, [body])
        return reply.created(case)

    return await once(request, work)


async def create_many(request: web.Request, suite_id: UUID, body: NewTestCases) -> Response:
    """Adds test case results to a suite run: all of them or none.

    The reply lists them in the order of the request.
    """

    async def work(connection: Any) -> web.Response:
        cases = await test_cases.insert_many(connection, suite_id, request[CALL].scope, body.test_cases)
        return await reply.created_many(TestCasesCreated(len(cases), cases), request[CALL].body_size)

    return await once(request, work)


async def index(request: web.Request, suite_id: UUID, query: TestCaseFilter) -> Response:
    """Lists the test case results of a suite run, in the order in which they were added.

    `q` selects names that contain this text, ignoring case. `per_page` is 100 by default and at most 500.
    """
    async with request[CALL].reads.acquire() as connection:
        total, cases = await test_cases.of_run(
            connection, suite_id, request[CALL].scope, query.status, query.q, query.size, query.offset
        )
    return await reply.listed(request, TestCasePage(total, query.number, query.size, cases), [cases])


async def show(request: web.Request, case_id: UUID) -> Response:
    """Shows a test case result."""
    return reply.ok(await test_cases.by_id(request.app[SERVICES].pool, case_id, request[CALL].scope))


async def update(request: web.Request, case_id: UUID, body: TestCasePatch) -> Response:
    """Changes fields of a test case result.

    Fields that are not sent stay as they are; `null` clears a field that may be empty. `metadata` is merged: its
    top-level keys replace the stored ones, and `null` removes a key.
    """
    async with request.app[SERVICES].pool.transaction() as connection:
        return reply.ok(await test_cases.update(connection, case_id, request[CALL].scope, body))
