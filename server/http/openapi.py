"""The OpenAPI 3.1 document, made from ROUTES and the types that validate requests: it cannot differ from them.

The first paragraph of a handler's docstring is the summary of its operation, the others are its description.
"""

import inspect
import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from server.auth.evidence_links import PATTERN
from server.auth.roles import Role
from server.config import ApiConfig, ArtifactsConfig
from server.http.cursor import CursorPage
from server.http.examples import DEFAULTS, EXAMPLES, PAGING
from server.http.fields import Page
from server.http.repair import MAX_WARNINGS
from server.http.route import Route, Upload
from server.reports.scope import RESOURCES
from server.reports.shards import MAX_SHARDS
from server.storage.paths import THUMB_WIDTHS

ERRORS = {
    400: "Malformed JSON or multipart",
    401: "No valid token or session; at a login, a wrong name or password; at an exchange, a wrong ID token",
    403: "The role is too small or not in all projects, the CSRF token is wrong, a page of another site sent this, or "
    "no rule is for the claims of an ID token",
    404: "Not found, or not visible to the caller",
    409: "Conflicts with stored data, or a request with the same Idempotency-Key is in progress",
    408: "The body was sent too slowly",
    410: "The file of the artifact is missing on the server",
    413: "The body, a file or a field is too large, or there are too many files",
    415: "Not multipart, or an encoding or a file type that is not allowed",
    416: "The range lies outside the file",
    422: "Wrong values; `errors` has the path and the message of each",
    429: "Too many logins or sessions; see Retry-After",
    503: "Overloaded, or the database or the storage is unavailable; see Retry-After",
    507: "The storage is full",
}
_MEDIA = {
    "*/*": {"type": "string", "contentMediaType": "application/octet-stream"},
    "application/json": {"type": "object"},
}
_TEXT = {"type": "string"}
_LIMITS = {
    "format": "format",
    "minimum": "from",
    "maximum": "to",
    "maxLength": "at most characters:",
    "pattern": "like",
}


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >> 20 else f"{count >> 10} KiB"


