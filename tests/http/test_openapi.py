"""The OpenAPI 3.1 document of the API: it is valid, real replies conform to it, and /docs shows it."""

import re
from datetime import datetime
from html.parser import HTMLParser
from uuid import UUID

import msgspec
import orjson
import pytest
from aiohttp import FormData

from server import __version__
from server.auth.issuers import Issuers
from server.http.examples import DEFAULTS
from server.http.openapi import document
from server.routes import ROUTES
from server.services import SERVICES
from server.trust import CiRule
from server.viewer import assets
from tests import provider as providers
from tests.api.test_checkpoints import SENT as CHECKPOINT
from tests.api.test_logs import CONSOLE, NETWORK
from tests.api.test_steps import a_step
from tests.api.test_suite_runs import DESCRIBED
from tests.api.test_test_cases import SENT as CASE
from tests.makers import png
from tests.people import LOGIN, PASSWORD

BASE = "/api/v1/reports"
EXCHANGE = "/api/v1/auth/exchange"
# The keywords that schemas may use. `problems` would ignore any other keyword, so a wrong value would pass.
KNOWN_KEYWORDS = {
    "$ref",
    "type",
    "enum",
    "anyOf",
    "items",
    "properties",
    "required",
    "additionalProperties",
    "format",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
    "title",
    "description",
    "default",
    "examples",
    "contentMediaType",
    "contentSchema",
}
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


@pytest.fixture(scope="module")
def api():
    return document(ROUTES, __version__)


def resolved(api, schema):
    while "$ref" in schema:
        head, *steps = schema["$ref"].split("/")
        assert head == "#"
        schema = api
        for step in steps:
            schema = schema[step]
    return schema


def problems(api, schema, value, path="$"):
    """The errors of a value against a schema. Implements only the part of JSON Schema that the document uses."""
    schema = resolved(api, schema)
    if "anyOf" in schema:
        found = [problems(api, choice, value, path) for choice in schema["anyOf"]]
        return [] if [] in found else [f"{path}: none of the choices: {found}"]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{path}: {value!r} is not one of {schema['enum']}"]
    kind = schema.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind not in ("boolean",))):
        return [f"{path}: {value!r} is no {kind}"]
    found = []
    if isinstance(value, dict):
        known = schema.get("properties", {})
        found += [f"{path}: {name} is missing" for name in schema.get("required", []) if name not in value]
        rest = schema.get("additionalProperties", not known)
        for name, child in value.items():
            if name in known or isinstance(rest, dict):
                found += problems(api, known.get(name, rest), child, f"{path}.{name}")
            elif not rest:  # a reply must not have fields that are not described
                found.append(f"{path}: {name} is not described")
    if isinstance(value, list):
        for number, child in enumerate(value):
            found += problems(api, schema.get("items", {}), child, f"{path}[{number}]")
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{path}: {len(value)} items")
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            found.append(f"{path}: {len(value)} characters")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            found.append(f"{path}: does not look like {schema['pattern']}")
        found += misshapen(schema.get("format"), value, path)
    elif isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append(f"{path}: {value} is out of range")
    return found


def misshapen(kind, value, path):
    try:
        if kind == "uuid":
            UUID(value)
        elif kind == "date-time":
            assert datetime.fromisoformat(value).tzinfo and value.endswith("Z")
    except (ValueError, AssertionError):
        return [f"{path}: {value!r} is no {kind}"]
    return []


def schemas_of(node):
    """All schemas in the document, including nested ones."""
    if isinstance(node, dict):
        for key, child in node.items():
            if key in ("schema", "items", "contentSchema") or (
                key == "additionalProperties" and isinstance(child, dict)
            ):
                yield child
            elif key in ("schemas", "properties") and isinstance(child, dict):
                yield from child.values()
            elif key == "anyOf":
                yield from child
            yield from schemas_of(child)
    elif isinstance(node, list):
        for child in node:
            yield from schemas_of(child)


# --- the document ----------------------------------------------------------------------------------------------


