"""The shards of a run, and whether a run is complete: which shard is silent, which tests and files never came."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from msgspec import Struct

from server.database.queries import SQL
from server.database.rows import encode, encode_many
from server.errors import ShardTotalDiffers, SuiteRunNotFound
from server.reports import run_tests, suite_runs
from server.reports.suite_runs import SuiteRun
from server.uploads.expected import Expected

MAX_SHARDS = 1000
MAX_MISSING = 500  # files that a reply names
_ERRORS = 100


@dataclass(slots=True)
class ShardError:
    index: int
    error: str


@dataclass(slots=True)
class Shards:
    """`running` have begun and not finished, and nothing was heard of those that are `silent`."""

    total: int
    finished: int
    running: list[int]
    silent: list[int]
    errors: list[ShardError]


@dataclass(slots=True)
class MissingArtifact:
    test_case_result_id: UUID
    test_id: str
    file_name: str | None
    checksum: str | None
    file_size: int | None
    reason: str


@dataclass(slots=True)
class Completeness:
    complete: bool
    tests_expected: int | None
    tests_received: int
    shards: Shards
    artifacts_missing: list[MissingArtifact]
    truncated: bool

    @property
    def is_told(self) -> bool:
        """Whether a client said anything by which this can be known."""
        return self.shards.total > 1 or self.tests_expected is not None or bool(self.artifacts_missing)

    @property
    def tests_missing(self) -> int:
        return max(0, (self.tests_expected or 0) - self.tests_received)


class SentShard(Protocol):
    @property
    def total(self) -> int: ...


class _Row(Struct):
    """A row for the query expected_artifacts.insert_many."""

    test_case_result_id: UUID
    checksum: str
    file_name: str
    file_size: int | None
    reason: str


async def put(
    connection: Any, run_id: UUID, scope: UUID | None, index: int, shard: SentShard
) -> tuple[SuiteRun, str | None]:
    """Stores a shard. Returns the run, and the status that it had before, if its shards have finished it.

    Call it within a transaction. Raises SuiteRunNotFound, ShardTotalDiffers.
    """
    before = await connection.fetchval(SQL.shards.lock, run_id, scope)
    if before is None:
        raise SuiteRunNotFound()
    total = await connection.fetchval(SQL.shards.total, run_id)
    if total not in (None, shard.total):
        raise ShardTotalDiffers.of(shard.total, total)
    await connection.execute(SQL.shards.put, run_id, index, encode(shard))
    status = await connection.fetchval(SQL.shards.follow, run_id)
    run = await suite_runs.by_id(connection, run_id, scope)
    return run, before if status not in (None, "Running") else None


async def of_run(connection: Any, run_id: UUID, scope: UUID | None, received: int | None = None) -> Completeness:
    """Whether a run is complete. `received`: how many tests it has, if the caller knows. Raises SuiteRunNotFound.

    Tests are counted as on the page of the run: the same test in two browsers is two.
    """
    row = await connection.fetchrow(SQL.shards.of_run, run_id, scope)
    if row is None:
        raise SuiteRunNotFound()
    if received is None:
        received = (await run_tests.counts(connection, [run_id])).get(run_id, run_tests.Counts()).total
    shards = _shards(row, await connection.fetch(SQL.shards.errors, run_id, _ERRORS) if row["total"] else [])
    files = await connection.fetch(SQL.expected_artifacts.of_run, run_id, MAX_MISSING + 1)
    found = Completeness(
        shards.finished == shards.total and row["status"] != "Running" and not files,
        row["tests_expected"],
        received,
        shards,
        [MissingArtifact(*each) for each in files[:MAX_MISSING]],
        len(files) > MAX_MISSING,
    )
    found.complete = found.complete and not found.tests_missing
    return found


def _shards(row: Any, errors: Sequence[Any]) -> Shards:
    """A run without shards is one shard, which says nothing and ends with the run."""
    finished, running = row["finished"], row["running"]
    if row["total"] is None:
        over = row["status"] != "Running"
        return Shards(1, int(over), [] if over else [1], [], [])
    heard = {*finished, *running}
    silent = [index for index in range(1, row["total"] + 1) if index not in heard]
    return Shards(row["total"], len(finished), running, silent, [ShardError(*each) for each in errors])


async def expect(connection: Any, run_id: UUID, files: Sequence[tuple[UUID, Sequence[Expected]]]) -> None:
    """Remembers files that have not come, of each of these results: no statement when there is none.

    Call it after what came is stored, with the locks of the results that this transaction has not inserted."""
    rows = [_Row(case_id, *_columns(each)) for case_id, missing in files for each in missing]
    if rows:
        await connection.execute(SQL.expected_artifacts.insert_many, run_id, await encode_many(rows))


def _columns(file: Expected) -> tuple[str, str, int | None, str]:
    return file.checksum, file.file_name, file.file_size, file.reason
