"""A row of the API's table of contents, and how it becomes what aiohttp calls."""

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints
from uuid import UUID

from aiohttp import web

from server.auth.roles import Role
from server.config import ArtifactsConfig, Config
from server.context import BODY_HASH, CALLER, CONFIG, MEMORY, PLACE, POOL, SQL, STORAGE, UPLOADS, Caller
from server.errors import (
    AllProjectsNeeded,
    ArtifactNotFound,
    CaseNotFound,
    Invalid,
    LinkNotFound,
    MalformedBody,
    MethodNotAllowed,
    ReportError,
    RoleTooSmall,
    RouteNotFound,
    StepNotFound,
    SuiteRunNotFound,
    Unauthorized,
)
from server.http import decode
from server.http.idempotency import REPLAYED, key_of
from server.http.reply import Response
from server.uploads.memory import Share
from server.uploads.spool import Rules

Handler = Callable[..., Awaitable[Response]]
Bound = Callable[[web.Request], Awaitable[Response]]
Authenticate = Callable[[web.Request], Awaitable[Caller]]

# An id in a path: its query file, and what is said when it is malformed or there is no such thing.
RESOURCES: Mapping[str, tuple[str, type[ReportError]]] = {
    "suite_id": ("suite_runs", SuiteRunNotFound),
    "case_id": ("test_cases", CaseNotFound),
    "step_id": ("steps", StepNotFound),
    "artifact_id": ("artifacts", ArtifactNotFound),
    "link_id": ("links", LinkNotFound),
}
# What a caller must be for a request of this method, where its row says nothing else.
_ROLES = {"GET": Role.VIEWER, "POST": Role.UPLOADER, "PUT": Role.UPLOADER, "PATCH": Role.UPLOADER}


@dataclass(frozen=True, slots=True)
class Upload:
    """What a multipart route takes: the file field and the text fields, for its documentation, and its limits."""

    file_field: str
    fields: type
    rules: Callable[[ArtifactsConfig], Rules]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. A handler names what it needs: path ids by name, `query` and `body` by type."""

    method: str
    path: str
    handler: Handler
    reply: Any = None  # a dataclass that goes out as JSON, or a media type
    status: int = 200
    public: bool | Callable[[Config], bool] = False  # whether no token is asked for
    role: Role | None = None  # the least that may call it, where the method does not say it
    admin_if: str = ""  # a switch of its query that makes it an admin's
    own: bool = False  # below admin, only for whoever made the thing in its path; the handler looks
    about_all: bool = False  # it tells about all projects: not for callers of some
    only: Literal["token", "person"] | None = None  # who alone may call it
    once: bool = True  # a POST that honours an Idempotency-Key
    max_json: int | None = None  # bytes of its JSON body, where that needs far less than `[api] max_json_size`
    opened_by: Authenticate | None = None  # public, because an evidence link in its path lets the caller in
    refusal: Callable[[web.Request, ReportError], Response] | None = None  # how it says no, where not as JSON
    upload: Upload | None = None
    also: tuple[int, ...] = ()  # other statuses of success
    errors: tuple[int, ...] = ()  # statuses of failure that are its own
    array: Any = None  # the element, where S0's clients may read the list as a bare array
    others: tuple[Any, ...] = ()  # what else it may answer with, like `reply`

    @property
    def ids(self) -> list[str]:
        return [name for name in RESOURCES if "{" + name + "}" in self.path]

    @property
    def least_role(self) -> Role:
        return self.role or _ROLES.get(self.method, Role.ADMIN)

    @property
    def takes_key(self) -> bool:
        return self.method == "POST" and self.once

    @property
    def takes(self) -> dict[str, Any]:
        """Types of the handler's parameters by name, its request aside."""
        hints = get_type_hints(self.handler, include_extras=True)
        names = list(inspect.signature(self.handler).parameters)[1:]
        return {name: hints[name] for name in names}


def handlers(routes: Sequence[Route], authenticate: Authenticate) -> Iterator[tuple[str, str, Bound]]:
    """Method, path and handler of everything that aiohttp is to know, also of what is refused."""
    methods: dict[str, list[str]] = {}
    for route in routes:
        handler = bind(route, authenticate)
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            methods.setdefault(route.path, []).append(method)
            yield method, route.path, handler
    # aiohttp's own refusals would tell a client to go on with its body first.
    for path, allowed in methods.items():
        yield "*", path, _refusing(MethodNotAllowed, {"Allow": ", ".join(sorted(allowed))})
    yield "*", "/{anything:.*}", _refusing(RouteNotFound)


def _refusing(error: type[ReportError], headers: Mapping[str, str] | None = None) -> Bound:
    async def refuse(request: web.Request) -> Response:
        raise error(headers=headers)

    return refuse


