"""Bundles in the database: results with their steps, checkpoints, logs and artifacts, in one transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from msgspec import Struct

from server.compare.failures import Group
from server.database.queries import SQL
from server.database.rows import encode_many
from server.errors import SuiteRunNotFound
from server.ids import bucket_of, new_ids
from server.reports import checkpoints, grouping, logs, saving, shards, steps, test_cases
from server.reports.artifacts import BatchArtifact, FailedFile
from server.reports.saving import Saved
from server.storage.stage import Stage
from server.uploads.expected import Expected
from server.uploads.plan import Accepted


@dataclass(slots=True)
class BundledResult:
    client_ref: UUID
    id: UUID
    created: bool
    step_ids: list[UUID | None]
    artifacts: list[BatchArtifact]
    failed: list[FailedFile]
    complete: bool


@dataclass(slots=True)
class BundleStored:
    message: str
    tests: list[BundledResult]
    failed: list[FailedFile]


class SentTest(Protocol):
    """A result that a client sent with all that belongs to it."""

    @property
    def client_ref(self) -> UUID: ...
    @property
    def test(self) -> grouping.SentResult: ...
    @property
    def steps(self) -> Sequence[steps.Sent]: ...
    @property
    def checkpoints(self) -> Sequence[Struct]: ...
    @property
    def console_logs(self) -> Sequence[Struct]: ...
    @property
    def network_logs(self) -> Sequence[Struct]: ...


@dataclass(slots=True)
class Stored:
    """A result after a bundle. Not `is_new`: the run had its client_ref already, and only its files are stored."""

    id: UUID
    is_new: bool
    step_ids: list[UUID | None]
    saved: list[Saved]


async def save(
    connection: Any,
    stage: Stage,
    run_id: UUID,
    scope: UUID | None,
    sent: Sequence[SentTest],
    files: Sequence[Sequence[Accepted]],
    missing: Sequence[Sequence[Expected]],
) -> list[Stored]:
    """Stores the results, the files of each, and which are missing; the result has their order. Call it within a
    transaction.

    The number of statements does not depend on the number of results. Rows of new results are locked by nobody else.
    Those of repeated ones are locked in the order of their ids. Raises SuiteRunNotFound, StorageFull, StorageAway.
    """
    project_id = await connection.fetchval(SQL.suite_runs.project_of, run_id, scope)
    if project_id is None:
        raise SuiteRunNotFound()
    groups = await grouping.of_results([each.test for each in sent], [each.steps for each in sent])
    stored, unknown = await _insert(connection, run_id, scope, sent, groups)
    every = list(zip(sent, stored, files, missing, strict=True))
    new, repeated = [item for item in every if item[1].is_new], [item for item in every if not item[1].is_new]
    await _insert_below(connection, [(each, result) for each, result, *_ in new])
    saved = await saving.save_new(connection, stage, project_id, [(result.id, some) for _, result, some, _ in new])
    for (_, result, *_), own in zip(new, saved, strict=True):
        result.saved = own
    await _find_steps(connection, [(each, result) for each, result, *_ in repeated])
    for _, result, some, absent in sorted(repeated, key=lambda item: item[1].id):
        if some:
            result.saved = await saving.save(connection, stage, result.id, scope, some)
        elif absent:
            await test_cases.touch(connection, result.id, scope)
    await shards.expect(connection, run_id, [(result.id, absent) for _, result, _, absent in every])
    if unknown:
        await grouping.add(connection, unknown, groups)
    return stored


async def _insert(
    connection: Any,
    run_id: UUID,
    scope: UUID | None,
    sent: Sequence[SentTest],
    groups: Sequence[Group | None],
) -> tuple[list[Stored], list[UUID]]:
    """Inserts the results that the run does not have yet. Returns all, and which have an error that is new."""
    ids, refs = new_ids(bucket_of(run_id), len(sent)), [each.client_ref for each in sent]
    fingerprints = [group and group.fingerprint for group in groups]
    rows = await encode_many([each.test for each in sent])
    made = await connection.fetch(SQL.test_cases.insert_bundled, run_id, scope, ids, rows, fingerprints, refs)
    new = {row["id"] for row in made}
    found: dict[UUID, UUID] = {}
    if len(new) < len(sent):
        known = [ref for ref, some_id in zip(refs, ids, strict=True) if some_id not in new]
        found = dict(map(tuple, await connection.fetch(SQL.test_cases.by_client_refs, run_id, known)))
    stored = []
    for ref, some_id in zip(refs, ids, strict=True):
        case_id = some_id if some_id in new else found.get(ref)
        if case_id is None:  # the run was deleted while the insert waited
            raise SuiteRunNotFound()
        stored.append(Stored(case_id, case_id in new, [], []))
    return stored, [row["id"] for row in made if row["unknown_error"]]


async def _insert_below(connection: Any, new: Sequence[tuple[SentTest, Stored]]) -> None:
    """Inserts steps, checkpoints and logs of new results, all of one kind in one statement."""
    sent = [each for each, _ in new]
    cases = [result.id for _, result in new]
    ids = iter(await steps.insert_new(connection, *_flat(cases, [each.steps for each in sent])))
    for each, result in new:
        result.step_ids = [next(ids) for _ in each.steps]
    await checkpoints.insert_many(connection, *_flat(cases, [each.checkpoints for each in sent]))
    await logs.insert_many(connection, "console", *_flat(cases, [each.console_logs for each in sent]))
    await logs.insert_many(connection, "network", *_flat(cases, [each.network_logs for each in sent]))


def _flat(cases: Sequence[UUID], lists: Iterable[Sequence[Any]]) -> tuple[list[UUID], list[Any]]:
    """All items one after the other, and the test case of each."""
    pairs = [(case_id, item) for case_id, items in zip(cases, lists, strict=True) for item in items]
    return [case_id for case_id, _ in pairs], [item for _, item in pairs]


async def _find_steps(connection: Any, repeated: Sequence[tuple[SentTest, Stored]]) -> None:
    """Sets the step ids of repeated results: of the steps that have the sent places now."""
    sent = [(result.id, *step.position) for each, result in repeated for step in each.steps]
    found = await steps.at_positions(connection, sent)
    for each, result in repeated:
        result.step_ids = [found.get((result.id, *step.position)) for step in each.steps]
