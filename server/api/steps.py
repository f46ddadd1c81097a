"""Steps of a test case, in the forms of the specification and of the sync document; and their screenshots."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict

from server.bodies.steps import PARENT_RULE, NewStep, TypedStep, check, hide_passwords, is_below
from server.errors import Invalid, Problem
from server.http import reply
from server.http.fields import (
    AnyStatus,
    FreeText,
    IndexedText,
    Instant,
    Kind,
    Measured,
    Natural,
    Page,
    Positive,
    Text50,
    Text100,
    Text255,
)
from server.http.idempotency import once
from server.http.reply import Response
from server.redact.rules import REDACTED, is_password_field
from server.reports import steps
from server.reports.steps import Step, StepList, StepsCreated, StepsCreatedWhole, StepsReplaced, StepUpdated
from server.reports.words import Shape
from server.services import CALL, SERVICES


class NewSteps(Struct):
    steps: Annotated[list[NewStep], Meta(max_length=10_000)]


class TypedSteps(Struct):
    steps: Annotated[list[TypedStep], Meta(max_length=10_000)]


class StepPatch(Struct):
    step_number: Natural | UnsetType = UNSET
    iteration_number: Positive | UnsetType = UNSET
    parent_step_number: Natural | None | UnsetType = UNSET
    step_type: Kind | UnsetType = UNSET
    action: Text100 | None | UnsetType = UNSET
    description: FreeText | None | UnsetType = UNSET
    status: AnyStatus | UnsetType = UNSET
    duration_ms: Measured | None | UnsetType = UNSET
    element_selector: FreeText | None | UnsetType = UNSET
    element_name: Text255 | None | UnsetType = UNSET
    element_type: Text50 | None | UnsetType = UNSET
    input_value: FreeText | None | UnsetType = UNSET
    expected_value: FreeText | None | UnsetType = UNSET
    actual_value: FreeText | None | UnsetType = UNSET
    error_message: FreeText | None | UnsetType = UNSET
    error_type: Text100 | None | UnsetType = UNSET
    stack_trace: FreeText | None | UnsetType = UNSET
    screenshot_path: IndexedText | None | UnsetType = UNSET
    screenshot_artifact_id: UUID | None | UnsetType = UNSET
    started_at: Instant | None | UnsetType = UNSET
    completed_at: Instant | None | UnsetType = UNSET


class StepFilter(Page):
    status: AnyStatus | None = None
    iteration_number: Positive | None = None
    include_artifacts: bool = True
    shape: Shape | None = None


class ReplaceQuery(Struct):
    prune: bool = False


async def create(request: web.Request, case_id: UUID, body: TypedSteps) -> Response:
    """Creates the steps of a test case in one request.

    Every step needs a `step_type`. 409 when an iteration in the request already has steps: use PUT to change them. A
    step shows the screenshot that its `screenshot_path` names, else the best one with its iteration and step number,
    even if that is uploaded later. A step with `parent_step_number` is inside that step of its iteration, whose number
    must be smaller and which may be sent later. The `input_value` of a password field is stored as `[redacted]`, unless
    the configuration turns that off.
    """
    await _prepare(request, body.steps)
    what = case_id, request[CALL].scope, body.steps, sorted({step.position[0] for step in body.steps})

    def answer(ids: list[UUID]) -> web.Response:
        return reply.created(StepsCreated(f"Successfully created {len(ids)} step results", ids, case_id))

    async def one_statement(connection: Any) -> web.Response | None:
        ids = await steps.insert_at_once(connection, *what)
        return None if ids is None else answer(ids)

    async def work(connection: Any) -> web.Response:
        return answer(await steps.insert_many(connection, *what))

    return await once(request, work, one_statement=one_statement)


async def create_bulk(request: web.Request, case_id: UUID, body: NewSteps) -> Response:
    """Creates steps of a test case, in one request or in several.

    409 when a step with the same iteration and `step_number` exists; then none of them is created. Without `step_type`,
    the step gets its `action` as type if that is a known step type, else `other`. The reply has the complete steps.
    """
    await _prepare(request, body.steps)
    what, size = (case_id, request[CALL].scope, body.steps), request[CALL].body_size

    async def one_statement(connection: Any) -> web.Response | None:
        made = await steps.insert_at_once_returning(connection, *what)
        return None if made is None else await reply.created_many(StepsCreatedWhole(len(made), made), size)

    async def work(connection: Any) -> web.Response:
        made = await steps.by_ids(connection, case_id, await steps.insert_many(connection, *what))
        return await reply.created_many(StepsCreatedWhole(len(made), made), size)

    return await once(request, work, one_statement=one_statement)


async def replace(request: web.Request, case_id: UUID, query: ReplaceQuery, body: NewSteps) -> Response:
    """Replaces or creates steps, by iteration and `step_number`.

    An existing step keeps its id, its creation time and its pinned screenshot; all other fields are replaced.
    `prune=true` also deletes, in each iteration of the request, the steps that are not in the request.
    """
    await _prepare(request, body.steps)
    call, positions = request[CALL], [step.position for step in body.steps]
    async with request.app[SERVICES].pool.transaction() as connection:
        ids, created, removed = await steps.replace_many(
            connection, case_id, call.scope, body.steps, positions, query.prune, call.actor()
        )
    message = f"Successfully replaced {len(ids)} step results"
    return reply.ok(StepsReplaced(message, created, len(ids) - created, removed, ids))


async def index(request: web.Request, case_id: UUID, query: StepFilter) -> Response:
    """Lists the steps of a test case, by iteration and step number, with their screenshots.

    The counts ignore the filter `status`. `include_artifacts=false` leaves out `screenshot` and `artifacts`. The reply
    is an object with all matching steps or, with `shape=array`, an array with their number in `X-Total-Count`; `page`
    and `per_page` select a page of the array. Without `shape`, the setting of the token applies, else the
    configuration.
    """
    array = reply.wants_array(request, query.shape)
    limit, offset = (query.size, query.offset) if array and query.requested else (None, 0)
    filters = (query.iteration_number, query.status)
    async with request[CALL].reads.acquire() as connection:
        counts, matching, items = await steps.of_case(
            connection, case_id, request[CALL].scope, filters, limit, offset, query.include_artifacts
        )
    if array:
        return await reply.array(request, items, matching)
    return await reply.listed(request, StepList(*[case_id, *counts, items]), [items])


async def update(request: web.Request, step_id: UUID, body: StepPatch) -> Response:
    """Changes fields of a step, such as its status and duration when it ends.

    Fields that are not sent stay as they are; `null` clears a field that may be empty. `screenshot_artifact_id` pins
    the screenshot: to an artifact of the test case, or with `null` to none. A pinned screenshot is not replaced when
    others are uploaded. 404 when there is no such artifact, 409 when it belongs to another test case, or when another
    step has the sent number. 422 `nothing_to_update` without any field of a step.
    """
    if all(value is UNSET for value in asdict(body).values()):
        raise Invalid(Problem("", "must have at least one field of a step"), code="nothing_to_update")
    services = request.app[SERVICES]

    def prepare(before: Step) -> None:
        _refuse_parent(body, before)
        if services.config.api.mask_passwords:
            _hide_password(body, before)

    async with services.pool.transaction() as connection:
        row = await steps.update(connection, step_id, request[CALL].scope, body, prepare)
    return reply.ok(StepUpdated(*row, "Step updated successfully"))


async def _prepare(request: web.Request, new: Sequence[NewStep]) -> None:
    """Checks the steps and redacts the input of password fields. Raises Invalid."""
    check(new)
    if request.app[SERVICES].config.api.mask_passwords:
        await hide_passwords(new, request[CALL].body_size)


def _refuse_parent(patch: StepPatch, before: Step) -> None:
    """Raises Invalid when the patch leaves a step inside a step that does not come before it."""
    number = before.step_number if patch.step_number is UNSET else patch.step_number
    parent = before.parent_step_number if patch.parent_step_number is UNSET else patch.parent_step_number
    if not is_below(number, parent):
        raise Invalid(Problem("parent_step_number", PARENT_RULE))


def _hide_password(patch: StepPatch, before: Step) -> None:
    """Redacts the input of a step that the patch turns into one on a password field, or whose input it changes."""
    input_value, *names = (
        getattr(before, name) if getattr(patch, name) is UNSET else getattr(patch, name)
        for name in ("input_value", "element_selector", "element_name", "element_type", "action")
    )
    if input_value and is_password_field(*names):
        patch.input_value = REDACTED
