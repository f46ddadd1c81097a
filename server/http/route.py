"""A row of the API's table of contents, and how it becomes what aiohttp calls."""

import hashlib
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints
from uuid import UUID

from aiohttp import web

from server.auth.callers import Caller
from server.auth.roles import Role
from server.config import ArtifactsConfig, Config
from server.errors import (
    AllProjectsNeeded,
    Invalid,
    MalformedBody,
    MethodNotAllowed,
    ReportError,
    RoleTooSmall,
    RouteNotFound,
    Unauthorized,
)
from server.http import decode
from server.http.authenticate import authenticate
from server.http.idempotency import REPLAYED, key_of
from server.http.reply import Response
from server.reports.scope import RESOURCES, project_of
from server.services import CALL, SERVICES
from server.uploads.receive import Rules

Handler = Callable[..., Awaitable[Response]]
Bound = Callable[[web.Request], Awaitable[Response]]

# What a caller must be for a request of this method, where its row says nothing else.
_ROLES = {"GET": Role.VIEWER, "POST": Role.UPLOADER, "PUT": Role.UPLOADER, "PATCH": Role.UPLOADER}


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call a route."""

    public: bool | Callable[[Config], bool] = False  # whether no token is needed
    role: Role | None = None  # the least, where the method does not say it
    admin_if: str = ""  # a switch of its query that makes it an admin's
    own: bool = False  # below admin, only for the caller who made the thing in its path; the handler checks
    about_all: bool = False  # shows all projects: refused to callers confined to some
    only: Literal["token", "person"] | None = None  # the one kind of caller that may call it
    opened_by: Callable[[web.Request], Awaitable[Caller]] | None = None  # public to the bearer of an evidence link


@dataclass(frozen=True, slots=True)
class Upload:
    """What a multipart route takes: the file field and the text fields, for its documentation, and its limits."""

    file_field: str
    fields: type
    rules: Callable[[ArtifactsConfig], Rules]


@dataclass(frozen=True, slots=True)
class Incoming:
    """What was decided about a multipart body before it is read."""

    boundary: bytes
    rules: Rules


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. A handler names what it needs: path ids by name, `query`, `body` and `incoming` by type."""

    method: str
    path: str
    handler: Handler
    reply: Any = None  # a dataclass that goes out as JSON, or a media type
    status: int = 200
    access: Access = Access()
    upload: Upload | None = None
    once: bool = True  # a POST that honours an Idempotency-Key
    max_json: int | None = None  # bytes of its JSON body, where that needs far less than `[api] max_json_size`
    refusal: Callable[[web.Request, ReportError], Response] | None = None  # how it says no, where not as JSON
    # For its documentation alone.
    also: tuple[int, ...] = ()  # other statuses of success
    errors: tuple[int, ...] = ()  # statuses of failure that are its own
    array: Any = None  # the element, where S0's clients may read the list as a bare array
    others: tuple[Any, ...] = ()  # what else it may answer with, like `reply`

    @property
    def ids(self) -> list[str]:
        return [name for name in RESOURCES if "{" + name + "}" in self.path]

    @property
    def least_role(self) -> Role:
        return self.access.role or _ROLES.get(self.method, Role.ADMIN)

    @property
    def takes_key(self) -> bool:
        return self.method == "POST" and self.once

    @property
    def takes(self) -> dict[str, Any]:
        """Types of the handler's parameters by name, its request aside."""
        hints = get_type_hints(self.handler, include_extras=True)
        names = list(inspect.signature(self.handler).parameters)[1:]
        return {name: hints[name] for name in names}


def handlers(routes: Sequence[Route]) -> Iterator[tuple[str, str, Bound]]:
    """Method, path and handler of everything that aiohttp is to know, also of what is refused."""
    methods: dict[str, list[str]] = {}
    for route in routes:
        handler = _Bound(route)
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            methods.setdefault(route.path, []).append(method)
            yield method, route.path, handler.handle
    # aiohttp's own refusals would tell a client to go on with its body first.
    for path, allowed in methods.items():
        yield "*", path, _refusing(MethodNotAllowed, {"Allow": ", ".join(sorted(allowed))})
    yield "*", "/{anything:.*}", _refusing(RouteNotFound)


def _refusing(error: type[ReportError], headers: Mapping[str, str] | None = None) -> Bound:
    async def refuse(request: web.Request) -> Response:
        raise error(headers=headers)

    return refuse


