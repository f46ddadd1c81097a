"""Reads the audit trail; server/observe/audit.py writes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from server.database.queries import SQL
from server.ids import first_id
from server.reports.paging import newest
from server.reports.words import Moment


@dataclass(slots=True)
class AuditEntry:
    id: UUID
    created_at: Moment
    action: str
    actor_kind: str
    actor_id: UUID | None
    actor_name: str | None
    project_id: UUID | None
    project: str | None
    subject_kind: str
    subject_id: UUID | None
    subject_name: str | None
    remote: str | None
    request_id: str | None
    detail: dict[str, Any]


@dataclass(slots=True)
class AuditPage:
    items: list[AuditEntry]
    next_cursor: str | None


async def page(
    where: Any,
    projects: Sequence[UUID] | None,
    before: UUID | None,
    limit: int,
    *,
    action: str | None = None,
    actor: str | None = None,
    subject_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[list[Any], bool]:
    """At most `limit` rows (the columns of AuditEntry) of these projects (None: all), newest first, and whether there
    are more. `before`: the last id of the previous page."""
    filters = action, actor, subject_id, since and first_id(since), until and first_id(until)
    query = SQL.audit.page_of_actor if actor else SQL.audit.page_of_action if action else SQL.audit.page
    rows = await newest(where, query, projects, before, *filters, limit + 1)
    return rows[:limit], len(rows) > limit


def plain(entry: AuditEntry) -> dict[str, Any]:
    """The detail of an entry as a dict."""
    found: dict[str, Any] = orjson.loads(orjson.dumps(entry.detail))
    return found
