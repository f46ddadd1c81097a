"""Route: one endpoint, as server/routes.py lists them; and the checks that run before its handler."""

import hashlib
import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar, get_type_hints
from uuid import UUID

from aiohttp import web

from server.auth.callers import Caller
from server.auth.roles import Role
from server.background import aside, is_large
from server.config import ArtifactsConfig, Config
from server.errors import (
    AllProjectsNeeded,
    Invalid,
    MalformedBody,
    MethodNotAllowed,
    ReportError,
    RoleTooSmall,
    RouteNotFound,
    SessionNeeded,
    TokenNeeded,
)
from server.http import decode, reply
from server.http.authenticate import authenticate
from server.http.idempotency import REPLAYED, key_of
from server.http.reply import Response
from server.reports.scope import RESOURCES, project_of
from server.services import CALL, SERVICES, Refusal
from server.uploads.receive import Rules

T = TypeVar("T")
Handler = Callable[..., Awaitable[Response]]
Bound = Callable[[web.Request], Awaitable[Response]]

# Bytes: the fields of all forms are short, and whoever sends one may not have signed in.
_MAX_FORM_SIZE = 16 << 10
_ID = re.compile("[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")

# The minimum role for each method, unless a route names another; for other methods it is admin.
_ROLES = {"GET": Role.VIEWER, "POST": Role.UPLOADER, "PUT": Role.UPLOADER, "PATCH": Role.UPLOADER}


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call a route."""

    public: bool | Callable[[Config], bool] = False  # whether the caller needs no token or session
    role: Role | None = None  # the minimum role, if it is not the one of the method
    admin_if: str = ""  # a boolean query parameter that raises the minimum role to admin
    own: bool = False  # below admin, callers may only act on what they created; the handler checks it
    all_projects: bool = False  # covers all projects: refused to callers limited to some
    only: Literal["token", "person"] | None = None  # the only kind of caller allowed
    opened_by: Callable[[web.Request], Awaitable[Caller]] | None = None  # authenticates by an evidence link in the path


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart route's file field and text fields, for the OpenAPI document, and its limits."""

    file_field: str
    fields: type
    rules: Callable[[ArtifactsConfig], Rules]
    or_json: bool = False  # whether `fields` may also be sent as JSON, without files
    known: type | None = None  # an entry of `metadata` for bytes that the project has already


@dataclass(frozen=True, slots=True)
class Incoming:
    """The boundary and the limits of a multipart body, decided before it is read. `is_json`: it is JSON instead."""

    boundary: bytes
    rules: Rules

    @property
    def is_json(self) -> bool:
        return not self.boundary


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. Its handler is called with the parameters that it declares: path ids by name, `query` and `body`
    decoded into their annotated types, `form` for the fields of an HTML form, and `incoming` for an upload.
    """

    method: str
    path: str
    handler: Handler
    reply: Any = None  # the dataclass of its JSON, or a media type
    status: int = 200
    access: Access = Access()
    upload: Upload | None = None
    once: bool = True  # whether a POST accepts an Idempotency-Key
    reading: bool = False  # whether its handler only reads, by Call.reads, and so much that a standby should do it
    max_json: int | None = None  # limit of its JSON body in bytes, if lower than `[api] max_json_size`
    refusal: Refusal | None = None  # makes the replies of errors, if they are not JSON
    # Only for the OpenAPI document:
    also: tuple[int, ...] = ()  # further success statuses
    errors: tuple[int, ...] = ()  # further error statuses
    array: Any = None  # the type of an element, if the list also has an array form
    others: tuple[Any, ...] = ()  # further kinds of replies, each like `reply`

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
        """Types of the handler's parameters by name, without the request."""
        hints = get_type_hints(self.handler, include_extras=True)
        names = list(inspect.signature(self.handler).parameters)[1:]
        return {name: hints[name] for name in names}


def handlers(routes: Sequence[Route], refusal: Refusal) -> Iterator[tuple[str, str, Bound]]:
    """Method, path and handler of everything to register with aiohttp, also of the 404 and 405 replies, which `refusal`
    makes."""
    by_path: dict[str, dict[str, Bound]] = {}
    for route in routes:
        handler = _Bound(route)
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            by_path.setdefault(route.path, {})[method] = handler.handle
    # All of a path in turn, so that aiohttp compares it with the path of a request once.
    for path, methods in by_path.items():
        for method, handle in methods.items():
            yield method, _pattern(path), handle
        # aiohttp's own 404 and 405 send 100 Continue first, and then the client sends its whole body for nothing.
        yield "*", _pattern(path), _raising(refusal, MethodNotAllowed, {"Allow": ", ".join(sorted(methods))})
    yield "*", "/{anything:.*}", _raising(refusal, RouteNotFound)


def _pattern(path: str) -> str:
    """The path for aiohttp, whose own pattern refuses braces in values: a project's name may have them."""
    return re.sub(r"{(\w+)}", r"{\1:[^/]+}", path)


