"""Administration: API tokens."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal
from uuid import UUID

from aiohttp import web
from msgspec import Struct

from server.auth import access_tokens
from server.auth.access_tokens import Listed
from server.auth.roles import Role, Word
from server.auth.tokens import new_token
from server.errors import Invalid, NameTaken, NotListed, NotTyped, NotYours, Problem, ReportError
from server.http import admin, html
from server.http.admin import LISTED, ListQuery, administered, change, filled, shown
from server.http.fields import TypedName
from server.http.reply import Response
from server.reports import overview
from server.reports.scope import project_named
from server.services import CALL, SERVICES
from server.viewer import render

PATH = "/admin/tokens"
Days = Literal["1", "7", "30", "90", "365", "never"]


class TokenForm(Struct):
    """`project` is a name; without one, a token is for all projects. `typed`: the name of what is revoked."""

    action: Literal["create", "rotate", "revoke"]
    id: UUID | None = None
    name: TypedName | None = None
    project: TypedName | None = None
    role: Word = "uploader"
    days: Days | None = None  # until the end; for a rotation None: as before
    overlap: Literal["0", "1", "24", "168"] = "24"  # hours
    typed: str = ""


async def index(request: web.Request, query: ListQuery) -> Response:
    """The tokens, or the forms of one."""
    return await _show(request, query)


async def update(request: web.Request, form: TokenForm) -> Response:
    """Creates, rotates or revokes a token. A secret is shown in the reply alone."""
    try:
        return await {"create": _create, "rotate": _rotate, "revoke": _revoke}[form.action](request, form)
    except (Invalid, NameTaken, NotTyped, NotYours) as error:
        return await _show(request, ListQuery(change=form.id), error, form)


async def _show(
    request: web.Request,
    query: ListQuery,
    error: ReportError | None = None,
    form: TokenForm | None = None,
    secret: str | None = None,
) -> Response:
    visible = administered(request)
    async with request.app[SERVICES].pool.acquire() as connection:
        if query.change is not None:
            token = shown(await access_tokens.by_id(connection, query.change, visible))
            draw = partial(render.page, "admin_token.html", token=token, secret=secret)
            return await admin.page(request, draw, rows=1, error=error)
        names = list(await overview.projects(connection, visible))
        found, more = await access_tokens.page(connection, visible, query.before, LISTED)
    draw = partial(
        render.page, "admin_tokens.html", tokens=found, projects=names, query=query, form=form or TokenForm("create")
    )
    return await admin.page(request, draw, rows=len(found), last=found[-1].id if more else None, error=error)


async def _create(request: web.Request, form: TokenForm) -> Response:
    secret, name, ends = new_token(), filled("name", form.name), _ends(form)
    async with change(request) as connection:
        project_id = await _project(request, connection, form.project)
        actor, role = request[CALL].actor(), Role.of(form.role)
        token_id = await access_tokens.create(connection, name, secret, role, project_id, ends, actor)
    return await _show(request, ListQuery(change=token_id), secret=secret)


async def _rotate(request: web.Request, form: TokenForm) -> Response:
    overlap, ends = timedelta(hours=int(form.overlap)), _ends(form)
    async with change(request) as connection:
        token = await _changed(request, connection, form)
        rotated = shown(await access_tokens.rotate(connection, str(token.id), overlap, ends, request[CALL].actor()))
        _check_same(token, rotated.id)
    return await _show(request, ListQuery(change=rotated.id), secret=rotated.secret)


async def _revoke(request: web.Request, form: TokenForm) -> Response:
    async with change(request) as connection:
        token = await _changed(request, connection, form)
        if form.typed.strip() != token.name:
            raise NotTyped()
        revoked_id, _ = shown(await access_tokens.revoke(connection, str(token.id), request[CALL].actor()))
        _check_same(token, revoked_id)
    return html.see_other(f"{PATH}?done=revoked")


async def _changed(request: web.Request, connection: Any, form: TokenForm) -> Listed:
    """The token to change. Raises NotListed, also for one that is not valid any more."""
    token = shown(await access_tokens.by_id(connection, filled("id", form.id), administered(request)))
    return shown(token if token.state(datetime.now(UTC)) != "revoked" else None)


def _check_same(token: Listed, changed: UUID) -> None:
    """Raises NotListed, which rolls back: the token has expired or is of CI jobs, and another one, perhaps of another
    project, has its id as its name."""
    if changed != token.id:
        raise NotListed()


async def _project(request: web.Request, connection: Any, name: str | None) -> UUID | None:
    """The project of a new token; None: all. Raises Invalid, NotYours."""
    visible = administered(request)
    if name is None:
        if visible is not None:
            raise NotYours("Name one of your projects: only an admin of all projects makes tokens for all projects.")
        return None
    project_id = await project_named(connection, name)
    if project_id is None or (visible is not None and project_id not in visible):
        raise Invalid(Problem("project", f"you administer no project named {name}"))
    return project_id


def _ends(form: TokenForm) -> datetime | None:
    if form.days is None or form.days == "never":
        return None
    return datetime.now(UTC) + timedelta(days=int(form.days))
