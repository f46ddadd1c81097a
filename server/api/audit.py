"""The audit trail as admins read it; what is noted, and how, is in server/audit.py."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aiohttp import web

from server.audit import Action
from server.auth.roles import Role
from server.context import CALLER, POOL, SQL
from server.http import reply
from server.http.cursor import CursorPage, cursor_of, newest
from server.http.fields import IndexedText, Instant, Moment
from server.http.reply import Response
from server.ids import first_id


class ActionWord(str):
    """One of Action."""

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> "ActionWord":
        if value not in list(Action):
            raise ValueError("must be one of: " + ", ".join(Action))
        return cls(value)

    schema = {"type": "string", "enum": [action.value for action in Action]}  # noqa: RUF012 - a constant, never changed


class AuditFilter(CursorPage):
    action: ActionWord | None = None
    actor: IndexedText | None = None
    subject_id: UUID | None = None
    since: Instant | None = None
    until: Instant | None = None


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


async def index(request: web.Request, query: AuditFilter) -> Response:
    """Who did what, newest first. Who is not an admin of all projects sees what was done in those that he is of."""
    rows = await newest(
        request.app[POOL],
        request.app[SQL].audit.page,
        request[CALLER].projects(Role.ADMIN),
        query.before,
        query.action,
        query.actor,
        query.subject_id,
        query.since and first_id(query.since),
        query.until and first_id(query.until),
        query.size + 1,
    )
    items = [AuditEntry(*row) for row in rows[: query.size]]
    next_cursor = cursor_of(items[-1].id) if len(rows) > query.size else None
    return reply.ok(AuditPage(items, next_cursor))
