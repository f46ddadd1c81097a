"""Steps of a test case, in the dialects of both documents, and the screenshots linked to them."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from server.errors import Invalid, Problem
from server.http import reply
from server.http.fields import FreeText, Instant, Natural, Page, Positive, Text50, Text100, Text255
from server.http.idempotency import once
from server.http.reply import Response
from server.redact.rules import REDACTED, is_password_field
from server.reports import steps
from server.reports.steps import StepLinked, StepList, StepsCreated, StepsCreatedWhole, StepsReplaced
from server.reports.words import Shape, Status
from server.services import CALL, SERVICES

# S1's words. In S0's dialect `action` holds one of them, if it does.
STEP_TYPES = frozenset(
    {
        "click",
        "type",
        "assert",
        "navigate",
        "wait",
        "screenshot",
        "scroll",
        "select",
        "hover",
        "drag_drop",
        "execute_script",
        "switch_frame",
        "switch_window",
        "accept_alert",
        "dismiss_alert",
        "upload_file",
    }
)


class NewStep(Struct, omit_defaults=True):
    """A step as S0's clients send it: `step_type` is taken from `action` where that is one of S1's words."""

    step_number: Natural
    step_type: Annotated[str, Meta(min_length=1, max_length=50)] | None = None
    iteration_number: Positive | None = None
    action: Text100 | None = None
    description: FreeText | None = None
    status: Status | None = None
    duration_ms: Natural | None = None
    element_selector: FreeText | None = None
    element_name: Text255 | None = None
    element_type: Text50 | None = None
    input_value: FreeText | None = None
    expected_value: FreeText | None = None
    actual_value: FreeText | None = None
    error_message: FreeText | None = None
    error_type: Text100 | None = None
    stack_trace: FreeText | None = None
    screenshot_path: Annotated[str, Meta(max_length=500)] | None = None
    started_at: Instant | None = None
    completed_at: Instant | None = None

    @property
    def place(self) -> tuple[int, int]:
        return self.iteration_number or 1, self.step_number


class TypedStep(NewStep, kw_only=True):
    """A step as S1's clients send it."""

    step_type: Annotated[str, Meta(min_length=1, max_length=50)]


class NewSteps(Struct):
    steps: Annotated[list[NewStep], Meta(max_length=10_000)]


class TypedSteps(Struct):
    steps: Annotated[list[TypedStep], Meta(max_length=10_000)]


class StepLink(Struct):
    screenshot_artifact_id: UUID | None | UnsetType = UNSET


class StepFilter(Page):
    status: Status | None = None
    iteration_number: Positive | None = None
    include_artifacts: bool = True
    shape: Shape | None = None


class ReplaceQuery(Struct):
    prune: bool = False


async def create(request: web.Request, case_id: UUID, body: TypedSteps) -> Response:
    """S1: all steps of a test case at once; 409 when an iteration that is sent has steps already."""
    _prepare(request, body.steps)
    what = case_id, request[CALL].scope, body.steps, sorted({step.place[0] for step in body.steps})

    def answer(ids: list[UUID]) -> web.Response:
        return reply.created(StepsCreated(f"Successfully created {len(ids)} step results", ids, case_id))

    async def at_once(connection: Any) -> web.Response | None:
        ids = await steps.insert_at_once(connection, *what)
        return None if ids is None else answer(ids)

    async def work(connection: Any) -> web.Response:
        return answer(await steps.insert_many(connection, *what))

    return await once(request, work, at_once=at_once)


async def create_bulk(request: web.Request, case_id: UUID, body: NewSteps) -> Response:
    """S0: steps of a test case, in one call or in chunks; 409 when one that is sent exists."""
    _prepare(request, body.steps)
    what = case_id, request[CALL].scope, body.steps

    async def at_once(connection: Any) -> web.Response | None:
        made = await steps.insert_whole_at_once(connection, *what)
        return None if made is None else reply.created(StepsCreatedWhole(len(made), made))

    async def work(connection: Any) -> web.Response:
        made = await steps.by_ids(connection, case_id, await steps.insert_many(connection, *what))
        return reply.created(StepsCreatedWhole(len(made), made))

    return await once(request, work, at_once=at_once)


async def replace(request: web.Request, case_id: UUID, query: ReplaceQuery, body: NewSteps) -> Response:
    """Replaces steps by iteration and number; `prune` removes those not sent, of the iterations sent."""
    _prepare(request, body.steps)
    call, places = request[CALL], [step.place for step in body.steps]
    async with request.app[SERVICES].pool.transaction() as connection:
        ids, created, removed = await steps.replace_many(
            connection, case_id, call.scope, body.steps, places, query.prune, call.actor()
        )
    message = f"Successfully replaced {len(ids)} step results"
    return reply.ok(StepsReplaced(message, created, len(ids) - created, removed, ids))


async def index(request: web.Request, case_id: UUID, query: StepFilter) -> Response:
    """The steps of a test case by iteration and number, with their screenshots."""
    array = reply.wants_array(request, query.shape)
    limit, offset = (query.size, query.offset) if array and query.asked else (None, 0)
    filters = (query.iteration_number, query.status)
    async with request.app[SERVICES].pool.acquire() as connection:
        counts, matching, items = await steps.of_case(
            connection, case_id, request[CALL].scope, filters, limit, offset, query.include_artifacts
        )
    return reply.array(items, matching) if array else reply.ok(StepList(*[case_id, *counts, items]))


async def link(request: web.Request, step_id: UUID, body: StepLink) -> Response:
    """Pins a step's screenshot to an artifact of its test case, or to none."""
    scope, artifact_id = request[CALL].scope, body.screenshot_artifact_id
    async with request.app[SERVICES].pool.transaction() as connection:
        if isinstance(artifact_id, UnsetType):
            row = await steps.shown(connection, step_id, scope)
        else:
            row = await steps.pin(connection, step_id, scope, artifact_id)
    return reply.ok(StepLinked(*row, "Step updated successfully"))


def _prepare(request: web.Request, new: Sequence[NewStep]) -> None:
    """Fills in each step's type and hides what was typed into password fields. Raises Invalid for one sent twice."""
    mask, seen = request.app[SERVICES].config.api.mask_passwords, set[tuple[int, int]]()
    for i, step in enumerate(new):
        if step.place in seen:
            raise Invalid(Problem(f"steps[{i}].step_number", "is sent twice for the same iteration"))
        seen.add(step.place)
        step.step_type = step.step_type or (step.action if step.action in STEP_TYPES else "other")
        if mask and step.input_value and _takes_password(step):
            step.input_value = REDACTED


def _takes_password(step: NewStep) -> bool:
    return is_password_field(step.element_selector, step.element_name, step.element_type, step.action)
