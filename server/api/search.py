"""Search for errors, tests and selectors by their text."""

from aiohttp import web
from msgspec import Struct, field

from server.errors import Invalid, Problem
from server.http import reply
from server.http.fields import Name100, Text255
from server.http.reply import Response
from server.reports import search
from server.reports.scope import projects_named
from server.services import CALL


class SearchFilter(Struct):
    q: Text255
    project: Name100 | None = None
    kinds: search.Kinds | None = field(name="in", default=None)


async def show(request: web.Request, query: SearchFilter) -> Response:
    """Searches errors, tests and selectors for a text.

    An error is found by all words of the text, the last one as the beginning of a word, or by a text that has the same
    error. A test is found when its `test_id` and `name` contain all words. What contains the text itself comes first,
    then what was seen last. A selector is found when it or the name of its element contains the text, in the newest 50
    runs of a project, as far as `GET /insights?show=selectors` has counted them. At most 20 of each; `complete` is
    false when the search was ended early, because it took too long or hundreds of tests fit: then a longer text, or
    `project`, may find better ones. `in` selects kinds, by default all.
    """
    if not query.q.strip():
        raise Invalid(Problem("q", "must have a word"))
    async with request[CALL].reads.acquire() as connection:
        projects = await projects_named(connection, query.project, request[CALL].known_caller.projects())
        return reply.ok(await search.find(connection, projects, query.q.strip(), query.kinds))
