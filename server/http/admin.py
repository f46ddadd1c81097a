"""What the administration pages share: their query, what they show to whom, and how they change things.

An admin of all projects sees everything, another admin what belongs to the projects in which they are admin. Changes
need a person's session: then the page has its CSRF token.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, TypeVar
from uuid import UUID

from aiohttp import web
from msgspec import Meta, Struct

from server.auth.callers import hold
from server.auth.roles import Role
from server.auth.tokens import csrf_token
from server.errors import Invalid, NotListed, Problem, ReportError
from server.http import html
from server.http.authenticate import session_cookie
from server.http.cursor import CursorPage, cursor_of
from server.http.route import check_again
from server.services import CALL, SERVICES

T = TypeVar("T")

LISTED = 100  # a page


class ListQuery(Struct):
    """The query of a list. `change`: the id of the entry whose forms are shown instead. `done`: what was just done."""

    cursor: Annotated[str, Meta(max_length=100)] | None = None
    change: UUID | None = None
    done: Annotated[str, Meta(max_length=30)] | None = None

    @property
    def before(self) -> UUID | None:
        """The last id of the previous page. Raises Invalid."""
        return CursorPage(cursor=self.cursor).before


def administered(request: web.Request) -> list[UUID] | None:
    """The projects in which the caller is admin; None: all."""
    return request[CALL].known_caller.projects(Role.ADMIN)


@asynccontextmanager
async def change(request: web.Request) -> AsyncIterator[Any]:
    """A connection in a transaction, for a change. The caller is looked up again without the cache: somebody who was
    disabled seconds ago must not make a token that outlives that."""
    async with request.app[SERVICES].pool.transaction() as connection:
        await hold(connection, request[CALL].known_caller)
        await check_again(request, {}, Role.ADMIN, connection)
        yield connection


async def page(
    request: web.Request,
    draw: Callable[..., str],
    *,
    rows: int,
    last: UUID | None = None,
    error: ReportError | None = None,
    **values: Any,
) -> web.Response:
    """A page with at most LISTED `rows`. `last`: the id of the last one when there are more. `error`: why the change
    that was sent is not done; the page is then shown again with it."""
    person = request[CALL].known_caller.kind == "person"
    values |= {
        "error": error,
        "csrf_token": csrf_token(session_cookie(request)) if person else None,
        "everywhere": administered(request) is None,
        "older": cursor_of(last) if last else None,
        "now": datetime.now(UTC),
    }
    status = error.status if error else 200
    return await html.page(request, partial(draw, **values), rows=rows, status=status, secret=person)


def shown(found: T | None) -> T:
    """What the caller may see. Raises NotListed for None."""
    if found is None:
        raise NotListed()
    return found


def filled(name: str, value: T | None) -> T:
    """The value of a form's field. Raises Invalid when it was left empty."""
    if value is None:
        raise Invalid(Problem(name, "is required"))
    return value
