"""Lists that grow without end: the newest rows of the projects that a caller may see."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID


async def newest(where: Any, query: str, projects: Sequence[UUID] | None, *arguments: Any) -> list[Any]:
    """The newest rows of these projects, of None: of all. `query` takes a project first, and last how many rows.

    Each project's newest are read from an index; those of all of them would be found first, and sorted then.
    """
    if projects is None:
        return list(await where.fetch(query, None, *arguments))
    rows = [row for project_id in projects for row in await where.fetch(query, project_id, *arguments)]
    return sorted(rows, key=lambda row: row["id"], reverse=True)[: arguments[-1]]
