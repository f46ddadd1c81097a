"""Steps of a test case, in the dialects of both documents, and the screenshots linked to them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import UUID

from aiohttp import web
from msgspec import UNSET, Meta, Struct, UnsetType

from server.audit import Action, Subject, note, requester
from server.context import CALLER, CONFIG, POOL, SQL
from server.db import transaction
from server.errors import (
    ArtifactElsewhere,
    ArtifactNotFound,
    CaseNotFound,
    Invalid,
    Problem,
    StepNotFound,
)
from server.http import reply
from server.http.fields import (
    FreeText,
    Instant,
    Moment,
    Natural,
    Page,
    Positive,
    Shape,
    Status,
    Text50,
    Text100,
    Text255,
)
from server.http.idempotency import once
from server.http.lock import lock_case
from server.http.reply import Response
from server.ids import bucket_of, new_ids
from server.redact import REDACTED, is_password_field

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


class NewStep(Struct):
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


@dataclass(slots=True)
class Step:
    id: UUID
    test_case_result_id: UUID
    iteration_number: int
    step_number: int
    step_type: str
    action: str | None
    description: str | None
    status: Status
    duration_ms: int | None
    element_selector: str | None
    element_name: str | None
    element_type: str | None
    input_value: str | None
    expected_value: str | None
    actual_value: str | None
    error_message: str | None
    error_type: str | None
    stack_trace: str | None
    screenshot_path: str | None
    screenshot_artifact_id: UUID | None
    started_at: Moment | None
    completed_at: Moment | None
    created_at: Moment
    updated_at: Moment


@dataclass(slots=True)
class Screenshot:
    id: UUID
    url: str
    download_url: str
    file_name: str
    file_size: int


@dataclass(slots=True)
class StepArtifact:
    id: UUID
    artifact_type: str
    artifact_category: str | None
    file_name: str
    file_size: int
    mime_type: str
    captured_at: Moment | None
    download_url: str


@dataclass(slots=True)
class IllustratedStep(Step):
    """A step with what it shows and owns."""

    screenshot: Screenshot | None = None
    artifacts: list[StepArtifact] = field(default_factory=list)


@dataclass(slots=True)
class StepsCreated:
    message: str
    step_ids: list[UUID]
    test_case_result_id: UUID


@dataclass(slots=True)
class StepsCreatedWhole:
    created: int
    steps: list[Step]


@dataclass(slots=True)
class StepsReplaced:
    message: str
    created: int
    updated: int
    removed: int
    step_ids: list[UUID]


@dataclass(slots=True)
class StepList:
    test_case_result_id: UUID
    total_steps: int
    passed_steps: int
    failed_steps: int
    skipped_steps: int
    pending_steps: int
    steps: list[IllustratedStep]


@dataclass(slots=True)
class StepLinked:
    id: UUID
    step_number: int
    screenshot_artifact_id: UUID | None
    message: str


async def create(request: web.Request, case_id: UUID, body: TypedSteps) -> Response:
    """S1: all steps of a test case at once; 409 when an iteration that is sent has steps already."""
    _refuse_twins(body.steps)

    ids = new_ids(bucket_of(case_id), len(body.steps))

    async def work(connection: Any) -> web.Response:
        await _insert(request, connection, case_id, ids, body.steps, whole=True)
        return reply.created(StepsCreated(f"Successfully created {len(ids)} step results", ids, case_id))

    return await once(request, work, one_statement=True)


async def create_bulk(request: web.Request, case_id: UUID, body: NewSteps) -> Response:
    """S0: steps of a test case, in one call or in chunks; 409 when one that is sent exists."""
    _refuse_twins(body.steps)

    ids = new_ids(bucket_of(case_id), len(body.steps))

    async def work(connection: Any) -> web.Response:
        rows = await _insert(request, connection, case_id, ids, body.steps, whole=False)
        return reply.created(StepsCreatedWhole(len(rows), [Step(*row) for row in rows]))

    return await once(request, work, one_statement=True)


async def replace(request: web.Request, case_id: UUID, query: ReplaceQuery, body: NewSteps) -> Response:
    """Replaces steps by iteration and number; `prune` removes those not sent, of the iterations sent."""
    _refuse_twins(body.steps)
    sql = request.app[SQL].steps
    async with transaction(request.app[POOL]) as connection:
        project_id = await lock_case(request, connection, case_id)
        places = [step.place for step in body.steps]
        new = new_ids(bucket_of(case_id), len(places))
        rows = await connection.fetch(sql.replace_many, case_id, *_columns(request, new, body.steps))
        ids = {(iteration, number): step_id for step_id, iteration, number in rows}
        removed = []
        if query.prune:
            iterations, numbers = [place[0] for place in places], [place[1] for place in places]
            removed = await connection.fetch(sql.prune, case_id, iterations, numbers)
        await connection.execute(sql.link, case_id)
        if removed:
            await _note_pruned(request, connection, case_id, project_id, [row["iteration_number"] for row in removed])
    step_ids = [ids[place] for place in places]
    created = len(set(new) & set(step_ids))
    message = f"Successfully replaced {len(step_ids)} step results"
    return reply.ok(StepsReplaced(message, created, len(step_ids) - created, len(removed), step_ids))


async def index(request: web.Request, case_id: UUID, query: StepFilter) -> Response:
    """The steps of a test case by iteration and number, with their screenshots."""
    array = reply.wants_array(request, query.shape)
    page = (query.size, query.offset) if array and query.asked else (None, 0)
    sql, project_id = request.app[SQL].steps, request[CALLER].project_id
    filters = (query.iteration_number, query.status)
    async with request.app[POOL].acquire() as connection:
        if query.include_artifacts:
            row = await connection.fetchrow(sql.illustrated, case_id, project_id, *filters, *page)
        else:
            row = await connection.fetchrow(sql.counts, case_id, project_id, *filters)
            rows = await connection.fetch(sql.for_case, case_id, *filters, *page)
    if row is None:
        raise CaseNotFound()
    *numbers, matching, steps = row if query.include_artifacts else [*row, [Step(*each) for each in rows]]
    return reply.array(steps, matching) if array else reply.ok(StepList(*[case_id, *numbers, steps]))


async def link(request: web.Request, step_id: UUID, body: StepLink) -> Response:
    """Pins a step's screenshot to an artifact of its test case, or to none."""
    sql, project_id, artifact_id = request.app[SQL], request[CALLER].project_id, body.screenshot_artifact_id
    async with transaction(request.app[POOL]) as connection:
        case_id = await connection.fetchval(sql.steps.case_of, step_id, project_id)
        if case_id is None:
            raise StepNotFound()
        await lock_case(request, connection, case_id)
        if isinstance(artifact_id, UUID):
            owner = await connection.fetchval(sql.artifacts.case_of, artifact_id, project_id)
            if owner is None:
                raise ArtifactNotFound()
            if owner != case_id:
                raise ArtifactElsewhere()
        query = sql.steps.shown if artifact_id is UNSET else sql.steps.pin
        row = await connection.fetchrow(query, step_id, *([] if artifact_id is UNSET else [artifact_id]))
        if row is None:  # removed since we looked which test case it is of
            raise StepNotFound()
        await connection.execute(sql.steps.link, case_id)
    return reply.ok(StepLinked(*[*row, "Step updated successfully"]))


