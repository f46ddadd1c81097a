"""Browser sessions: a cookie that is good for reading, so that `<img src="…/download">` shows."""

from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from server.audit import Action, Subject, note, requester
from server.auth.tokens import COOKIE, start_session
from server.context import ANYONE, CALLER, POOL, SECURE, SQL
from server.db import transaction
from server.errors import Unauthorized
from server.http import reply
from server.http.fields import Moment
from server.http.reply import Response


@dataclass(slots=True)
class Session:
    expires_at: Moment


async def create(request: web.Request) -> Response:
    """Sets a session cookie for the token that the request carries."""
    caller = request[CALLER]
    if caller is ANYONE:
        raise Unauthorized()
    async with transaction(request.app[POOL]) as connection:
        secret, ends = await start_session(request, connection, caller.id)
        subject = Subject("token", caller.id, caller.name, caller.project_id)
        await note(connection, request.app[SQL], Action.SESSION_STARTED, requester(request), subject, expires_at=ends)
    response = reply.created(Session(ends))
    seconds = int((ends - datetime.now(UTC)).total_seconds())
    response.set_cookie(
        COOKIE, secret, max_age=seconds, path="/", httponly=True, samesite="Lax", secure=request[SECURE]
    )
    return response
