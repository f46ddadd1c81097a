"""The audit trail: lists its entries for admins."""

from uuid import UUID

from aiohttp import web

from server.auth.roles import Role
from server.bodies.audit import ActionWord
from server.http import reply
from server.http.cursor import CursorPage, cursor_of
from server.http.fields import IndexedText, Instant
from server.http.reply import Response
from server.reports import audit
from server.reports.audit import AuditEntry, AuditPage
from server.services import CALL, SERVICES


class AuditFilter(CursorPage):
    action: ActionWord | None = None
    actor: IndexedText | None = None
    subject_id: UUID | None = None
    since: Instant | None = None
    until: Instant | None = None


async def index(request: web.Request, query: AuditFilter) -> Response:
    """Lists the audit trail, newest entries first: who did what, when and from where.

    An admin of all projects sees all entries; other admins see those of the projects in which they are admin. `actor`
    is the exact name of a token or a person. `since` is inclusive, `until` exclusive. `limit` is 100 by default and at
    most 500; `next_cursor` of the reply is the `cursor` of the next page.
    """
    rows, more = await audit.page(
        request.app[SERVICES].pool,
        request[CALL].known_caller.projects(Role.ADMIN),
        query.before,
        query.size,
        action=query.action,
        actor=query.actor,
        subject_id=query.subject_id,
        since=query.since,
        until=query.until,
    )
    items = [AuditEntry(*row) for row in rows]
    return reply.ok(AuditPage(items, cursor_of(items[-1].id) if more else None))