async def _note_pruned(
    request: web.Request, connection: Any, case_id: UUID, project_id: UUID, iterations: list[int]
) -> None:
    """`iterations`: that of each step that was removed."""
    sql = request.app[SQL]
    case = await connection.fetchrow(sql.test_cases.by_id, case_id, project_id)
    subject = Subject("test_case_result", case_id, case["name"], project_id)
    detail = {"removed": len(iterations), "iterations": sorted(set(iterations))}
    await note(connection, sql, Action.STEPS_PRUNED, requester(request), subject, **detail)


async def _insert(
    request: web.Request, connection: Any, case_id: UUID, ids: list[UUID], steps: Sequence[NewStep], whole: bool
) -> list[Any]:
    """Inserts and links; without `whole`, the new rows in the order sent."""
    query, project_id = request.app[SQL].steps.insert_many, request[CALLER].project_id
    rows: list[Any] = await connection.fetch(query, case_id, project_id, whole, *_columns(request, ids, steps))
    return rows


def _columns(request: web.Request, ids: list[UUID], steps: Sequence[NewStep]) -> list[list[Any]]:
    """One list a column, in the order that insert_many and replace_many take them."""
    mask = request.app[CONFIG].api.mask_passwords
    return [
        ids,
        [step.iteration_number or 1 for step in steps],
        [step.step_number for step in steps],
        [step.step_type or (step.action if step.action in STEP_TYPES else "other") for step in steps],
        [step.action for step in steps],
        [step.description for step in steps],
        [step.status or "Pending" for step in steps],
        [step.duration_ms for step in steps],
        [step.element_selector for step in steps],
        [step.element_name for step in steps],
        [step.element_type for step in steps],
        [REDACTED if mask and _takes_password(step) else step.input_value for step in steps],
        [step.expected_value for step in steps],
        [step.actual_value for step in steps],
        [step.error_message for step in steps],
        [step.error_type for step in steps],
        [step.stack_trace for step in steps],
        [step.screenshot_path for step in steps],
        [step.started_at for step in steps],
        [step.completed_at for step in steps],
    ]


def _takes_password(step: NewStep) -> bool:
    """Whether something was typed into a field for a password."""
    names = (step.element_selector, step.element_name, step.element_type, step.action)
    return bool(step.input_value) and is_password_field(*names)


def _refuse_twins(steps: Sequence[NewStep]) -> None:
    seen: set[tuple[int, int]] = set()
    for i, step in enumerate(steps):
        if step.place in seen:
            raise Invalid(Problem(f"steps[{i}].step_number", "is sent twice for the same iteration"))
        seen.add(step.place)
