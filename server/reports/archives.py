"""A run as it is stored, in portions of JSON texts: what an archive has of it. See sql/archives.sql."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from server.database.queries import SQL
from server.database.reads import Reads
from server.errors import SuiteRunNotFound
from server.reports import panels
from server.reports.panels import At, Panel

_FIRST = UUID(int=0)
_ROWS = 1_000  # that a portion looks at
# Of each list below a result: its query, and a place before the first row.
LISTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "steps": (SQL.archives.steps, (0, -1)),
    "checkpoints": (SQL.archives.checkpoints, (0,)),
    "console_logs": (SQL.archives.console_logs, (0,)),
    "network_logs": (SQL.archives.network_logs, (0,)),
}
# Likewise, of each list of a run beside its results.
OF_RUN: dict[str, tuple[str, tuple[Any, ...]]] = {
    "shards": (SQL.archives.shards, (0,)),
    "expected_artifacts": (SQL.archives.expected_artifacts, (_FIRST, "", "")),
}


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is archived. `item`: its JSON. `results` and `artifacts`: how many it has."""

    id: UUID
    name: str
    created_at: datetime
    item: str
    results: int
    artifacts: int


@dataclass(frozen=True, slots=True)
class Kept:
    """The file of an artifact: its content, and where the server has it."""

    id: UUID
    checksum: str
    file_size: int
    mime_type: str
    storage_path: str


async def run(connection: Any, run_id: UUID, scope: UUID | None) -> Run:
    """Raises SuiteRunNotFound."""
    row = await connection.fetchrow(SQL.archives.run, run_id, scope)
    if row is None:
        raise SuiteRunNotFound()
    results, artifacts = await connection.fetchrow(SQL.archives.size, run_id)
    return Run(run_id, row["name"], row["created_at"], row["item"], results, artifacts)


async def results(where: Any, run_id: UUID) -> AsyncGenerator[tuple[list[str], list[UUID]], None]:
    """The results of a run in the order of their ids: JSON texts, and ids."""
    async for rows in _portions(where, SQL.archives.results, run_id, (_FIRST,), 1):
        yield [row[0] for row in rows], [row[1] for row in rows]


async def listed(where: Any, name: str, some_id: UUID) -> AsyncGenerator[list[str], None]:
    """One of LISTS of a result, or of OF_RUN of a run."""
    query, start = (LISTS | OF_RUN)[name]
    async for rows in _portions(where, query, some_id, start, len(start)):
        yield [row[0] for row in rows]


async def artifacts(where: Any, case_id: UUID) -> AsyncGenerator[tuple[list[str], list[Kept]], None]:
    """The artifacts of a result, and their files."""
    async for rows in _portions(where, SQL.archives.artifacts, case_id, (_FIRST,), 1):
        yield [row[0] for row in rows], [Kept(*row[1:]) for row in rows]


async def _portions(
    where: Any, query: str, some_id: UUID, start: Sequence[Any], keys: int
) -> AsyncGenerator[list[Any], None]:
    """`where` is the pool: no connection is held while the caller sends what it has got."""
    after = tuple(start)
    while rows := await where.fetch(query, some_id, *after, _ROWS):
        after = tuple(rows[-1][1 : 1 + keys])
        yield rows


async def page_starts(where: Any, case_id: UUID, rows: int) -> list[At]:
    """The first step of each page of `rows` steps of a result; each iteration begins a page."""
    return [At(*row) for row in await where.fetch(SQL.archives.page_starts, case_id, rows)]


async def panels_of(reads: Reads, case_id: UUID, ats: Sequence[At], cut: int) -> list[Panel]:
    """The steps at these places, those that are there."""

    async def read() -> list[Panel]:
        async with reads.acquire() as connection:
            found = [await panels.of_step(connection, case_id, at, cut) for at in ats]
        return [each for each in found if each is not None]

    return await reads.attempt(read)


async def checksums_of(connection: Any, ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """The SHA-256 of the files of these artifacts."""
    rows = await connection.fetch(SQL.archives.checksums_of, ids)
    return {row["id"]: bytes.fromhex(row["checksum"]) for row in rows}
