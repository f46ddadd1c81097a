"""Administration: the projects, their names and main branches."""

from functools import partial
from typing import Literal
from uuid import UUID

from aiohttp import web
from msgspec import Struct

from server.errors import Invalid, NameTaken, NotYours, ReportError
from server.http import admin, html
from server.http.admin import LISTED, ListQuery, administered, change, filled, shown
from server.http.fields import TypedBranch, TypedName
from server.http.reply import Response
from server.reports import projects, usage
from server.services import CALL, SERVICES
from server.viewer import render

PATH = "/admin/projects"


class ProjectForm(Struct):
    action: Literal["create", "rename", "set-main-branch"]
    id: UUID | None = None
    name: TypedName | None = None
    main_branch: TypedBranch | None = None


async def index(request: web.Request, query: ListQuery) -> Response:
    """The projects, or the forms of one."""
    return await _show(request, query)


async def update(request: web.Request, form: ProjectForm) -> Response:
    """Creates, renames or changes a project."""
    try:
        done = await {"create": _create, "rename": _rename, "set-main-branch": _set_main_branch}[form.action](
            request, form
        )
    except (Invalid, NameTaken) as error:
        return await _show(request, ListQuery(change=form.id), error, form)
    return html.see_other(f"{PATH}?done={done}")


async def _show(
    request: web.Request, query: ListQuery, error: ReportError | None = None, form: ProjectForm | None = None
) -> Response:
    where, visible = request.app[SERVICES].pool, administered(request)
    if query.change is not None:
        project = shown(await projects.by_id(where, query.change, visible))
        draw = partial(render.page, "admin_project.html", project=project)
        return await admin.page(request, draw, rows=1, error=error)
    found, more = await projects.page(where, visible, query.before, LISTED)
    used, _ = await usage.of_projects(where, [each.id for each in found], LISTED)
    values = {"projects": found, "usage": {each.id: each for each in used}}
    draw = partial(render.page, "admin_projects.html", **values, query=query, form=form or ProjectForm("create"))
    return await admin.page(request, draw, rows=len(found), last=found[-1].id if more else None, error=error)


async def _create(request: web.Request, form: ProjectForm) -> str:
    async with change(request) as connection:
        if administered(request) is not None:
            raise NotYours()
        branch = form.main_branch or TypedBranch("main")
        await projects.create(connection, filled("name", form.name), branch, request[CALL].actor())
    return "created"


async def _rename(request: web.Request, form: ProjectForm) -> str:
    async with change(request) as connection:
        if administered(request) is not None:  # names are those of the whole server: a taken one must not show
            raise NotYours()
        project = shown(await projects.by_id(connection, filled("id", form.id), None))
        await projects.rename(connection, project, filled("name", form.name), request[CALL].actor())
    return "renamed"


async def _set_main_branch(request: web.Request, form: ProjectForm) -> str:
    async with change(request) as connection:
        project = shown(await projects.by_id(connection, filled("id", form.id), administered(request)))
        branch = filled("main_branch", form.main_branch)
        await projects.set_main_branch(connection, project.name, branch, request[CALL].actor())
    return "branch"
