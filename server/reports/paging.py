"""Pages of unbounded lists: the newest rows of the projects that a caller may see."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID


async def newest(where: Any, query: str, projects: Sequence[UUID] | None, *arguments: Any) -> list[Any]:
    """The newest rows of these projects; None: all projects. `query` takes a project first and the limit last.

    A query for one project reads its newest rows from an index. A query for several would read and sort all their rows.
    """
    if projects is None:
        return list(await where.fetch(query, None, *arguments))
    rows = [row for project_id in projects for row in await where.fetch(query, project_id, *arguments)]
    return sorted(rows, key=lambda row: row["id"], reverse=True)[: arguments[-1]]
