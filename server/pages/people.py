"""Administration: people who log in with a password, and their roles."""

import secrets
from functools import partial
from typing import Any, Literal
from uuid import UUID

from aiohttp import web
from msgspec import Struct

from server.auth import people
from server.auth.passwords import prepared
from server.auth.people import Person
from server.auth.roles import Role, Word
from server.errors import ByProvider, Invalid, NameTaken, NotYours, OwnAccount, Problem, ReportError
from server.http import admin, html
from server.http.admin import LISTED, ListQuery, administered, change, filled, shown
from server.http.fields import TypedName
from server.http.reply import Response
from server.reports import overview
from server.reports.scope import projects_named
from server.services import CALL, SERVICES
from server.viewer import render

PATH = "/admin/people"


class PersonForm(Struct):
    """`project` is a name; without one, a role is for all projects."""

    action: Literal["create", "give-role", "reset-password", "disable", "enable"]
    id: UUID | None = None
    name: TypedName | None = None
    project: TypedName | None = None
    role: Word | Literal["none"] | None = None


async def index(request: web.Request, query: ListQuery) -> Response:
    """The people, or the forms of one."""
    return await _show(request, query)


async def update(request: web.Request, form: PersonForm) -> Response:
    """Adds or changes a person. A new password is shown in the reply alone."""
    try:
        if form.action == "create":
            return await _create(request, form)
        if form.action == "reset-password":
            return await _reset_password(request, form)
        done = await {"give-role": _give_role, "disable": _disable, "enable": _enable}[form.action](request, form)
    except (ByProvider, Invalid, NameTaken, NotYours, OwnAccount) as error:
        return await _show(request, ListQuery(change=form.id), error, form)
    return html.see_other(f"{PATH}?done={done}")


async def _show(
    request: web.Request,
    query: ListQuery,
    error: ReportError | None = None,
    form: PersonForm | None = None,
    secret: str | None = None,
) -> Response:
    visible = administered(request)
    async with request.app[SERVICES].pool.acquire() as connection:
        names = list(await overview.projects(connection, visible))
        if query.change is not None:
            person = shown(await people.by_id(connection, query.change, visible))
            draw = partial(render.page, "admin_person.html", person=person, projects=names, secret=secret)
            own = person.id == request[CALL].known_caller.id
            return await admin.page(request, draw, rows=1, error=error, own=own)
        found, more = await people.page(connection, visible, query.before, LISTED)
    draw = partial(
        render.page, "admin_people.html", people=found, projects=names, query=query, form=form or PersonForm("create")
    )
    return await admin.page(request, draw, rows=len(found), last=found[-1].id if more else None, error=error)


async def _create(request: web.Request, form: PersonForm) -> Response:
    name, role = TypedName(prepared(filled("name", form.name))), _role(form)
    password, hashed = await _new_password(request)
    async with change(request) as connection:
        await _project(request, connection, form.project)
        actor = request[CALL].actor()
        user_id = await people.create(connection, name, hashed, [(form.project, role)], actor)
    return await _show(request, ListQuery(change=user_id), secret=password)


async def _give_role(request: web.Request, form: PersonForm) -> str:
    """Replace the role in one project, or for all projects; `none` takes it away."""
    async with change(request) as connection:
        person = await _changed(request, connection, form, other=True)
        await _project(request, connection, form.project)
        roles = [(project, role) for _, project, role in await people.roles_of(connection, person)]
        kept: list[tuple[str | None, Role]] = [each for each in roles if each[0] != form.project]
        if form.role != "none":
            kept.append((form.project, _role(form)))
        await people.set_roles(connection, person, kept, request[CALL].actor())
    return "roles"


async def _reset_password(request: web.Request, form: PersonForm) -> Response:
    password, hashed = await _new_password(request)
    async with change(request) as connection:
        person = await _changed(request, connection, form)
        await people.set_password(connection, person, hashed, request[CALL].actor())
    return await _show(request, ListQuery(change=person.id), secret=password)


async def _disable(request: web.Request, form: PersonForm) -> str:
    async with change(request) as connection:
        person = await _changed(request, connection, form, other=True)
        await people.disable(connection, person, request[CALL].actor())
    return "disabled"


async def _enable(request: web.Request, form: PersonForm) -> str:
    async with change(request) as connection:
        person = await _changed(request, connection, form)
        await people.enable(connection, person, request[CALL].actor())
    return "enabled"


async def _changed(request: web.Request, connection: Any, form: PersonForm, other: bool = False) -> Person:
    """The person to change, locked. `other`: it must not be the caller. Raises NotListed, NotYours, OwnAccount.

    An admin of some projects may only change people without roles elsewhere: a new password would open those, too.
    """
    user_id, visible = filled("id", form.id), administered(request)
    shown(await people.by_id(connection, user_id, visible))
    person = shown(await people.find(connection, str(user_id)))
    roles = await people.roles_of(connection, person)
    if visible is not None and not all(project_id in visible for project_id, _, _ in roles):
        raise NotYours()
    if other and person.id == request[CALL].known_caller.id:
        raise OwnAccount()
    return person


async def _project(request: web.Request, connection: Any, name: str | None) -> None:
    """Check that the caller may give roles in this project (None: in all). Raises Invalid, NotYours."""
    visible = administered(request)
    if name is None:
        if visible is not None:
            raise NotYours("Name one of your projects: only an admin of all projects gives roles in all projects.")
    elif not await projects_named(connection, name, visible):
        raise Invalid(Problem("project", f"you administer no project named {name}"))


async def _new_password(request: web.Request) -> tuple[str, str]:
    """A generated password and its hash."""
    password = secrets.token_urlsafe(18)
    passwords = request.app[SERVICES].passwords
    with passwords.slot():
        return password, await passwords.hashed(password)


def _role(form: PersonForm) -> Role:
    if form.role is None or form.role == "none":
        raise Invalid(Problem("role", "is required"))
    return Role.of(form.role)
