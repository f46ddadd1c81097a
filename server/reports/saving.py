"""Turns received files into stored files with rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from msgspec import Struct

from server.database.queries import SQL
from server.database.rows import encode
from server.ids import bucket_of, new_ids
from server.reports import linking, test_cases
from server.reports.artifacts import Artifact, BatchArtifact
from server.storage.disk import Placement
from server.storage.paths import relative_paths
from server.storage.stage import Stage
from server.uploads.content import extension
from server.uploads.names import link_name
from server.uploads.plan import Accepted

_STEP = 4  # the first column of artifacts.lock that is one of linking.Step


@dataclass(frozen=True, slots=True)
class Saved:
    """An artifact after an upload, new or a duplicate. `row`: the columns of Artifact. `size` in bytes.

    `index`: which of the received files it was, or which of the known ones."""

    row: tuple[Any, ...]
    duplicate: bool
    index: int
    size: int
    known: bool

    def of_batch(self) -> BatchArtifact:
        place = (None, self.index) if self.known else (self.index, None)
        return BatchArtifact(*[*self.row, self.duplicate, *place])


@dataclass(frozen=True, slots=True)
class _New:
    """A file that becomes a new artifact: its id, and the free paths that it may be stored at."""

    id: UUID
    item: Accepted
    paths: list[str]


class _Row(Struct, omit_defaults=True):
    """A row for the query artifacts.insert_many."""

    id: UUID
    test_case_result_id: UUID
    artifact_type: str
    iteration_number: int
    file_name: str
    file_size: int
    mime_type: str
    checksum: str
    storage_path: str
    dedupe_key: str
    artifact_category: str | None = None
    step_number: int | None = None
    text_encoding: str | None = None
    description: str | None = None
    captured_at: datetime | None = None
    link_name: str | None = None
    step_result_id: UUID | None = None

    def columns(self, stored_at: datetime) -> tuple[Any, ...]:
        """The columns of Artifact, once it is stored."""
        return (
            *(self.id, self.test_case_result_id, self.step_result_id, self.artifact_type, self.artifact_category),
            *(self.step_number, self.iteration_number, self.file_name, self.file_size, self.mime_type),
            *(self.text_encoding, self.checksum, f"artifacts/{self.storage_path}", self.description),
            *(f"/api/v1/reports/artifacts/{self.id}/download", self.captured_at, stored_at, stored_at),
        )


async def save(
    connection: Any, stage: Stage, case_id: UUID, scope: UUID | None, accepted: Sequence[Accepted]
) -> list[Saved]:
    """Stores the accepted files and inserts their rows; the result has their order. A duplicate gets its existing row.

    Call it within a transaction: the test case stays locked from the choice of paths to the insert. Files come before
    rows, so a crash may leave a file without a row, but never a row without its file. Raises CaseNotFound, StorageFull,
    StorageAway.
    """
    ids = new_ids(bucket_of(case_id), len(accepted))
    today = datetime.now(UTC)
    paths = [_paths(today, case_id, item, artifact_id) for item, artifact_id in zip(accepted, ids, strict=True)]
    locked = await _lock(connection, case_id, scope, accepted, paths)
    project_id, taken, known = locked[0]["project_id"], set(locked[0]["taken"]), dict[bytes, tuple[Any, ...]]()
    if keys := locked[0]["known"]:
        found = await connection.fetch(SQL.artifacts.duplicates, case_id, keys)
        known = {key: tuple(columns) for key, *columns in found}
    duplicates = {item.dedupe_key: item for item in accepted if item.dedupe_key in known}
    # If one request contains the same file twice, the first one is stored.
    added: dict[bytes, _New] = {}
    for artifact_id, item, candidates in zip(ids, accepted, paths, strict=True):
        if item.dedupe_key not in known:
            free = [path for path in candidates if path not in taken]
            added.setdefault(item.dedupe_key, _New(artifact_id, item, free))

    placements = [_placement(new.item, new.paths, project_id) for new in added.values()]
    placements += [_existing(known[key], item, project_id) for key, item in duplicates.items()]
    published = await stage.publish(placements)
    if added:
        rows = [_row(new, path, case_id) for new, path in zip(added.values(), published, strict=False)]
        stored = await _insert(
            connection, rows, [linking.Step(*row[_STEP:]) for row in locked if row[_STEP] is not None]
        )
        known |= dict(zip(added, stored, strict=True))
        if locked[0]["expected"]:
            arrived = [row.checksum for row in rows], [row.file_name for row in rows]
            await connection.execute(SQL.expected_artifacts.delete_arrived, case_id, *arrived)
    return _in_order(accepted, known, set(duplicates))


async def save_new(
    connection: Any, stage: Stage, project_id: UUID, sent: Sequence[tuple[UUID, Sequence[Accepted]]]
) -> list[list[Saved]]:
    """As save(), for several test cases that this transaction has inserted, which have neither artifacts nor pinned
    screenshots; the results have their order. Two statements for all."""
    today, added = datetime.now(UTC), dict[tuple[UUID, bytes], _New]()
    for case_id, accepted in sent:
        for artifact_id, item in zip(new_ids(bucket_of(case_id), len(accepted)), accepted, strict=True):
            new = _New(artifact_id, item, _paths(today, case_id, item, artifact_id))
            added.setdefault((case_id, item.dedupe_key), new)
    if not added:
        return [[] for _ in sent]
    published = await stage.publish([_placement(new.item, new.paths, project_id) for new in added.values()])
    rows = [_row(new, path, case_id) for ((case_id, _), new), path in zip(added.items(), published, strict=True)]
    numbers = [row.step_number for row in rows if row.step_number is not None]
    cases = [case_id for case_id, _ in sent]
    matching = await connection.fetch(SQL.steps.matching, cases, numbers, linking.names_of(rows))
    known: dict[UUID, dict[bytes, tuple[Any, ...]]] = {case_id: {} for case_id in cases}
    stored = await _insert(connection, rows, [linking.Step(*row) for row in matching])
    for (case_id, key), columns in zip(added, stored, strict=True):
        known[case_id][key] = columns
    return [_in_order(accepted, known[case_id], set()) for case_id, accepted in sent]


async def _lock(
    connection: Any, case_id: UUID, scope: UUID | None, accepted: Sequence[Accepted], paths: Iterable[list[str]]
) -> list[Any]:
    """Locks the test case. Returns the rows of artifacts.lock, of which there is at least one. Raises CaseNotFound."""
    keys, wanted = [item.dedupe_key for item in accepted], [path for candidates in paths for path in candidates]
    numbers = [item.fields.step_number for item in accepted if item.fields.step_number is not None]
    names = [link_name(item.file.file_name) or item.file.file_name for item in accepted]
    query = partial(connection.fetch, SQL.artifacts.lock, case_id, scope, keys, wanted, numbers, names)
    rows: list[Any] = await query()
    if not rows:
        await test_cases.lock(connection, case_id, scope)  # another writer committed in between; now no other can
        rows = await query()
    return rows


async def _insert(connection: Any, rows: Sequence[_Row], matching: Iterable[linking.Step]) -> list[tuple[Any, ...]]:
    """Inserts new artifacts, and links them with the steps that match them. Returns the columns of Artifact of each."""
    links = linking.choose(matching, rows)
    for row in rows:
        row.step_result_id = links.owners.get(row.id)
    shown, shots = list(links.shown), list(links.shown.values())
    stored_at = await connection.fetchval(SQL.artifacts.insert_many, encode(rows), shown, shots)
    for case_id, displaced in links.displaced.items():
        await connection.execute(SQL.steps.own_artifacts, case_id, displaced, [])
    return [row.columns(stored_at) for row in rows]


def _in_order(accepted: Sequence[Accepted], known: dict[bytes, tuple[Any, ...]], seen: set[bytes]) -> list[Saved]:
    saved = []
    for item in accepted:
        file = item.file
        saved.append(Saved(known[item.dedupe_key], item.dedupe_key in seen, file.index, file.size, file.known))
        seen.add(item.dedupe_key)
    return saved


def _paths(day: datetime, case_id: UUID, item: Accepted, artifact_id: UUID) -> list[str]:
    fields = item.fields
    return relative_paths(
        day,
        case_id,
        item.iteration_number,
        fields.step_number,
        fields.artifact_category,
        item.file.file_name,
        extension(item.mime_type),
        artifact_id,
    )


def _placement(item: Accepted, names: Sequence[str], project_id: UUID) -> Placement:
    return Placement(item.file.path, item.file.size, item.file.checksum, project_id, names)


def _existing(row: tuple[Any, ...], item: Accepted, project_id: UUID) -> Placement:
    """The placement of a duplicate: its stored file is only replaced if it is missing or has other bytes."""
    stored = Artifact(*row).storage_path.removeprefix("artifacts/")
    return replace(_placement(item, [stored], project_id), existing=True)


def _row(new: _New, storage_path: str, case_id: UUID) -> _Row:
    item, at = new.item, new.item.fields.captured_at
    return _Row(
        id=new.id,
        test_case_result_id=case_id,
        artifact_type=item.fields.artifact_type,
        iteration_number=item.iteration_number,
        file_name=item.file.file_name,
        file_size=item.file.size,
        mime_type=item.mime_type,
        checksum=item.file.checksum,
        storage_path=storage_path,
        dedupe_key=item.dedupe_key.hex(),
        artifact_category=item.fields.artifact_category,
        step_number=item.fields.step_number,
        text_encoding=item.text_encoding,
        description=item.fields.description,
        captured_at=at and datetime.combine(at.date(), at.timetz()),  # orjson encodes no subclass of datetime
        link_name=link_name(item.file.file_name),
    )
