"""Test case results: what one test did in one suite run, and the report of it."""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import orjson
from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from server.context import CALLER, POOL, SQL
from server.db import transaction
from server.errors import CaseNotFound, SuiteRunNotFound
from server.http import reply
from server.http.fields import (
    FreeText,
    Instant,
    JsonObject,
    Moment,
    Natural,
    Page,
    Positive,
    RequiredText,
    Status,
    Tags,
    Text255,
)
from server.http.idempotency import once
from server.http.patch import merge
from server.http.reply import Response
from server.ids import bucket_of, new_ids


class NewTestCase(Struct):
    name: RequiredText
    test_id: RequiredText | None = None
    status: Status | None = None
    duration_ms: Natural | None = None
    error_message: FreeText | None = None
    error_type: Text255 | None = None
    stack_trace: FreeText | None = None
    attempt: Positive | None = None
    browser: Text255 | None = None
    tags: Tags | None = None
    metadata: JsonObject | None = None
    started_at: Instant | None = None
    completed_at: Instant | None = None


class NewTestCases(Struct):
    test_cases: Annotated[list[NewTestCase], Meta(max_length=10_000)]


class TestCasePatch(Struct):
    name: RequiredText | UnsetType = UNSET
    test_id: RequiredText | UnsetType = UNSET
    status: Status | UnsetType = UNSET
    duration_ms: Natural | None | UnsetType = UNSET
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
    status: Status | None = None
    q: Annotated[str, Meta(max_length=500)] | None = None


@dataclass(slots=True)
class TestCase:
    id: UUID
    suite_run_id: UUID
    name: str
    test_id: str
    status: Status
    duration_ms: int | None
    attempt: int
    error_message: str | None
    error_type: str | None
    stack_trace: str | None
    browser: str | None
    tags: list[str]
    metadata: dict[str, Any]
    started_at: Moment | None
    completed_at: Moment | None
    created_at: Moment
    updated_at: Moment


@dataclass(slots=True)
class TestCasesCreated:
    created: int
    test_cases: list[TestCase]


@dataclass(slots=True)
class TestCasePage:
    total: int
    page: int
    per_page: int
    items: list[TestCase]


async def create(request: web.Request, suite_id: UUID, body: NewTestCase) -> Response:
    """Adds one test case result to a suite run."""

    async def work(connection: Any) -> web.Response:
        return reply.created((await _insert(request, connection, suite_id, [body]))[0])

    return await once(request, work)


async def create_many(request: web.Request, suite_id: UUID, body: NewTestCases) -> Response:
    """Adds many test case results at once: all or none."""

    async def work(connection: Any) -> web.Response:
        cases = await _insert(request, connection, suite_id, body.test_cases)
        return reply.created(TestCasesCreated(len(cases), cases))

    return await once(request, work)


async def index(request: web.Request, suite_id: UUID, query: TestCaseFilter) -> Response:
    """The test case results of a run, in the order they were made."""
    async with request.app[POOL].acquire() as connection:
        total, rows = await of_run(request, connection, suite_id, query)
    return reply.ok(TestCasePage(total, query.number, query.size, [TestCase(*row) for row in rows]))


async def of_run(request: web.Request, connection: Any, suite_id: UUID, query: TestCaseFilter) -> tuple[int, list[Any]]:
    """How many results of a run match, and the rows of the page that is asked for. Raises SuiteRunNotFound."""
    sql = request.app[SQL].test_cases
    total = await connection.fetchval(sql.count_for_run, suite_id, request[CALLER].project_id, query.status, query.q)
    if total is None:
        raise SuiteRunNotFound()
    return total, await connection.fetch(sql.for_run, suite_id, query.status, query.q, query.size, query.offset)


async def show(request: web.Request, case_id: UUID) -> Response:
    """One test case result."""
    return reply.ok(await by_id(request, request.app[POOL], case_id))


async def update(request: web.Request, case_id: UUID, body: TestCasePatch) -> Response:
    """Changes the fields that are sent; `metadata` merges by key, null removes one (RFC 7396)."""
    async with transaction(request.app[POOL]) as connection:
        query = request.app[SQL].test_cases.update
        await merge(connection, query, case_id, request[CALLER].project_id, body, CaseNotFound)
        return reply.ok(await by_id(request, connection, case_id))


async def by_id(request: web.Request, connection: Any, case_id: UUID) -> TestCase:
    """The whole result. Raises CaseNotFound."""
    row = await connection.fetchrow(request.app[SQL].test_cases.by_id, case_id, request[CALLER].project_id)
    if row is None:
        raise CaseNotFound()
    return TestCase(*row)


async def _insert(request: web.Request, connection: Any, suite_id: UUID, cases: list[NewTestCase]) -> list[TestCase]:
    sql, project_id = request.app[SQL], request[CALLER].project_id
    # Also for an empty list: the run may have been removed since it was looked up.
    if not await connection.fetchval(sql.suite_runs.project_of, suite_id, project_id):
        raise SuiteRunNotFound()
    rows = await connection.fetch(
        sql.test_cases.insert_many,
        suite_id,
        project_id,
        new_ids(bucket_of(suite_id), len(cases)),
        [case.name for case in cases],
        [case.test_id or case.name for case in cases],
        [case.status or "Pending" for case in cases],
        [case.duration_ms for case in cases],
        [case.attempt or 1 for case in cases],
        [case.error_message for case in cases],
        [case.error_type for case in cases],
        [case.stack_trace for case in cases],
        [case.browser for case in cases],
        [orjson.dumps(case.tags or []).decode() for case in cases],
        [case.metadata or "{}" for case in cases],
        [case.started_at for case in cases],
        [case.completed_at for case in cases],
    )
    if len(rows) != len(cases):  # the run was removed while the insert waited
        raise SuiteRunNotFound()
    return sorted((TestCase(*row) for row in rows), key=lambda case: case.id)