def test_problems_finds_wrong_values(api):
    """Checks the validator of the tests below: otherwise they could pass on wrong replies."""
    schema = {"$ref": "#/components/schemas/SuiteRunPage"}
    run = {
        **DESCRIBED,
        "id": "01a1f892-eab2-7fe1-91f7-2094d01c4c63",
        "project": "default",
        "run_key": None,
        **dict.fromkeys(["created_at", "updated_at", "finished_at"], "2026-01-24T12:00:00.000Z"),
        "test_counts": dict.fromkeys(["total", "passed", "failed", "skipped", "pending"], 0),
        "total_duration_ms": 0,
    }
    assert problems(api, schema, {"items": [run], "next_cursor": None}) == []
    for wrong in [
        {"id": "x"},
        {"id": None},
        {"status": "Broken"},
        {"tags": [1]},
        {"test_counts": {"total": "0"}},
        {"total_duration_ms": True},
        {"new": 1},
    ]:
        assert len(problems(api, schema, {"items": [{**run, **wrong}], "next_cursor": None})) >= 1, wrong
    del run["name"]
    assert problems(api, schema, {"items": [run], "next_cursor": None}) == ["$.items[0]: name is missing"]
    assert problems(api, {"type": "string", "maxLength": 2}, "abc") and problems(api, {"maximum": 2}, 3)
    assert problems(api, {"format": "date-time"}, "2026-01-24T12:00:00.000") and problems(api, {"format": "uuid"}, "x")
    assert problems(api, {"pattern": "^a$"}, "b") and problems(api, {"type": "array", "maxItems": 1}, [1, 2])


