"""Cursors of lists that grow without end: the last id of a page, as text for a URL. Ids ascend with time."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from server.errors import Invalid, Problem


def out(last: UUID) -> str:
    """The cursor behind an id."""
    return base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode()


def read(cursor: str | None) -> UUID | None:
    """The id of a cursor. Raises Invalid for what `out` has not made."""
    if cursor is None:
        return None
    try:
        return UUID(bytes=base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error):
        raise Invalid(Problem("cursor", "must be a next_cursor of an earlier reply")) from None


async def newest(where: Any, query: str, projects: Sequence[UUID] | None, *arguments: Any) -> list[Any]:
    """The newest rows of these projects, of None: of all. `query` takes a project first, and last how many rows.

    Each project's newest are read from an index; those of all of them would be found first, and sorted then.
    """
    if projects is None:
        return list(await where.fetch(query, None, *arguments))
    rows = [row for project_id in projects for row in await where.fetch(query, project_id, *arguments)]
    return sorted(rows, key=lambda row: row["id"], reverse=True)[: arguments[-1]]
