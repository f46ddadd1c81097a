"""A run as it is stored, in portions of JSON texts: what an archive has of it. See sql/archives.sql."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from server.database.queries import SQL
from server.errors import SuiteRunNotFound

_FIRST = UUID(int=0)
_ROWS = 1_000  # that a portion looks at
# Of each list below a result: its query, and a place before the first row.
LISTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "steps": (SQL.archives.steps, (0, -1)),
    "checkpoints": (SQL.archives.checkpoints, (0,)),
    "console_logs": (SQL.archives.console_logs, (0,)),
    "network_logs": (SQL.archives.network_logs, (0,)),
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


async def listed(where: Any, name: str, case_id: UUID) -> AsyncGenerator[list[str], None]:
    """One of LISTS of a result."""
    query, start = LISTS[name]
    async for rows in _portions(where, query, case_id, start, len(start)):
        yield [row[0] for row in rows]


async def artifacts(where: Any, case_id: UUID) -> AsyncGenerator[tuple[list[str], list[Kept]], None]:
    """The artifacts of a result, and their files."""
    async for rows in _portions(where, SQL.archives.artifacts, case_id, (_FIRST,), 1):
        yield [row[0] for row in rows], [Kept(*row[2:]) for row in rows]


async def _portions(
    where: Any, query: str, some_id: UUID, start: Sequence[Any], keys: int
) -> AsyncGenerator[list[Any], None]:
    """`where` is the pool: no connection is held while the caller sends what it has got."""
    after = tuple(start)
    while rows := await where.fetch(query, some_id, *after, _ROWS):
        after = tuple(rows[-1][1 : 1 + keys])
        yield rows