_ARTIFACTS = ArtifactsConfig()
_FILE = (
    f"By default at most {_size(_ARTIFACTS.max_file_size)} (`[artifacts] max_file_size`), and one of the types "
    f"{', '.join(_ARTIFACTS.allowed_types)} (`[artifacts] allowed_types`)."
)
_FILES = f"By default at most {_ARTIFACTS.batch_max_files} files (`[artifacts] batch_max_files`). Each: {_FILE}"
_JSON_LIMIT = f"By default at most {_size(ApiConfig().max_json_size)} (`[api] max_json_size`)."
_TAGS = {
    "suite_runs": "Runs of a test suite: created first, finished last; everything else belongs to one.",
    "archives": "A run as one file to take along.",
    "test_cases": "Results of test cases. Each belongs to a suite run.",
    "steps": "The steps of a test case, with their screenshots.",
    "bundles": "Whole test case results, many at once.",
    "uploads": "Screenshots, logs, videos and other files of a test case are sent here, one or up to 50 at once.",
    "artifacts": "What is stored about an uploaded file.",
    "downloads": "The bytes of an uploaded file.",
    "thumbs": "Small pictures of uploaded images.",
    "checkpoints": "What a test case checked.",
    "logs": "Console and network logs of a test case.",
    "errors": "Failures with the same text, grouped.",
    "tests": "What one test did in all runs.",
    "shards": "Parts of a run that run side by side, and what of the run is missing.",
    "search": "Finds errors, tests and selectors by their text.",
    "insights": "What the results of a project have in common.",
    "limits": "What this server accepts and offers.",
    "reports": "A test case with everything that belongs to it.",
    "comparisons": "What changed since a test last passed, and since an earlier run.",
    "links": "Evidence links show one run, test case or artifact to people without an account.",
    "shared": "What an evidence link shows. The link itself is the credential.",
    "exchange": "Tokens for CI jobs, in exchange for the ID tokens that GitHub Actions and GitLab give them.",
    "sessions": "Logins of people, and read-only browser sessions of tokens.",
    "audit": "Who did what, when and from where.",
    "health": "For monitoring.",
    "openapi": "This description.",
    "docs": "This page.",
    "static": "The files that pages load.",
}
ALSO = {
    200: "It existed already and is unchanged",
    202: "It is not ready yet: a drawing in its place; see Retry-After",
    206: "The requested range",
    207: "Some files were refused: `failed` lists them, each with its error",
    304: "The cached copy of the client is current",
}
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["detail", "code", "request_id"],
    "properties": {
        "detail": {"type": "string", "description": "What is wrong, as a sentence"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}

_WARNING_SCHEMA = {
    "type": "object",
    "required": ["path", "message"],
    "properties": {
        "path": {"type": "string", "description": "Where in the request, like `steps[2].action`"},
        "message": {"type": "string", "description": "How the value was repaired"},
    },
}
_WARNINGS = {
    "type": "array",
    "items": {"$ref": "#/components/schemas/Warning"},
    "maxItems": MAX_WARNINGS,
    "description": "Values of the request that were repaired; absent when there are none",
}


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The whole document, as values that can be encoded as JSON."""
    types = [kind for route in routes for kind in _types_of(route)]
    schemas, components = _schemas(types)
    _describe_warnings(routes, components)
    known = dict(zip(map(_key, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, known)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "reportd",
            "version": version,
            "description": "A self-hosted test-report server. Send what a test did; read why it failed.",
        },
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "security": [{"bearer": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": _ERROR_SCHEMA, "Warning": _WARNING_SCHEMA},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "reportd_session"},
                "csrf": {"type": "apiKey", "in": "header", "name": "X-CSRF-Token"},
            },
        },
    }


def _types_of(route: Route) -> list[Any]:
    kinds = [*(kind for name, kind in route.takes.items() if name == "body"), route.reply, route.array, *route.others]
    if route.upload is not None:
        kinds += [route.upload.fields, route.upload.known]
    return [kind for kind in kinds if kind is not None and not isinstance(kind, str)]


def _describe_warnings(routes: Sequence[Route], components: dict[str, Any]) -> None:
    """Adds `warnings` to the replies to requests with repaired values. A login has none."""
    for route in routes:
        if ("body" in route.takes or route.upload is not None) and route.access.public is not True:
            components[route.reply.__name__]["properties"]["warnings"] = _WARNINGS


def _operation(route: Route, known: dict[str, Any]) -> dict[str, Any]:
    noun, _, verb = f"{route.handler.__module__.rpartition('.')[2]}.{route.handler.__name__}".partition(".")
    summary, *description = [" ".join(text.split()) for text in (inspect.getdoc(route.handler) or "").split("\n\n")]
    if route.access.public is not True:
        description.append(_needed(route))
    operation: dict[str, Any] = {
        "operationId": f"{noun}_{verb}",
        "tags": [noun],
        "summary": summary,
        "parameters": [*_path_parameters(route), *_query_parameters(route)],
        "responses": _responses(route, known),
    }
    if description:
        operation["description"] = "\n\n".join(description)
    if route.access.public is True:
        operation["security"] = []
    elif route.method != "GET":
        by_cookie: dict[str, list[str]] = {"session": [], "csrf": []}  # of a person; a token's session only reads
        schemes = {"token": [{"bearer": []}], "person": [by_cookie], None: [{"bearer": []}, by_cookie]}
        operation["security"] = schemes[route.access.only]
    if route.takes_key:
        operation["parameters"].append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "A repeated request with the same key gets the first reply again, and the header "
                "Idempotent-Replayed",
                "schema": {"type": "string", "minLength": 1, "maxLength": 200},
            }
        )
    if "body" in route.takes:
        schema = known[_key(route.takes["body"])]
        content = {"schema": schema}
        if (name := route.takes["body"].__name__) in EXAMPLES:
            content["example"] = EXAMPLES[name]
        operation["requestBody"] = {
            "required": True,
            "description": f"At most {_size(route.max_json)}." if route.max_json else _JSON_LIMIT,
            "content": {"application/json": content},
        }
    if route.upload is not None:
        schema = _upload_schema(route.upload)
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
        if route.upload.or_json:
            alone = {"schema": known[_key(route.upload.fields)], "example": EXAMPLES[route.upload.fields.__name__]}
            operation["requestBody"]["content"]["application/json"] = alone
            operation["requestBody"]["description"] = f"{_JSON_LIMIT} {_FILES}"
    return operation


def _needed(route: Route) -> str:
    """What a caller needs for a route, as a sentence."""
    role = f"Needs the role {route.least_role.word}"
    if route.access.only:
        return f"Needs a {route.access.only}'s session." if route.access.only == "person" else "Needs a token."
    if route.access.all_projects:
        return f"{role} in all projects."
    if route.access.own:
        return f"{role} if the caller created it, else {Role.ADMIN.word}."
    return (
        f"{role}; with `{route.access.admin_if}`, the role {Role.ADMIN.word}." if route.access.admin_if else f"{role}."
    )


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    of_id = {"type": "string", "format": "uuid"}
    kinds = {
        "link": {"type": "string", "pattern": f"^{PATTERN}$"},
        "width": {"type": "integer", "enum": list(THUMB_WIDTHS)},
        "index": {"type": "integer", "minimum": 1, "maximum": MAX_SHARDS},
    }
    return [
        {"name": name, "in": "path", "required": True, "schema": of_id if name in RESOURCES else kinds.get(name, _TEXT)}
        for name in re.findall(r"{(\w+)}", route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    query_type = route.takes.get("query")
    if query_type is None:
        return []
    properties = _object_schema(query_type)["properties"]
    paging = {*Page.__struct_fields__, *CursorPage.__struct_fields__}
    names = sorted(properties, key=lambda name: (name in paging, name == "shape"))
    parameters = []
    for name in names:
        more = dict(PAGING.get(name, {}))
        described = {"description": more.pop("description")} if "description" in more else {}
        parameters.append({"name": name, "in": "query", **described, "schema": _without_null(properties[name]) | more})
    return parameters


def _upload_schema(upload: Upload) -> dict[str, Any]:
    schema = _object_schema(upload.fields)
    file: dict[str, Any] = {"type": "string", "contentMediaType": "application/octet-stream"}
    if upload.or_json:
        bundle = {"$ref": f"#/components/schemas/{upload.fields.__name__}"}
        properties = {
            "bundle": {"type": "string", "contentMediaType": "application/json", "contentSchema": bundle},
            "files": {"type": "array", "items": file, "description": _FILES},
        }
        return {"type": "object", "required": ["bundle"], "properties": properties}
    if upload.file_field == "files":
        properties = {"files": {"type": "array", "items": file, "description": _FILES}}
        kinds = [upload.fields, *([upload.known] if upload.known else [])]
        _, components = _schemas(kinds)
        properties["metadata"] = _metadata_field(schema["properties"]["metadata"], components)
    else:
        properties = {"file": {**file, "description": _FILE}}
        properties |= {name: _without_null(kind) for name, kind in schema["properties"].items()}
        for name, value in EXAMPLES["ArtifactEntry"][0].items():
            if name in properties:
                properties[name] = {**properties[name], "examples": [value]}
    return {
        "type": "object",
        "required": [upload.file_field, *schema.get("required", [])],
        "properties": properties,
    }


def _responses(route: Route, known: dict[str, Any]) -> dict[str, Any]:
    success: dict[str, Any] = {"description": "Success"}
    if content := _content(route, known):
        success["content"] = content
    responses = {str(route.status): success}
    for status in route.also:
        responses[str(status)] = {**success, "description": ALSO[status]}
        if status == 304:
            del responses["304"]["content"]
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    page = {"text/html": {"schema": {"type": "string"}}}
    for status, description in ERRORS.items():
        if status in _errors_of(route):
            content = error | page if route.refusal and status < 500 else error
            responses[str(status)] = {"description": description, "content": content}
    return responses


def _content(route: Route, known: dict[str, Any]) -> dict[str, Any]:
    """The content of a success: JSON of one or several types, and other media types."""
    kinds = [kind for kind in (route.reply, *route.others) if kind is not None]
    shapes = [known[_key(kind)] for kind in kinds if not isinstance(kind, str)]
    if route.array is not None:
        shapes.append({"type": "array", "items": known[_key(route.array)]})
    content = {}
    if shapes:
        content["application/json"] = {"schema": {"anyOf": shapes} if len(shapes) > 1 else shapes[0]}
    media = [kind for kind in kinds if isinstance(kind, str)]
    return content | {kind: {"schema": _MEDIA.get(kind, {"type": "string"})} for kind in media}


def _errors_of(route: Route) -> set[int]:
    """The error statuses that a client of this route may get."""
    found = {503, *route.errors}
    if route.access.opened_by is not None:
        found |= {404, 422}
    elif route.access.public is not True:
        found |= {401, 404, 422}
        if route.method != "GET":
            found |= {409}
        if (
            route.least_role > Role.VIEWER
            or route.access.admin_if
            or route.access.all_projects
            or route.access.only == "person"
        ):
            found |= {403}
    if "body" in route.takes or route.upload is not None:
        found |= {400, 408, 413, 415, 422}
    if route.upload is not None:
        found |= {507}
    if "*/*" in (route.reply, *route.others):
        found |= {410, 416}
    return found


def _object_schema(kind: Any) -> dict[str, Any]:
    """The schema of a struct itself, not a reference to it: its properties become parameters or form fields."""
    (schema,), components = _schemas([kind])
    found: dict[str, Any] = components[schema["$ref"].rpartition("/")[2]]
    return found


def _kinds(schema: dict[str, Any]) -> str:
    """Which values a schema allows, as text."""
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    if "anyOf" in schema:
        return " or ".join(map(_kinds, schema["anyOf"]))
    return " ".join(filter(None, [schema["type"], schema.get("format"), schema.get("description")]))


def _metadata_field(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """The text field of a batch, which contains JSON. Its fields are also listed as text: no renderer shows the schema
    of a text's content."""
    table, known = _table(components["ArtifactEntry"]), _table(components["KnownEntry"])
    kinds = [{"$ref": f"#/components/schemas/{name}"} for name in ("ArtifactEntry", "KnownEntry")]
    return {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {**schema, "items": {"anyOf": kinds}},
        "description": "A JSON array with an object for each file. `file_index` counts the files from 0.\n\n"
        f"{table}\n\nFor bytes that the project has already, without a file:\n\n{known}",
        "examples": [json.dumps(EXAMPLES["ArtifactEntry"])],
    }


def _table(fields: dict[str, Any]) -> str:
    rows = []
    for name, kind in fields["properties"].items():
        wanted = _without_null(kind)
        limits = [f"{word} {wanted[key]}" for key, word in _LIMITS.items() if key in wanted]
        text = ", ".join([_kinds(wanted), *limits])
        rows.append(f"| `{name}`{' (required)' if name in fields['required'] else ''} | {text} |")
    return "\n".join(["| field | value |", "|---|---|", *rows])


def _with_defaults(components: dict[str, Any]) -> dict[str, Any]:
    """The schemas, with the value that an absent field gets in place of the null of its type."""
    for name in components.keys() & DEFAULTS.keys():
        for field, value in DEFAULTS[name].items():
            components[name]["properties"][field]["default"] = value
    return components


def _schemas(kinds: list[Any]) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    found, components = msgspec.json.schema_components(
        kinds, schema_hook=_custom, ref_template="#/components/schemas/{name}"
    )
    return found, _with_defaults(components)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without null: queries and forms cannot contain null, they omit the field instead."""
    choices = [choice for choice in schema.get("anyOf", []) if choice != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
    if len(choices) == 1:
        return {**choices[0], **rest}
    if "enum" in rest:
        rest["enum"] = [word for word in rest["enum"] if word is not None]
    return {**rest, "anyOf": choices} if choices else rest


def _custom(kind: Any) -> dict[str, Any]:
    schema: dict[str, Any] = kind.schema
    return schema


def _key(kind: Any) -> str:
    return str(kind)