def _raising(refusal: Refusal, error: type[ReportError], headers: Mapping[str, str] | None = None) -> Bound:
    async def refuse(request: web.Request) -> Response:
        request[CALL].refusal = refusal
        raise error(headers=headers)

    return refuse


class _Bound:
    """The aiohttp handler of a route: checks the caller, then the resource in the path, then the request's values."""

    def __init__(self, route: Route) -> None:
        takes = route.takes
        self._route = route
        self._query_type, self._body_type, self._form_type = takes.get("query"), takes.get("body"), takes.get("form")
        self._ids, self._takes_key, self._least_role = route.ids, route.takes_key, route.least_role

    async def handle(self, request: web.Request) -> Response:
        request[CALL].refusal = self._route.refusal
        arguments: dict[str, Any] = {}
        if self._form_type is not None:
            arguments["form"] = await _read_form(request, self._form_type)
        await self._find_caller(request)
        return await self._admit(request, arguments)

    async def _find_caller(self, request: web.Request) -> None:
        """Authenticate. Raises Unauthorized, AllProjectsNeeded, or what `opened_by` raises for an evidence link."""
        access, call = self._route.access, request[CALL]
        if access.opened_by is not None:
            call.caller = await access.opened_by(request)
        elif not (access.public if isinstance(access.public, bool) else access.public(request.app[SERVICES].config)):
            call.caller = await authenticate(request)
            call.is_admin = call.caller.role == Role.ADMIN  # the highest of their roles
            if access.only and call.caller.kind != access.only:
                raise SessionNeeded() if access.only == "person" else TokenNeeded()
            if access.all_projects and call.caller.projects() is not None:
                raise AllProjectsNeeded()

    async def _admit(self, request: web.Request, arguments: dict[str, Any]) -> Response:
        """Check overload (503), content type (415) and size (413) before the body is read; then continue."""
        services, call = request.app[SERVICES], request[CALL]
        if self._route.upload is not None:
            services.storage.admit()
            services.admission.ensure_memory()
            call.slot = services.admission.upload()
        with call.slot or nullcontext():
            if self._route.upload is not None:
                arguments["incoming"] = self._incoming(request, self._route.upload)
            elif self._body_type is not None:
                if body_pending_or_large(request):
                    services.admission.ensure_memory(request.content_length or 0)
                decode.check_encoding(request)
                decode.check_length(request, self._max_json(request))
            ids = {name: _path_id(request, name) for name in self._ids}
            arguments |= ids
            needed = self._needed_role(request)
            await self._check_role(request, arguments, needed)
            call.check_again = partial(check_again, request, ids, needed)
            return await self._answer(request, arguments)

    def _incoming(self, request: web.Request, upload: Upload) -> Incoming:
        rules = upload.rules(request.app[SERVICES].config.artifacts)
        if upload.or_json and request.content_type == "application/json":
            decode.check_encoding(request)
            decode.check_length(request, self._max_json(request))
            return Incoming(b"", rules)
        boundary = decode.boundary_of(request)
        decode.check_length(request, rules.max_total, rules.too_long)
        return Incoming(boundary, rules)

    def _needed_role(self, request: web.Request) -> Role:
        access = self._route.access
        if access.admin_if and _is_set(request, self._query_type, access.admin_if):
            return Role.ADMIN
        return self._least_role

    async def _check_role(self, request: web.Request, arguments: Mapping[str, Any], needed: Role) -> None:
        """403, or 404 first: without a role in its project, a caller must not learn that a resource exists."""
        call = request[CALL]
        if call.caller is None:
            return
        if call.caller.grants:
            await must_exist(request, arguments)  # which also sets the role that the caller has in that project
        if call.caller.role < needed:
            await must_exist(request, arguments)
            check_role(request, needed)

    async def _answer(self, request: web.Request, arguments: dict[str, Any]) -> Response:
        """The handler's reply. A missing resource (404) takes precedence over wrong values and the handler's errors."""
        takes_body = self._body_type is not None or self._route.upload is not None
        if takes_body and body_pending_or_large(request):
            await must_exist(request, arguments)
        try:
            self._read_head(request, arguments)
            if takes_body:
                await send_continue(request)
            await self._read_body(request, arguments)
        except (Invalid, MalformedBody):
            # A small body is decoded before the resource is looked up, which saves a query, and 404 still comes first.
            await must_exist(request, arguments)
            raise
        call = request[CALL]
        if self._route.reading:
            call.reads = request.app[SERVICES].reads()
        try:
            response = await call.reads.attempt(partial(self._route.handler, request, **arguments))
        except ReportError as error:
            if error.status < 500:  # 404 comes first
                await must_exist(request, arguments)
            raise
        finally:
            if call.body is not None and is_large(call.body_size):
                await decode.release(call.body)
        if REPLAYED in response.headers:
            await must_exist(request, arguments)  # the resource may have been deleted since the first reply
        # Also to a replayed reply, which is stored without them: the same body has the same warnings.
        if call.warnings and response.status < 300:
            reply.add_warnings(response, call.warnings)
        return response

    def _read_head(self, request: web.Request, arguments: dict[str, Any]) -> None:
        """Decode the query and the Idempotency-Key: errors in them are reported before 100 Continue is sent."""
        if self._query_type is not None:
            arguments["query"] = decode.from_text(request.query, self._query_type)
        if self._takes_key:
            request[CALL].idempotency_key = key_of(request)

    async def _read_body(self, request: web.Request, arguments: dict[str, Any]) -> None:
        """Read and decode a JSON body. The handler of an upload reads the body itself."""
        if self._body_type is not None:
            call = request[CALL]
            # Until the reply is sent: what is made of a large body takes as much memory as the body, or more, while the
            # request waits for a row lock or for a connection to the database.
            memory = call.until_sent.enter_context(request.app[SERVICES].admission.reserve())
            raw = await decode.read_body(request, self._max_json(request), memory)
            call.body = arguments["body"] = await aside(len(raw), decode.from_json, raw, self._body_type, call.warnings)
            call.body_size = len(raw)
            await call.still_allowed(request.app[SERVICES].pool)
            if call.idempotency_key is not None:
                call.body_hash = (await aside(len(raw), hashlib.sha256, raw)).digest()

    def _max_json(self, request: web.Request) -> int:
        most = request.app[SERVICES].config.api.max_json_size
        return most if self._route.max_json is None else min(most, self._route.max_json)