class _Bound:
    """The aiohttp handler of a route: who, then which thing, then what, in the contract's order of checks."""

    def __init__(self, route: Route) -> None:
        takes = route.takes
        self._route = route
        self._query_type, self._body_type = takes.get("query"), takes.get("body")
        self._ids, self._takes_key, self._least_role = route.ids, route.takes_key, route.least_role

    async def handle(self, request: web.Request) -> Response:
        try:
            await self._find_caller(request)
            return await self._admit(request)
        except ReportError as error:
            if self._route.refusal is None or error.status >= 500:
                raise
            return self._route.refusal(request, error)

    async def _find_caller(self, request: web.Request) -> None:
        """401, and 403 where it has nothing to do with a thing."""
        access, call = self._route.access, request[CALL]
        if access.opened_by is not None:
            call.caller = await access.opened_by(request)
        elif not (access.public if isinstance(access.public, bool) else access.public(request.app[SERVICES].config)):
            call.caller = await authenticate(request)
            if access.only and call.caller.kind != access.only:
                raise Unauthorized()
            if access.about_all and call.caller.projects() is not None:
                raise AllProjectsNeeded()

    async def _admit(self, request: web.Request) -> Response:
        """503, 415 and 413, before anything else is done for a body."""
        services, call = request.app[SERVICES], request[CALL]
        arguments: dict[str, Any] = {}
        if self._route.upload is not None:
            services.storage.admit()
            services.admission.ensure_memory()
            call.slot = services.admission.upload()
        with call.slot or nullcontext():
            if self._route.upload is not None:
                rules = self._route.upload.rules(services.config.artifacts)
                arguments["incoming"] = Incoming(decode.boundary_of(request), rules)
                decode.check_length(request, rules.max_total, rules.too_long)
            elif self._body_type is not None:
                if is_asking_or_large(request):
                    services.admission.ensure_memory(request.content_length or 0)
                decode.check_encoding(request)
                decode.check_length(request, self._max_json(request))
            arguments |= {name: _path_id(request, name) for name in self._ids}
            await self._check_role(request, arguments)
            return await self._answer(request, arguments)

    async def _check_role(self, request: web.Request, arguments: Mapping[str, Any]) -> None:
        """403, and 404 before it: without a role in the thing's project, a caller learns nothing of it."""
        call = request[CALL]
        if call.caller is None:
            return
        if call.caller.grants:
            await must_exist(request, arguments)  # which also finds the role
        needed = self._least_role
        if self._route.access.admin_if and _switched_on(request, self._query_type, self._route.access.admin_if):
            needed = Role.ADMIN
        if call.caller.role < needed:
            await must_exist(request, arguments)
            check_role(request, needed)

    async def _answer(self, request: web.Request, arguments: dict[str, Any]) -> Response:
        """404 of the resource, then what is wrong with the request's values, then what the handler finds."""
        takes_body = self._body_type is not None or self._route.upload is not None
        if takes_body and is_asking_or_large(request):
            await must_exist(request, arguments)
        try:
            self._read_head(request, arguments)
            if takes_body:
                await go_on(request)
            await self._read_body(request, arguments)
        except (Invalid, MalformedBody):
            # A small body is read before anything is asked of the database, and still 404 comes first.
            await must_exist(request, arguments)
            raise
        try:
            response = await self._route.handler(request, **arguments)
        except ReportError as error:
            if error.status < 500:  # what a handler finds wrong comes after 404, too
                await must_exist(request, arguments)
            raise
        if REPLAYED in response.headers:
            await must_exist(request, arguments)  # it may have been removed since the first reply
        return response

    def _read_head(self, request: web.Request, arguments: dict[str, Any]) -> None:
        """Query and key: what can be refused before a client that waits for it sends its body."""
        if self._query_type is not None:
            arguments["query"] = decode.from_text(request.query, self._query_type)
        if self._takes_key:
            request[CALL].idempotency_key = key_of(request)

    async def _read_body(self, request: web.Request, arguments: dict[str, Any]) -> None:
        """A JSON body. That of an upload is its handler's."""
        if self._body_type is not None:
            with request.app[SERVICES].admission.reserve() as memory:
                raw = await decode.read_body(request, self._max_json(request), memory)
                arguments["body"] = decode.from_json(raw, self._body_type)
            if request[CALL].idempotency_key is not None:
                request[CALL].body_hash = hashlib.sha256(raw).digest()

    def _max_json(self, request: web.Request) -> int:
        most = request.app[SERVICES].config.api.max_json_size
        return most if self._route.max_json is None else min(most, self._route.max_json)


async def must_exist(request: web.Request, arguments: Mapping[str, Any]) -> None:
    """Raises the noun's own 404 unless the thing in the path exists and the caller may see it.

    From then on the call's caller is the one of that thing's project.
    """
    call = request[CALL]
    for name in RESOURCES.keys() & arguments.keys():
        project_id = await project_of(request.app[SERVICES].pool, name, arguments[name], call.scope)
        there = call.known_caller.within(project_id) if project_id is not None else None
        if there is None:
            raise RESOURCES[name][1]()
        call.caller = there


def check_role(request: web.Request, needed: Role) -> None:
    """Raises RoleTooSmall."""
    role = request[CALL].known_caller.role
    if role < needed:
        raise RoleTooSmall.of(role.word, needed.word)


async def go_on(request: web.Request) -> None:
    """Tells a client that waits for it (RFC 9110, 10.1.1) that its body is wanted."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        transport = request.transport
        if transport is not None:
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def hold_back(request: web.Request) -> None:
    """aiohttp's expect handler: sends nothing yet, because go_on does, once the checks are passed."""


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
