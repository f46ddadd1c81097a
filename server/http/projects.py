"""The project of a request whose path has no id."""

from uuid import UUID

from aiohttp import web

from server.auth.callers import Caller
from server.auth.roles import Role
from server.errors import Invalid, Problem, RoleTooSmall
from server.reports.scope import project_named
from server.services import CALL, SERVICES


async def named_project(request: web.Request, name: str | None) -> UUID:
    """The project of a request without an id in its path, such as for a new run: the caller's only project, else the
    project with this name, else `default`. The caller needs the role uploader there.

    Restricts the call's caller to that project. Raises Invalid, RoleTooSmall.
    """
    caller = request[CALL].known_caller
    if caller.project_id is not None:
        if name is not None and name != caller.project:
            raise Invalid(Problem("project", f"must be {caller.project}, the project of this caller, or absent"))
        return caller.project_id
    found = await project_named(request.app[SERVICES].pool, name or "default")
    narrowed = caller.within(found) if found is not None else None
    if found is None or narrowed is None:
        raise Invalid(Problem("project", _which_project(caller)))
    if narrowed.role < Role.UPLOADER:
        raise RoleTooSmall.of(narrowed.role.word, Role.UPLOADER.word)
    request[CALL].caller = narrowed
    return found


def _which_project(caller: Caller) -> str:
    if caller.projects() is None:
        return "does not exist; creating a token for a project creates the project"
    return "must be one of " + ", ".join(sorted(str(grant.project) for grant in caller.grants))