async def _read_form(request: web.Request, wanted: type[T]) -> T:
    """The fields of an HTML form. They are read before the caller is looked up: its CSRF token is one of them."""
    decode.check_length(request, _MAX_FORM_SIZE)
    await send_continue(request)
    with request.app[SERVICES].admission.reserve() as memory:
        fields = decode.form_of(request, await decode.read_body(request, _MAX_FORM_SIZE, memory))
    request[CALL].csrf_token = fields.pop("csrf_token", "")
    return decode.from_text(fields, wanted)


async def must_exist(request: web.Request, arguments: Mapping[str, Any], where: Any = None) -> None:
    """Raises the 404 of the resource in the path unless it exists and the caller may see it.

    Narrows the call's caller to the resource's project, and so to the role in that project. `where`: a connection, by
    default one of the pool.
    """
    call = request[CALL]
    for name in RESOURCES.keys() & arguments.keys():
        project_id = await project_of(where or request.app[SERVICES].pool, name, arguments[name], call.scope)
        narrowed = call.known_caller.within(project_id) if project_id is not None else None
        if narrowed is None:
            raise RESOURCES[name][1]()
        call.caller = narrowed


def check_role(request: web.Request, needed: Role) -> None:
    """Raises RoleTooSmall unless the caller has at least the role `needed`."""
    role = request[CALL].known_caller.role
    if role < needed:
        raise RoleTooSmall.of(role.word, needed.word)


async def check_again(request: web.Request, ids: Mapping[str, UUID], needed: Role, where: Any) -> None:
    """Check the caller of a request in progress again, in the database: that the token or session is still valid, and
    its role in the project of the resources `ids`. Raises Unauthorized, RoleTooSmall, or a resource's 404."""
    call = request[CALL]
    was = call.caller
    if was is None:
        return
    caller: Caller | None = await authenticate(request, where)
    if caller is not None and not ids and not was.grants:  # restricted to the project of what the handler creates
        caller = caller.within(was.project_id) if was.project_id else None if caller.projects() else caller
    if caller is None:
        raise RoleTooSmall("Your roles have changed since this request began. Send it again.")
    call.caller = caller
    await must_exist(request, ids, where)
    check_role(request, needed)


async def send_continue(request: web.Request) -> None:
    """Send 100 Continue to a client that waits for it before it sends the body (RFC 9110, 10.1.1)."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        transport = request.transport
        if transport is not None:
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def defer_continue(request: web.Request) -> None:
    """aiohttp's expect handler, which sends nothing: send_continue does, after the checks."""


def body_pending_or_large(request: web.Request) -> bool:
    """Whether the client waits for 100 Continue, or the body is large. Then the resource is looked up before the body
    is read: otherwise a client sends it only to get a 404."""
    return "Expect" in request.headers or (request.content_length or decode.SMALL_BODY + 1) > decode.SMALL_BODY


def _is_set(request: web.Request, query_type: Any, name: str) -> bool:
    with suppress(Invalid):  # an invalid query is refused later, by _read_head
        return bool(getattr(decode.from_text(request.query, query_type), name))
    return False


def _path_id(request: web.Request, name: str) -> UUID:
    text = request.match_info[name]
    # UUID() also accepts braces, `urn:uuid:` and no hyphens. A resource has only one address.
    if not _ID.fullmatch(text):
        raise RESOURCES[name][1]()
    return UUID(text)
