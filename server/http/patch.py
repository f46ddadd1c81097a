"""PATCH: what is absent stays, null clears, metadata merges (RFC 7396, top level)."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from msgspec import UNSET, Struct

from server.errors import Invalid, Problem, ReportError
from server.http.fields import MAX_OBJECT_BYTES, JsonObject


async def merge(
    connection: Any,
    query: str,
    some_id: UUID,
    project_id: UUID | None,
    patch: Struct,
    missing: type[ReportError],
) -> None:
    """Applies `patch` by an UPDATE that takes (id, project, patch as jsonb, metadata keys to remove).

    Raises `missing` when there is no such row for the caller, Invalid when the merged metadata is too large.
    """
    fields = {name: value for name in patch.__struct_fields__ if (value := getattr(patch, name)) is not UNSET}
    removed: list[str] = []
    if isinstance(fields.get("metadata"), JsonObject):
        metadata: dict[str, Any] = orjson.loads(str(fields["metadata"]))
        removed = [key for key, value in metadata.items() if value is None]
        fields["metadata"] = metadata
    text = orjson.dumps(fields, default=datetime.isoformat, option=orjson.OPT_PASSTHROUGH_DATETIME).decode()
    row = await connection.fetchrow(query, some_id, project_id, text, removed)
    if row is None:
        raise missing()
    if "metadata" in fields and len(_compact(row["metadata"])) > MAX_OBJECT_BYTES:
        raise Invalid(Problem("metadata", "would be larger than 64 KiB after merging"))


def _compact(jsonb: str) -> bytes:
    """JSON as clients send it: PostgreSQL puts a space behind every colon and comma."""
    return json.dumps(json.loads(jsonb), separators=(",", ":"), ensure_ascii=False).encode()
