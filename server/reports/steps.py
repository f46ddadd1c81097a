"""Steps in the database, and the screenshots linked to them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol
from uuid import UUID

from msgspec import UNSET, Struct
from msgspec.structs import asdict

from server.database.queries import SQL
from server.database.rows import encode, encode_many
from server.errors import ArtifactElsewhere, ArtifactNotFound, CaseNotFound, StepNotFound, StepsExist
from server.ids import bucket_of, new_ids
from server.observe.audit import Action, Actor, Subject, record
from server.reports import grouping, listing, test_cases
from server.reports.listing import PORTION, Key, Listing, Portion
from server.reports.words import Moment, Status
from server.uploads.names import link_name


class Sent(grouping.SentStep, Protocol):
    """A step that a client sent. Its other fields are columns, which encode() writes."""

    @property
    def screenshot_path(self) -> str | None: ...


_START, _END = (0, 0), (2**31 - 1, 2**31 - 1)  # places before and after every step: iteration, step number
_POSITION = "step_number", "iteration_number"


@dataclass(slots=True)
class Step:
    id: UUID
    test_case_result_id: UUID
    iteration_number: int
    step_number: int
    parent_step_number: int | None
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
    """A step with its screenshot and its artifacts."""

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
class StepUpdated:
    id: UUID
    step_number: int
    screenshot_artifact_id: UUID | None
    message: str


async def insert_at_once(
    connection: Any, case_id: UUID, scope: UUID | None, new: Sequence[Sent], empty: Sequence[int] = ()
) -> list[UUID] | None:
    """Inserts steps with one statement, without a transaction. Returns their ids in the order sent. `empty`: iterations
    that must not have steps yet.

    None when it inserted nothing; then call insert_many(). That happens when the test case has artifacts (steps may
    need links), when its error is new, when a check fails, or when another writer committed first. Usually, none of
    these applies.
    """
    ids = new_ids(bucket_of(case_id), len(new))
    return None if await _inserted(connection, case_id, scope, new, ids, empty=empty) is None else ids


async def insert_at_once_returning(
    connection: Any, case_id: UUID, scope: UUID | None, new: Sequence[Sent]
) -> list[Step] | None:
    """Like insert_at_once(), but returns the steps."""
    ids = new_ids(bucket_of(case_id), len(new))
    rows = await _inserted(connection, case_id, scope, new, ids, returning=True)
    return None if rows is None else [Step(*row) for row in rows if new]


async def insert_many(
    connection: Any, case_id: UUID, scope: UUID | None, new: Sequence[Sent], empty: Sequence[int] = ()
) -> list[UUID]:
    """Inserts steps within a transaction, even if the test case has artifacts or a new error. Raises CaseNotFound,
    StepsExist."""
    ids = new_ids(bucket_of(case_id), len(new))
    if await _inserted(connection, case_id, scope, new, ids, empty=empty, in_transaction=True) is None:
        await test_cases.lock(connection, case_id, scope)  # another writer committed in between; now no other can
        if await _inserted(connection, case_id, scope, new, ids, empty=empty, in_transaction=True) is None:
            raise StepsExist()
    await link(connection, case_id, ids, [])
    await grouping.add(connection, [case_id], [grouping.of_steps(new).group])
    return ids


async def _inserted(
    connection: Any,
    case_id: UUID,
    scope: UUID | None,
    new: Sequence[Sent],
    ids: Sequence[UUID],
    *,
    empty: Sequence[int] = (),
    in_transaction: bool = False,
    returning: bool = False,
) -> list[Any] | None:
    values = list(empty), in_transaction, ids, await encode_many(new), returning, _link_names(new)
    return (
        await connection.fetch(SQL.steps.insert_many, case_id, scope, *values, *grouping.of_steps(new).columns) or None
    )


def _link_names(new: Sequence[Sent]) -> list[str | None] | None:
    """The link_name of each step. None if no step has one, as usual: asyncpg looks at each element of a list."""
    names = [link_name(step.screenshot_path) for step in new]
    return None if names.count(None) == len(names) else names


async def insert_new(connection: Any, cases: Sequence[UUID], new: Sequence[Sent]) -> list[UUID]:
    """Inserts steps of test cases that this transaction has inserted, each of its own. Returns the ids in the order
    sent. Links no screenshots: there are none yet."""
    if not new:
        return []
    ids = new_ids(bucket_of(cases[0]), len(new))
    await connection.execute(SQL.steps.insert_new, ids, cases, await encode_many(new), _link_names(new))
    return ids


async def at_positions(connection: Any, sent: Sequence[tuple[UUID, int, int]]) -> dict[tuple[UUID, int, int], UUID]:
    """The ids of the steps at these places: test case, iteration and number."""
    rows = await connection.fetch(SQL.steps.at_positions, *map(list, zip(*sent, strict=True))) if sent else []
    return {(case_id, iteration, number): step_id for case_id, iteration, number, step_id in rows}


async def by_ids(connection: Any, case_id: UUID, ids: Sequence[UUID]) -> list[Step]:
    """These steps of a test case, in the order of their ids."""
    return [Step(*row) for row in await connection.fetch(SQL.steps.by_ids, case_id, ids)]


async def replace_many(
    connection: Any,
    case_id: UUID,
    scope: UUID | None,
    new: Sequence[Sent],
    positions: Sequence[tuple[int, int]],
    prune: bool,
    actor: Actor,
) -> tuple[list[UUID], int, int]:
    """Inserts or replaces steps. `positions` are the (iteration, number) of each step in `new`.

    Returns the ids in the order sent, how many of them are new, and how many steps were pruned. `prune` deletes, in
    each iteration that was sent, the steps that were not sent. Raises CaseNotFound.
    """
    project_id, undecided = await test_cases.touch_or_lock(connection, case_id, scope)
    fresh = new_ids(bucket_of(case_id), len(new))
    rows = await connection.fetch(SQL.steps.replace_many, case_id, fresh, await encode_many(new), _link_names(new))
    by_position = {(iteration, number): step_id for step_id, iteration, number in rows}
    ids = [by_position[position] for position in positions]
    gone = []
    if prune:
        gone = await connection.fetch(SQL.steps.prune, case_id, [a for a, _ in positions], [b for _, b in positions])
    await link(connection, case_id, ids, [each for row in gone for each in row["artifact_ids"]])
    if gone:
        case = await test_cases.by_id(connection, case_id, scope)
        subject = Subject("test_case_result", case_id, case.name, project_id)
        iterations = sorted({row["iteration_number"] for row in gone})
        await record(connection, Action.STEPS_PRUNED, actor, subject, removed=len(gone), iterations=iterations)
    if undecided:
        await grouping.refresh(connection, [case_id])
    return ids, len(set(fresh) & set(ids)), len(gone)


async def link(connection: Any, case_id: UUID, steps: Sequence[UUID], artifacts: Sequence[UUID]) -> None:
    """Recomputes links after a write of steps, while the test case is locked: chooses the screenshots of `steps`, then
    assigns their artifacts, and `artifacts`, to steps."""
    await connection.execute(SQL.steps.link, case_id, steps)
    await connection.execute(SQL.steps.own_artifacts, case_id, steps, artifacts)


async def update(
    connection: Any, step_id: UUID, scope: UUID | None, patch: Struct, prepare: Callable[[Step], None]
) -> tuple[UUID, int, Any]:
    """Changes the sent fields of a step; a sent screenshot is pinned. Returns id, step number, screenshot.

    `prepare` gets the step before the change, while it is locked, and may still change the patch. Raises StepNotFound,
    ArtifactNotFound, ArtifactElsewhere, StepsExist.
    """
    case_id = await connection.fetchval(SQL.steps.case_of, step_id, scope)
    if case_id is None:
        raise StepNotFound()
    _, undecided = await test_cases.touch_or_lock(connection, case_id, scope)
    sent = asdict(patch)
    found = await by_ids(connection, case_id, [step_id])
    if not found:  # the step was deleted since case_of
        raise StepNotFound()
    shown, pinned, path = found[0].screenshot_artifact_id, sent["screenshot_artifact_id"], sent["screenshot_path"]
    if isinstance(pinned, UUID) and pinned != shown:
        await _must_be_of_case(connection, pinned, case_id, scope)
    prepare(found[0])
    name = link_name(path) if isinstance(path, str) else None
    row = await connection.fetchrow(SQL.steps.update, step_id, encode(patch).decode(), name)
    moved = any(sent[name] is not UNSET for name in _POSITION)
    if pinned is UNSET and (moved or path is not UNSET):
        await link(connection, case_id, [step_id], [shown] if shown else [])
        row = await connection.fetchrow(SQL.steps.shown, step_id)
    elif moved or pinned not in (UNSET, shown):  # `link` would leave the screenshot as it is
        await connection.execute(SQL.steps.own_artifacts, case_id, [step_id], [shown] if shown else [])
    if undecided:
        await grouping.refresh(connection, [case_id])
    return tuple(row)


async def _must_be_of_case(connection: Any, artifact_id: UUID, case_id: UUID, scope: UUID | None) -> None:
    owner = await connection.fetchval(SQL.artifacts.case_of, artifact_id, scope)
    if owner is None:
        raise ArtifactNotFound()
    if owner != case_id:
        raise ArtifactElsewhere()


async def of_case(
    connection: Any,
    case_id: UUID,
    scope: UUID | None,
    filters: Sequence[Any] = (None, None),
    limit: int | None = None,
    offset: int = 0,
    illustrated: bool = True,
) -> tuple[list[int], int, Any]:
    """The five counts of StepList, how many steps match, and a Listing of a page of them: with `illustrated` as JSON of
    IllustratedStep, built by the database, else as Steps. `filters`: iteration, status. Raises CaseNotFound."""
    page = (limit, offset, *_START, *_END, PORTION) if illustrated else ()
    query = SQL.steps.illustrated if illustrated else SQL.steps.counts
    row = await connection.fetchrow(query, case_id, scope, *filters, *page)
    if row is None:
        raise CaseNotFound()
    if not illustrated:
        *counts, matching = row
        fetch = listing.rows(SQL.steps.for_case, (case_id, *filters), Step, len(fields(Step)))
        return counts, matching, await listing.read(connection, fetch, _START, matching, limit, offset)
    *counts, matching, steps = row
    fetch = _illustrated(case_id, scope, filters)
    if steps is not None:
        return counts, matching, Listing(fetch, 0, Portion(steps, matching, _END, 0))
    return counts, matching, await listing.read(connection, fetch, _START, matching, limit, offset)


def _illustrated(case_id: UUID, scope: UUID | None, filters: Sequence[Any]) -> listing.Fetch:
    async def fetch(connection: Any, after: Key, limit: int, offset: int) -> Portion:
        found = await connection.fetchrow(SQL.steps.portion, case_id, *filters, *after, limit, offset)
        count, size, *last = found
        if not count:
            return Portion([], 0, after, 0)
        page = None, offset, *after, *last, None
        row = await connection.fetchrow(SQL.steps.illustrated, case_id, scope, *filters, *page)
        return Portion(row["steps"] if row else [], count, tuple(last), size)

    return fetch