def bind(route: Route, authenticate: Authenticate) -> Bound:
    """The aiohttp handler of a route: who, then which thing, then what, in the contract's order of checks."""
    takes, ids = route.takes, route.ids
    query_type, body_type = takes.get("query"), takes.get("body")
    takes_key, least_role = route.takes_key, route.least_role

    async def handle(request: web.Request) -> Response:
        try:
            return await admit(request)
        except ReportError as error:
            if route.refusal is None or error.status >= 500:
                raise
            return route.refusal(request, error)

    async def admit(request: web.Request) -> Response:
        if route.opened_by is not None:
            request[CALLER] = await route.opened_by(request)
        elif not (route.public if isinstance(route.public, bool) else route.public(request.app[CONFIG])):
            request[CALLER] = await authenticate(request)
            if route.only and request[CALLER].kind != route.only:
                raise Unauthorized()
            if route.about_all and request[CALLER].projects() is not None:
                raise AllProjectsNeeded()
        if route.upload is None:
            return await answer(request)
        request.app[STORAGE].admit()
        request.app[MEMORY].ensure_room()
        request[PLACE] = request.app[UPLOADS].admit()
        with request[PLACE]:
            decode.check_multipart(request)
            rules = route.upload.rules(request.app[CONFIG].artifacts)
            decode.check_length(request, rules.max_total, rules.too_long)
            return await answer(request)

    async def answer(request: web.Request) -> Response:
        if body_type is not None:
            if is_asking_or_large(request):
                request.app[MEMORY].ensure_room(request.content_length or 0)
            decode.check_encoding(request)
            decode.check_length(request, max_json(request))
        arguments: dict[str, Any] = {name: _path_id(request, name) for name in ids}
        if CALLER in request:
            if request[CALLER].grants:
                await must_exist(request, arguments)  # which also tells in which role
            if request[CALLER].role < (needed := needed_role(request)):
                await must_exist(request, arguments)  # its 404 comes first: whoever has no role there learns nothing
                check_role(request, needed)
        if body_type is not None and is_asking_or_large(request):
            await must_exist(request, arguments)
            await go_on(request)
        try:
            if query_type is not None:
                arguments["query"] = decode.from_text(request.query, query_type)
            key = key_of(request) if takes_key else None
            if body_type is not None:
                with Share(request.app[MEMORY]) as share:
                    raw = await decode.read_body(request, max_json(request), share)
                    arguments["body"] = decode.from_json(raw, body_type)
                if key is not None:
                    request[BODY_HASH] = hashlib.sha256(raw).digest()
        except (Invalid, MalformedBody):
            # A small body is read before anything is asked of the database, and still 404 comes first.
            await must_exist(request, arguments)
            raise
        try:
            response = await route.handler(request, **arguments)
        except ReportError as error:
            if error.status < 500:  # and what a handler finds wrong comes after it, too
                await must_exist(request, arguments)
            raise
        if REPLAYED in response.headers:
            await must_exist(request, arguments)  # it may have been removed since the first reply
        return response

    def max_json(request: web.Request) -> int:
        most = request.app[CONFIG].api.max_json_size
        return most if route.max_json is None else min(most, route.max_json)

    def needed_role(request: web.Request) -> Role:
        if route.admin_if and _switched_on(request, query_type, route.admin_if):
            return Role.ADMIN
        return least_role

    return handle


async def must_exist(request: web.Request, arguments: Mapping[str, Any]) -> None:
    """Raises the noun's own 404 unless the thing in the path exists and the caller may see it.

    From then on the caller is who he is in the project of that thing.
    """
    for name in RESOURCES.keys() & arguments.keys():
        noun, missing = RESOURCES[name]
        caller, query = request[CALLER], getattr(request.app[SQL], noun).project_of
        project_id = await request.app[POOL].fetchval(query, arguments[name], caller.project_id)
        there = caller.within(project_id) if project_id is not None else None
        if there is None:
            raise missing()
        request[CALLER] = there


def check_role(request: web.Request, needed: Role) -> None:
    """Raises RoleTooSmall."""
    if request[CALLER].role < needed:
        raise RoleTooSmall.of(request[CALLER].role, needed)


async def go_on(request: web.Request) -> None:
    """Tells a client that waits for it (RFC 9110, 10.1.1) that its body is wanted."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        transport = request.transport
        if transport is not None:
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def hold_back(request: web.Request) -> None:
    """aiohttp's expect handler: says nothing yet, because go_on does, once the checks are passed."""


def is_asking_or_large(request: web.Request) -> bool:
    """Whether the body is yet to come, or large: then what it is for must exist first."""
    return "Expect" in request.headers or (request.content_length or decode.SMALL_BODY + 1) > decode.SMALL_BODY


def _switched_on(request: web.Request, query_type: Any, name: str) -> bool:
    with suppress(Invalid):  # it is refused later, as any other
        return bool(getattr(decode.from_text(request.query, query_type), name))
    return False


def _path_id(request: web.Request, name: str) -> UUID:
    text = request.match_info[name]
    try:
        found = UUID(text)
    except ValueError:
        raise RESOURCES[name][1]() from None
    # UUID() also takes braces, urn: and no hyphens; a thing has one address.
    if str(found) != text.lower():
        raise RESOURCES[name][1]()
    return found