def test_every_route_is_described(api):
    described = {(method.upper(), path) for path, operations in api["paths"].items() for method in operations}
    assert described == {(route.method, route.path) for route in ROUTES}
    operations = [operation for path in api["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for operation in operations:
        assert operation["summary"] and "`" not in operation["operationId"]
        assert operation["responses"] and operation["tags"]


def test_the_document_is_valid_openapi(api):
    assert api["openapi"].startswith("3.1.") and api["info"]["title"] and api["info"]["version"] == __version__
    for path, operations in api["paths"].items():
        wanted = set(re.findall(r"{(\w+)}", path))
        for operation in operations.values():
            parameters = operation["parameters"]
            keys = [(parameter["in"], parameter["name"]) for parameter in parameters]
            assert len(set(keys)) == len(keys)
            assert {name for location, name in keys if location == "path"} == wanted
            assert all(p["required"] for p in parameters if p["in"] == "path")
            assert all("schema" in p and p["in"] in ("path", "query", "header") for p in parameters)
            for status, response in operation["responses"].items():
                assert re.fullmatch("[1-5][0-9][0-9]", status) and response["description"]
            schemes = [name for entry in operation.get("security", api["security"]) for name in entry]
            assert set(schemes) <= api["components"]["securitySchemes"].keys()


def test_every_reference_resolves_and_every_keyword_is_known(api):
    found = list(schemas_of(api))
    assert len(found) > 300
    for schema in found:
        assert schema.keys() <= KNOWN_KEYWORDS, schema
        assert isinstance(resolved(api, schema), dict)
        assert schema.get("type", "null") in TYPES
        assert set(schema.get("required", [])) <= schema.get("properties", {}).keys()
    used = {schema["$ref"] for schema in found if "$ref" in schema}
    made = {f"#/components/schemas/{name}" for name in api["components"]["schemas"]}
    # Queries and forms are described inline. No other schema may be unused.
    assert used <= made
    assert {name for name in made - used if not re.search("(Filter|Query|Fields|Form|Entry)$", name)} == set()


def test_limits_and_enums_are_those_of_the_validation(api):
    schemas = api["components"]["schemas"]
    steps = schemas["TypedSteps"]["properties"]["steps"]
    assert steps["maxItems"] == 10_000
    step = resolved(api, steps["items"])
    assert {"step_number", "step_type"} <= set(step["required"])
    assert step["properties"]["step_number"] == {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
    words = next(choice["enum"] for choice in step["properties"]["status"]["anyOf"] if "enum" in choice)
    assert set(words) == {"Passed", "Failed", "Skipped", "Pending"}
    assert schemas["NewSuiteRun"]["properties"]["name"]["maxLength"] == 500


def test_times_in_replies_are_described_as_times(api):
    undescribed = [
        f"{name}.{field}"
        for name, schema in api["components"]["schemas"].items()
        for field, kind in schema["properties"].items()
        if field.endswith("_at") and "date-time" not in str(kind)
    ]
    assert undescribed == []


def test_public_routes_need_no_token_and_posts_take_a_key(api):
    without_key = [f"{BASE}/links", f"{BASE}/artifacts/missing"]
    for route in ROUTES:
        operation = api["paths"][route.path][route.method.lower()]
        assert (operation.get("security") == []) == (route.access.public is True)
        takes_key = any(parameter["name"] == "Idempotency-Key" for parameter in operation["parameters"])
        assert takes_key == (route.method == "POST" and route.path.startswith(BASE) and route.path not in without_key)
        assert ("requestBody" in operation) == ("body" in route.takes or route.upload is not None)


# --- examples and defaults -------------------------------------------------------------------------------------


def bodies(api):
    """Each JSON request body: method, path, schema and example."""
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                yield method, path, content["application/json"]["schema"], content["application/json"]["example"]


def test_every_json_body_has_a_valid_example_and_a_limit(api):
    found = list(bodies(api))
    assert len(found) >= 13
    for method, path, schema, example in found:
        assert problems(api, schema, example) == [], (method, path)
        assert "At most" in api["paths"][path][method]["requestBody"]["description"].replace("at most", "At most")


async def test_the_server_accepts_the_examples(client, api, make_case, make_user, make_run):
    run = await make_run()
    case = await make_case(run=run)
    (step,) = (
        await (
            await client.post(f"{BASE}/test-case-results/{case}/steps/bulk", json={"steps": [{"step_number": 99}]})
        ).json()
    )["steps"]
    sent = await (await client.post(f"{BASE}/test-case-results/{case}/artifacts", data=a_file(1))).json()
    real = {"screenshot_artifact_id": sent["id"], "test_case_result_id": case}
    for method, path, _, example in sorted(bodies(api), key=lambda body: body[1].endswith("/steps")):
        if path in (LOGIN, EXCHANGE):
            continue
        url = (
            path.replace("{suite_id}", run)
            .replace("{case_id}", await make_case() if method == "post" else case)
            .replace("{step_id}", step["id"])
            .replace("{index}", "1")
        )
        body = {name: real.get(name, value) for name, value in example.items()}
        reply = await client.request(method, url, json=body)
        assert reply.status in (200, 201), (method, path, await reply.text())


async def test_the_example_of_a_batch_is_accepted_and_its_fields_are_described(client, api, case_url):
    schema = api["paths"][f"{CASE_PATH}/artifacts/batch"]["post"]["requestBody"]["content"]["multipart/form-data"][
        "schema"
    ]
    metadata = schema["properties"]["metadata"]
    for name in api["components"]["schemas"]["ArtifactEntry"]["properties"]:
        assert f"| `{name}`" in metadata["description"]
    assert "`file_index` (required) | integer" in metadata["description"]
    assert "screenshot" in metadata["description"] and "50 files" in schema["properties"]["files"]["description"]
    form = FormData({"metadata": metadata["examples"][0]})
    form.add_field("files", png(8, 8, 1), filename="a.png")
    form.add_field("files", b"log", filename="a.log")
    reply = await client.post(f"{await case_url()}/artifacts/batch", data=form)
    assert reply.status == 201, await reply.text()


async def test_the_documented_defaults_are_those_that_are_stored(client, api, make_run, make_case):
    run = await (await client.post(f"{BASE}/suite-runs", json={"name": "x"})).json()
    test_case = await (await client.post(f"{BASE}/suite-runs/{run['id']}/test-cases", json={"name": "x"})).json()
    url = f"{BASE}/test-case-results/{test_case['id']}"
    found = {"NewSuiteRun": run, "NewTestCase": test_case}
    for name, path, field, entry in [
        ("NewStep", "steps/bulk", "steps", {"step_number": 1}),
        ("NewCheckpoint", "checkpoints", "checkpoints", {"checkpoint_number": 1, "name": "x"}),
        ("NewConsoleEntry", "console-logs", "entries", {"level": "info", "message": "x"}),
        ("NewNetworkEntry", "network-logs", "entries", {"method": "GET", "url": "x"}),
    ]:
        assert (await client.post(f"{url}/{path}", json={field: [entry]})).status == 201
        listed = await (await client.get(f"{url}/{path.removesuffix('/bulk')}?shape=object")).json()
        found[name] = (listed.get("items") or listed.get("steps"))[0]
    found["ArtifactFields"] = await (await client.post(f"{url}/artifacts", data=a_file(1))).json()
    found |= {"TypedStep": found["NewStep"], "ArtifactEntry": found["ArtifactFields"]}
    for name, defaults in DEFAULTS.items():
        described = api["components"]["schemas"][name]["properties"]
        assert {field: described[field]["default"] for field in defaults} == defaults
        if name != "NewLink":  # its reply has the time at which it expires: tests/api/test_links.py
            assert {field: found[name][field] for field in defaults} == defaults, name
    parameters = api["paths"][f"{BASE}/suite-runs/{{suite_id}}/test-cases"]["get"]["parameters"]
    listed = await (await client.get(f"{BASE}/suite-runs/{run['id']}/test-cases")).json()
    described = {entry["name"]: entry["schema"].get("default") for entry in parameters if entry["in"] == "query"}
    assert (described["page"], described["per_page"]) == (listed["page"], listed["per_page"])


# --- replies ---------------------------------------------------------------------------------------------------


class Checked:
    """Sends requests and compares each reply with its description in the document."""

    def __init__(self, client, api):
        self.client, self.api, self.seen, self.wrong = client, api, set(), []

    async def __call__(self, method, path, status, *ids, query="", **sent):
        url = re.sub(r"{\w+}", "%s", path) % ids + query
        reply = await self.client.request(method, url, **sent)
        assert reply.status == status, (method, url, await reply.text())
        self.seen.add((method, path))
        described = self.api["paths"][path][method.lower()]["responses"]
        body = await reply.json() if reply.content_type == "application/json" else None
        if body is not None and await reply.read() != orjson.dumps(body):
            self.wrong.append(f"{method} {path} {status}: spaces between the values of the JSON")
        if str(status) not in described:
            self.wrong.append(f"{method} {path}: {status} is not described")
        elif "content" in described[str(status)]:
            contents = described[str(status)]["content"]
            media = next((kind for kind in (reply.content_type, "*/*") if kind in contents), next(iter(contents)))
            content = contents[media]
            if media == "application/json":
                found = problems(self.api, content["schema"], body)
                self.wrong += [f"{method} {path} {status}: {problem}" for problem in found]
            elif media not in (reply.content_type, "*/*"):
                self.wrong.append(f"{method} {path}: {media} is described, {reply.content_type} is sent")
        elif await reply.read():
            self.wrong.append(f"{method} {path} {status}: a body is sent and none described")
        return body

    def unexpected(self, known):
        """The problems found, without the known ones."""
        return [line for line in self.wrong if line not in known]


RUN, CASE_PATH, ARTIFACT = f"{BASE}/suite-runs/{{suite_id}}", f"{BASE}/test-case-results/{{case_id}}", "{artifact_id}"
THUMB = f"thumbs/{ARTIFACT}-{{width}}.webp"


def a_file(seed, **fields):
    form = FormData()
    for key, value in {"artifact_type": "screenshot", **fields}.items():
        form.add_field(key, str(value))
    form.add_field("file", png(8, 8, seed), filename="x.png")
    return form


def a_batch(*files):
    form = FormData()
    entries = ",".join(f'{{"file_index": {number}, "artifact_type": "screenshot"}}' for number in range(len(files)))
    form.add_field("metadata", f"[{entries}]")
    for number, content in enumerate(files):
        form.add_field("files", content, filename=f"{number}.png")
    return form


async def call_error_routes(call, run):
    """With a failure that has an error, and one that says nothing."""
    failed = {"name": "fails", "status": "Failed"}
    await call("POST", f"{RUN}/test-cases/bulk", 201, run, json={"test_cases": [failed, {**failed, **CASE}]})
    await call("GET", f"{RUN}/errors", 200, run)
    listed = await call("GET", f"{BASE}/errors", 200)
    await call("GET", f"{BASE}/errors/{{fingerprint}}", 200, listed["items"][0]["fingerprint"])
    await call("GET", f"{BASE}/tests", 200, query="?test_id=fails")
    for query in ("?q=fails", "?q=e&in=errors", "?q=fails&in=tests&project=default"):
        await call("GET", f"{BASE}/search", 200, query=query)
    for show in ("flaky", "slow", "selectors", "trends"):
        await call("GET", f"{BASE}/insights", 200, query=f"?show={show}&days=7")


async def call_every_route(call, person, services):
    """Call every route, with replies that have all fields and with empty replies."""
    await call("GET", f"{BASE}/suite-runs", 200)
    full = {**DESCRIBED, "run_key": "k", "project": "default"}
    run = (await call("POST", f"{BASE}/suite-runs", 201, json=full))["id"]
    await call("POST", f"{BASE}/suite-runs", 201, json={"name": "x"})
    await call("GET", f"{BASE}/suite-runs", 200, query="?limit=1")
    await call("GET", RUN, 200, run)
    await call("PATCH", RUN, 200, run, json={"branch": None, "finished_at": "2026-01-24T12:00:00Z"})
    await call("GET", f"{RUN}/test-cases", 200, run)
    await call("POST", f"{RUN}/test-cases", 201, run, json={"name": "empty"})
    bulk = await call("POST", f"{RUN}/test-cases/bulk", 201, run, json={"test_cases": [CASE, {"name": "x"}]})
    case, empty = (item["id"] for item in bulk["test_cases"])
    ref = "7b0c4b8e-30a5-4b0f-9a53-0f1f6a7f2c11"
    bundled = {"client_ref": ref, "test": {"name": "bundled"}, "steps": [a_step(1)]}
    bundled["artifacts"] = [{"file_index": 0, "artifact_type": "screenshot", "step_number": 1}]
    for status, content in [(201, png(8, 8, 9)), (207, b""), (207, b"GIF89a")]:
        form = FormData({"bundle": orjson.dumps({"tests": [bundled]}).decode()})
        form.add_field("files", content, filename="0.png")
        await call("POST", f"{RUN}/bundle", status, run, data=form)
    await call("POST", f"{RUN}/bundle", 201, run, json={"tests": [{**bundled, "artifacts": []}]})
    await call("GET", f"{RUN}/test-cases", 200, run)
    await call("GET", CASE_PATH, 200, case)
    await call("PATCH", CASE_PATH, 200, case, json={"browser": None})
    await call("GET", f"{CASE_PATH}/report", 200, empty)

    steps = {"steps": [a_step(1, status="Failed"), a_step(2, iteration_number=2)]}
    await call("POST", f"{CASE_PATH}/steps", 201, case, json=steps)
    await call("POST", f"{CASE_PATH}/steps/bulk", 201, case, json={"steps": [{"step_number": 5}]})
    await call("PUT", f"{CASE_PATH}/steps", 200, case, json={"steps": [a_step(1)]})
    for seed in (1, 1):
        sent = await call("POST", f"{CASE_PATH}/artifacts", 201, case, data=a_file(seed, step_number=1))
    await call("POST", f"{CASE_PATH}/artifacts/batch", 201, case, data=a_batch(png(8, 8, 2), png(8, 8, 3)))
    await call("POST", f"{CASE_PATH}/artifacts/batch", 207, case, data=a_batch(png(8, 8, 4), b""))
    for query in ("", "?include_artifacts=false", "?shape=array"):
        listed = await call("GET", f"{CASE_PATH}/steps", 200, case, query=query)
    link = {"screenshot_artifact_id": sent["id"]}
    await call("PATCH", f"{BASE}/steps/{{step_id}}", 200, listed[0]["id"], json=link)
    await call("PATCH", f"{BASE}/steps/{{step_id}}", 200, listed[1]["id"], json={"screenshot_artifact_id": None})
    for query in ("", "?shape=array", "?per_page=1&page=9"):
        await call("GET", f"{CASE_PATH}/artifacts", 200, case, query=query)
    content = {name: sent[name] for name in ("checksum", "file_size")}
    await call("POST", f"{BASE}/artifacts/missing", 200, json={"files": [content]})
    known = [{"known": True, **content, "file_name": f"{n}.png", "artifact_type": "screenshot"} for n in range(2)]
    lost = {**known[0], "checksum": "0" * 64}
    for status, entries in [(201, known), (207, [*known, lost])]:
        form = FormData({"metadata": orjson.dumps(entries).decode()}, default_to_multipart=True)
        await call("POST", f"{CASE_PATH}/artifacts/batch", status, case, data=form)
    await call("GET", f"{BASE}/artifacts/{ARTIFACT}", 200, sent["id"])
    await call("GET", f"{BASE}/artifacts/{ARTIFACT}/download", 200, sent["id"])
    await call("GET", f"/{THUMB}", 200, sent["id"], 320)

    checkpoints = [{**CHECKPOINT, "screenshot_artifact_id": sent["id"]}, {"checkpoint_number": 1, "name": "x"}]
    await call("POST", f"{CASE_PATH}/checkpoints", 201, case, json={"checkpoints": checkpoints})
    await call("GET", f"{CASE_PATH}/checkpoints", 200, case)
    for kind, entries in [
        ("console-logs", [CONSOLE, {"level": "info", "message": ""}]),
        ("network-logs", [NETWORK, {"method": "GET", "url": "/"}]),
    ]:
        await call("POST", f"{CASE_PATH}/{kind}", 201, case, json={"entries": entries})
        await call("GET", f"{CASE_PATH}/{kind}", 200, case)
    await call("GET", f"{CASE_PATH}/report", 200, case)
    await call_link_routes(call, run, case, sent["id"])
    await call_comparisons(call, run, case, empty)
    await call_error_routes(call, run)
    await call_shards(call)
    await call("DELETE", f"{BASE}/artifacts/{ARTIFACT}", 204, sent["id"])
    await call("GET", f"{BASE}/artifacts/{ARTIFACT}", 404, sent["id"])
    await call("DELETE", RUN, 204, run)
    await call("GET", "/api/v1/auth/session", 200)
    await call("GET", f"{BASE}/limits", 200)
    for query in ("", "?limit=1", "?action=login.failed"):
        await call("GET", "/api/v1/audit", 200, query=query)
    for path in ("/healthz", "/readyz", "/metrics", "/api/v1/openapi.json", "/docs"):
        await call("GET", path, 200)
    for name in assets.by_file():
        await call("GET", "/static/{file}", 200, name)
    session = await call("POST", LOGIN, 201, json={"name": person, "password": PASSWORD})
    assert session["name"] == person
    alone = {"headers": {"Authorization": "", "X-CSRF-Token": session["csrf_token"]}}
    identity = await call("GET", "/api/v1/auth/session", 200, **alone)
    assert identity["csrf_token"] == session["csrf_token"]
    await call("POST", "/api/v1/auth/logout", 204, **alone)
    await call("POST", "/api/v1/auth/session", 201)
    await call_exchange(call, services)


async def call_exchange(call, services):
    """Of a CI job whose issuer the server trusts from now on."""
    async with providers.running() as issuer:
        rule = CiRule(issuer.issuer, "reportd", "web", {"repository": "acme/shop"})
        auth = msgspec.structs.replace(services.config.auth, ci=[rule])
        services.config = msgspec.structs.replace(services.config, auth=auth)
        services.issuers = Issuers({issuer.issuer}, services.issuers.fetch)
        made = await call("POST", EXCHANGE, 201, json={"token": issuer.sign(issuer.claims())})
        assert made["project"] == "web"


async def call_comparisons(call, run, case, empty):
    """Of a result with a last green, on the main branch, and of one without."""
    green = {"name": "x", "test_id": "t1", "status": "Passed"}
    await call("PATCH", CASE_PATH, 200, case, json=green)
    head = (await call("POST", f"{BASE}/suite-runs", 201, json={**DESCRIBED, "branch": "main"}))["id"]
    for status in ("Failed", "Passed"):
        bad = {**CASE, **green, "status": status, "attempt": 1 + (status == "Passed")}
        await call("POST", f"{RUN}/test-cases", 201, head, json=bad)
    red = (await call("POST", f"{RUN}/test-cases", 201, head, json={**green, "status": "Failed", "attempt": 3}))["id"]
    steps = [a_step(1, status="Failed", expected_value="other", duration_ms=90_000), a_step(2)]
    await call("POST", f"{CASE_PATH}/steps/bulk", 201, red, json={"steps": steps})
    for result in (red, empty):
        for name in ("last-green", "first-difference", "comparison"):
            await call("GET", f"{CASE_PATH}/{name}", 200, result)
    await call("GET", f"{CASE_PATH}/comparison", 200, red, query=f"?with={case}&differing=true")
    for query in ("", "?base=main", f"?base={run}"):
        await call("GET", f"{RUN}/comparison", 200, head, query=query)
    assert (await call("GET", f"{RUN}/marks", 200, head))["tests"]
    await call("GET", f"{RUN}/archive", 200, head)
    await call("DELETE", RUN, 204, head)


async def call_link_routes(call, run, case, artifact):
    shared, html = "/shared/{link}", {"headers": {"Accept": "text/html"}}
    for thing in ({"suite_run_id": run}, {"test_case_result_id": case}, {"artifact_id": artifact, "note": "x"}):
        made = await call("POST", f"{BASE}/links", 201, json=thing)
        link = made["url"].removeprefix("/shared/")
        for options in ({}, html):
            await call("GET", shared, 200, link, **options)
            if "artifact_id" not in thing:
                await call("GET", f"{shared}/test-case-results/{{case_id}}", 200, link, case, **options)
            await call("GET", f"{shared}/artifacts/{ARTIFACT}", 200, link, artifact, **options)
            await call("GET", f"{shared}/{THUMB}", 200, link, artifact, 960, **options)
            await call("GET", shared, 404, "rpl_x", **options)
    await call("GET", f"{BASE}/links", 200)
    await call("GET", f"{BASE}/links", 200, query=f"?limit=1&active=true&artifact_id={artifact}")
    await call("DELETE", f"{BASE}/links/{{link_id}}", 204, made["id"])


async def call_shards(call):
    """Of a run without shards, and of one from which everything is missing."""
    run = (await call("POST", f"{BASE}/suite-runs", 201, json={"name": "x"}))["id"]
    await call("GET", f"{RUN}/completeness", 200, run)
    shard, file = f"{RUN}/shards/{{index}}", {"checksum": "a" * 64, "file_size": 4, "file_name": "a.png"}
    await call("PUT", shard, 200, run, 1, json={"total": 3, "status": "Failed", "tests_expected": 9, "errors": ["x"]})
    await call("PUT", shard, 200, run, 2, json={"total": 3, "status": "Running", "started_at": "2026-01-24T12:00:00Z"})
    await call("PUT", shard, 409, run, 3, json={"total": 4, "status": "Passed"})
    await call("PUT", shard, 422, run, 0, json={"total": 3, "status": "Passed"})
    missing = {"later": True, "artifact_type": "screenshot", **file}
    test = {"client_ref": str(UUID(int=1)), "test": {"name": "x"}, "artifacts": [missing]}
    await call("POST", f"{RUN}/bundle", 201, run, json={"tests": [test]})
    await call("GET", f"{RUN}/completeness", 200, run)


async def call_with_errors(call):
    run = (await call("POST", f"{BASE}/suite-runs", 201, json={"name": "x"}))["id"]
    case = (await call("POST", f"{RUN}/test-cases", 201, run, json={"name": "x"}))["id"]
    steps = f"{CASE_PATH}/steps"
    await call("POST", steps, 201, case, json={"steps": [a_step()]})
    await call("POST", steps, 409, case, json={"steps": [a_step()]})
    await call("POST", steps, 422, case, json={"steps": [{}]})
    await call("POST", steps, 400, case, data=b"{")
    await call("POST", steps, 413, case, data=b" " * ((16 << 20) + 1))
    await call("GET", steps, 401, case, headers={"Authorization": "Bearer wrong"})
    await call("POST", EXCHANGE, 401, json={"token": "a.b.c"})
    await call("POST", EXCHANGE, 422, json={"token": ""})
    await call("POST", LOGIN, 401, json={"name": "nobody", "password": "x"})
    await call("POST", LOGIN, 422, json={"name": "nobody"})
    await call("POST", LOGIN, 403, json={"name": "x", "password": "x"}, headers={"Sec-Fetch-Site": "cross-site"})
    for status in [401] * 9 + [429]:
        await call("POST", LOGIN, status, json={"name": "Nobody", "password": "x"})
    await call("POST", f"{CASE_PATH}/artifacts", 415, case, data=b"x")
    await call("POST", f"{CASE_PATH}/artifacts/batch", 422, case, data=a_batch(b""))


async def test_real_replies_conform_to_the_document(client, api, make_user):
    call = Checked(client, api)
    await call_every_route(call, make_user(everywhere="viewer", default="admin"), client.app[SERVICES])
    assert call.seen == {(route.method, route.path) for route in ROUTES}
    assert call.unexpected({"GET /docs: text/plain is described, text/html is sent"}) == []


async def test_real_errors_conform_to_the_document(client, api):
    call = Checked(client, api)
    await call_with_errors(call)
    # The error of a batch without a valid file has more fields than the error object.
    known = {
        f"POST {CASE_PATH}/artifacts/batch 422: $: {name} is not described"
        for name in ("message", "artifacts", "failed")
    }
    assert call.unexpected(known) == []


async def test_every_success_status_is_described(client, api):
    call = Checked(client, api)
    await call("POST", f"{BASE}/suite-runs", 201, json={"name": "x", "run_key": "k"})
    run = (await call("POST", f"{BASE}/suite-runs", 200, json={"name": "x", "run_key": "k"}))["id"]
    case = (await call("POST", f"{RUN}/test-cases", 201, run, json={"name": "x"}))["id"]
    artifact = (await call("POST", f"{CASE_PATH}/artifacts", 201, case, data=a_file(1)))["id"]
    download = f"{BASE}/artifacts/{ARTIFACT}/download"
    await call("GET", download, 206, artifact, headers={"Range": "bytes=0-3"})
    await call("GET", download, 304, artifact, headers={"If-None-Match": "*"})
    await call("GET", download, 416, artifact, headers={"Range": "bytes=9999-"})
    await call("GET", "/docs", 200)
    await call("GET", "/metrics", 401, headers={"Authorization": "Bearer wrong"})
    assert call.wrong == []


async def test_replies_with_warnings_conform_to_the_document(client, api):
    call, odd = Checked(client, api), "x" * 600
    replies = [await call("POST", f"{BASE}/suite-runs", 201, json={"name": odd})]
    run = replies[0]["id"]
    replies.append(await call("POST", f"{RUN}/test-cases", 201, run, json={"name": odd}))
    case = replies[1]["id"]
    replies += [
        await call("PATCH", RUN, 200, run, json={"branch": odd}),
        await call(
            "PUT", f"{RUN}/shards/{{index}}", 200, run, 1, json={"total": 1, "status": "failed", "errors": [odd * 4]}
        ),
        await call("PATCH", CASE_PATH, 200, case, json={"browser": odd}),
        await call("POST", f"{RUN}/test-cases/bulk", 201, run, json={"test_cases": [{"name": odd}]}),
        await call("POST", f"{CASE_PATH}/steps", 201, case, json={"steps": [a_step(1, action=odd)]}),
        await call("POST", f"{CASE_PATH}/steps/bulk", 201, case, json={"steps": [a_step(2, action=odd)]}),
        await call("PUT", f"{CASE_PATH}/steps", 200, case, json={"steps": [a_step(3, action=odd)]}),
        await call("POST", f"{CASE_PATH}/checkpoints", 201, case, json={"checkpoints": [{**CHECKPOINT, "name": odd}]}),
        await call("POST", f"{CASE_PATH}/console-logs", 201, case, json={"entries": [{**CONSOLE, "level": odd}]}),
        await call("POST", f"{CASE_PATH}/network-logs", 201, case, json={"entries": [{**NETWORK, "status_code": -1}]}),
        await call("POST", f"{CASE_PATH}/artifacts", 201, case, data=a_file(1, description="\0")),
        await call("POST", f"{BASE}/links", 201, json={"suite_run_id": run, "note": odd}),
    ]
    assert all(len(body["warnings"]) >= 1 for body in replies) and call.wrong == []


async def test_the_document_is_served(client, api):
    reply = await client.get("/api/v1/openapi.json")
    assert await reply.json() == api
    assert reply.headers["Cache-Control"] == "no-store"


# --- the page --------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The texts, tags, ids, links and loaded URLs of an HTML page."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.loads, self.links, self.ids, self.tags = [], [], [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "srcset", "data", "action", "background", "poster") or (
                tag == "link" and name == "href"
            ):
                self.loads.append(value)
            elif name == "href":
                self.links.append(value)
            elif name == "id":
                self.ids.add(value)

    def handle_data(self, data):
        self.texts.append(data.strip())


DOCS_FILES = ("docs.css", "docs.js", "swagger-ui.css", "swagger-ui-bundle.js")


async def test_the_contents_of_the_docs_page_have_every_operation(client, api):
    reply = await client.get("/docs")
    text = await reply.text()
    page = Page(text)
    assert reply.content_type == "text/html" and reply.charset == "utf-8"
    assert set(page.loads) == {assets.address(name) for name in DOCS_FILES} and "//" not in "".join(page.loads)
    operations = [operation for path in api["paths"].values() for operation in path.values()]
    links = {f"#/{tag}/{operation['operationId']}" for operation in operations for tag in operation["tags"]}
    assert set(page.links) == links | {"/api/v1/openapi.json"}
    shown = list(zip(page.texts, page.texts[1:], strict=False))
    for route in ROUTES:
        assert (route.method, route.path.removeprefix(BASE)) in shown, route.path
    assert f"reportd {__version__}" in page.texts


def test_every_tag_is_described_and_used(api):
    used = {tag for path in api["paths"].values() for operation in path.values() for tag in operation["tags"]}
    assert {tag["name"] for tag in api["tags"]} == used and all(tag["description"] for tag in api["tags"])
