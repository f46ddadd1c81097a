"""PATCH: absent fields stay, null clears a field, metadata merges (RFC 7396, top level)."""

import json
from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct

from server.database.rows import encode
from server.errors import Invalid, Problem, ReportError

MAX_METADATA_BYTES = 64 << 10


async def merge(
    connection: Any,
    query: str,
    some_id: UUID,
    scope: UUID | None,
    patch: Struct,
    missing: type[ReportError],
    *more: Any,
) -> None:
    """Applies `patch`. `query` is an UPDATE with parameters (id, project, patch as jsonb, metadata keys to remove,
    `more`).

    Raises `missing` when there is no such row for the caller, Invalid when the merged metadata is too large.
    """
    sent = getattr(patch, "metadata", UNSET)
    removed = [] if sent is UNSET else [key for key, value in sent.value.items() if value is None]
    row = await connection.fetchrow(query, some_id, scope, encode(patch).decode(), removed, *more)
    if row is None:
        raise missing()
    if sent is not UNSET and len(_compact(row["metadata"])) > MAX_METADATA_BYTES:
        raise Invalid(Problem("metadata", "would be larger than 64 KiB after merging"))


def _compact(jsonb: str) -> bytes:
    """JSON as clients send it: PostgreSQL adds a space after every colon and comma."""
    return json.dumps(json.loads(jsonb), separators=(",", ":"), ensure_ascii=False).encode()
