"""Access control: every route replies to every kind of caller as the table in docs/access.md says."""

import asyncio
import re
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from pathlib import Path

import pytest

from server.auth.roles import Role
from server.auth.tokens import hash_of, new_token
from server.http.authenticate import COOKIE
from server.http.openapi import document
from server.routes import ROUTES
from server.services import SERVICES
from server.viewer import assets
from tests.forms import BOUNDARY, batch, single
from tests.makers import png
from tests.people import LOGIN, PASSWORD, logged_in

PAGE = (Path(__file__).parent.parent / "docs/access.md").read_text("utf-8")
BASE = "/api/v1/reports"
SESSION = "/api/v1/auth/session"
LOGOUT = "/api/v1/auth/logout"
EXCHANGE = "/api/v1/auth/exchange"
ROLES = [role.word for role in Role]
COLUMNS = ["no valid token", *ROLES, "other project's", "token's cookie", "person's cookie"]
AS_ROLE = "as its role"
WITH_CSRF = f"{AS_ROLE}, with CSRF token"

STEPS = {"steps": [{"step_number": 7, "step_type": "click", "iteration_number": 9}]}
FILE = {"data": single(png()), "headers": {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}}
BUNDLE = {"tests": [{"client_ref": str(uuid.uuid4()), "test": {"name": "x"}}]}
FILES = {**FILE, "data": batch([(png(), "shot.png")])}
IDS = ["suite_id", "case_id", "step_id", "artifact_id", "link_id"]
# A valid request for each row that changes data. A test checks that none is missing.
SENDS = {
    "POST /suite-runs": {"json": {"name": "x"}},
    "PATCH /suite-runs/{suite_id}": {"json": {"name": "changed"}},
    "DELETE /suite-runs/{suite_id}": {},
    "PUT /suite-runs/{suite_id}/shards/{index}": {"json": {"total": 1, "status": "Passed"}},
    "POST /suite-runs/{suite_id}/test-cases": {"json": {"name": "x"}},
    "POST /suite-runs/{suite_id}/test-cases/bulk": {"json": {"test_cases": [{"name": "x"}]}},
    "POST /suite-runs/{suite_id}/bundle": {"json": BUNDLE, "headers": {"Content-Type": "application/json"}},
    "PATCH /test-case-results/{case_id}": {"json": {"name": "changed"}},
    "POST /test-case-results/{case_id}/steps": {"json": STEPS},
    "POST /test-case-results/{case_id}/steps/bulk": {"json": STEPS},
    "PUT /test-case-results/{case_id}/steps": {"json": STEPS},
    "PUT /test-case-results/{case_id}/steps?prune=true": {"json": STEPS},
    "PATCH /steps/{step_id}": {"json": {"screenshot_artifact_id": None}},
    "POST /test-case-results/{case_id}/checkpoints": {"json": {"checkpoints": [{"checkpoint_number": 1, "name": "x"}]}},
    "POST /test-case-results/{case_id}/console-logs": {"json": {"entries": [{"level": "info", "message": "x"}]}},
    "POST /test-case-results/{case_id}/network-logs": {"json": {"entries": [{"method": "GET", "url": "http://x/"}]}},
    "POST /test-case-results/{case_id}/artifacts": FILE,
    "POST /test-case-results/{case_id}/artifacts/batch": FILES,
    "POST /artifacts/missing": {"json": {"files": []}},
    "DELETE /artifacts/{artifact_id}": {},
    "POST /links": {"json": {"suite_run_id": "{suite_id}"}},
    "DELETE /links/{link_id}": {},
    "POST /api/v1/auth/session": {},
    "POST /api/v1/auth/login": {"json": {"name": "somebody", "password": PASSWORD}},
    "POST /api/v1/auth/exchange": {"json": {"token": "a.b.c"}},
    "POST /api/v1/auth/logout": {},
}


# The query that a row needs.
QUERIES = {"GET /tests": "?test_id=login+works", "GET /search": "?q=x"}


def missing_ids():
    """An id of each kind that does not exist."""
    return {**dict.fromkeys(IDS, str(uuid.uuid4())), "fingerprint": uuid.uuid4().hex, "index": "1"}


def table():
    """The table in docs/access.md: {"GET /suite-runs": {"viewer": "2xx", …}, …}."""
    lines = PAGE[PAGE.index("| request | ") :].partition("\n\n")[0].splitlines()
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert head == ["request", *COLUMNS]
    return {row[0].strip("`"): dict(zip(COLUMNS, row[1:], strict=True)) for row in rows}


def request_for(name, ids):
    """The body and headers of a row's request, with these ids filled in."""
    sent = SENDS.get(name, {})
    if name != "POST /links":
        return sent
    return {"json": {key: text.format_map(ids) for key, text in sent["json"].items()}}


def named(route, switch=""):
    return f"{route.method} {route.path.removeprefix(BASE)}{switch}"


def method_and_path(name):
    """Method and path of a row. The path still has its {placeholders}."""
    method, _, path = name.partition(" ")
    absolute = any(route.path == path for route in ROUTES)
    return method, (path if absolute else BASE + path) + QUERIES.get(name, "")


async def bearing(client, token):
    """Two sets of headers: the token as a bearer, and the session cookie of a login with the token."""
    bearer = {"Authorization": f"Bearer {token}"}
    reply = await client.post(SESSION, headers=bearer)
    assert reply.status == 201, await reply.text()
    return bearer, {"Cookie": f"{COOKIE}={SimpleCookie(reply.headers['Set-Cookie'])[COOKIE].value}"}


@pytest.fixture
async def token_callers(nobody, make_token):
    """Callers with a token or its cookie, as (whose, role, how, headers).

    `whose` is the token's project: "ours" (the project of the request), "theirs" (another project) or "all".
    """
    callers = []
    for whose, project in [("ours", "default"), ("theirs", "theirs"), ("all", None)]:
        for role in ROLES:
            bearer, cookie = await bearing(nobody, make_token(project=project, role=role))
            callers += [(whose, role, "token", bearer), (whose, role, "cookie", cookie)]
    return callers


@pytest.fixture
async def people(nobody, make_user, make_token, rows):
    """Callers who logged in with a password, in the same form. With `how` "several" they have two different roles."""
    make_token(project="theirs")
    rows("UPDATE users SET name = 'somebody' WHERE name = %s", make_user(default="viewer"))
    callers = []
    for role, other in zip(ROLES, ["admin", "viewer", "uploader"], strict=True):
        for whose, how, roles in [
            ("ours", "person", {"default": role}),
            ("theirs", "person", {"theirs": role}),
            ("all", "person", {"everywhere": role}),
            ("ours", "several", {"default": role, "theirs": other}),
            ("theirs", "several", {"theirs": role, "elsewhere": other}),
        ]:
            callers.append((whose, role, how, await logged_in(nobody, make_user(**roles))))
    callers.append(
        ("ours", "admin", "several", await logged_in(nobody, make_user(everywhere="viewer", default="admin")))
    )
    callers.append(
        ("ours", "uploader", "several", await logged_in(nobody, make_user(everywhere="uploader", default="viewer")))
    )
    return callers


@pytest.fixture
async def invalid_credentials(nobody, make_token, rows):
    """Headers that no route accepts: missing, malformed, unknown, expired and revoked credentials."""
    token, expired, revoked = make_token(), make_token(), make_token(name="revoked")
    (_, ended), (_, late) = await bearing(nobody, revoked), await bearing(nobody, expired)
    bearer, over = await bearing(nobody, make_token(name="logged in"))
    rows("UPDATE tokens SET revoked_at = now() WHERE name = 'revoked'")
    rows("UPDATE tokens SET expires_at = now() - interval '1 s' WHERE token_hash = %s", hash_of(expired))
    id_of = "(SELECT id FROM tokens WHERE name = 'logged in')"
    rows(f"UPDATE sessions SET expires_at = now() - interval '1 s' WHERE token_id = {id_of}")
    for key, (caller, _) in nobody.app[SERVICES].callers.items():
        nobody.app[SERVICES].callers[key] = (caller, 0.0)
    assert (await nobody.get(f"{BASE}/suite-runs", headers=bearer)).status == 200
    values = [new_token(), expired, revoked, token[:-1], token + "x", token.swapcase(), "", "rpt_"]
    return [
        {},
        *({"Authorization": f"Bearer {value}"} for value in values),
        {"Authorization": f"Basic {token}"},
        {"Authorization": token},
        {"Cookie": f"{COOKIE}={token}"},
        {"Cookie": f"{COOKIE}=" + "x" * 43},
        ended,
        late,
        over,
    ]


@pytest.fixture
def make_things(client, make_run, make_case):
    """await make_things(): the ids of a new run in the default project, and of one object of each kind in it."""

    async def make():
        run = await make_run(project="default")
        case = await make_case(run=run, status="Failed", error_message="no button")
        shown = await (await client.get(f"{BASE}/suite-runs/{run}/errors")).json()
        path = f"{BASE}/test-case-results/{case}"
        made = await client.post(f"{path}/steps/bulk", json={"steps": [{"step_number": 1}]})
        sent = await client.post(f"{path}/artifacts", **{**FILE, "data": single(png(seed=1))})
        step, artifact = (await made.json())["steps"][0], await sent.json()
        link = await (await client.post(f"{BASE}/links", json={"suite_run_id": run})).json()
        return {
            **{"suite_id": run, "case_id": case, "step_id": step["id"], "artifact_id": artifact["id"]},
            **{"link_id": link["id"], "link": link["url"].removeprefix("/shared/")},
            "width": "320",
            "index": "1",
            "file": assets.by_name()["docs.css"].file,
            "fingerprint": shown["groups"][0]["error"]["fingerprint"],
        }

    return make


@pytest.fixture
def snapshot(rows, stored_files):
    """snapshot(): all rows and files that are stored, to be compared. Leaves out the usage of tokens and links,
    and what the server counts beside the requests, or when somebody first looks."""
    left_out = "yoyo|(usage|counted)_days|selector_uses|instances|sweeps"
    tables = f"SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public' AND tablename !~ '{left_out}'"
    names = [row["name"] for row in rows(tables)]
    assert {"tokens", "sessions", "suite_runs", "test_artifacts", "idempotency_keys"} <= set(names)

    def take():
        of = "SELECT md5(string_agg(line, '\n' ORDER BY line)) AS sum FROM"
        uses = "'{last_used_at,last_seen_at,opened,downloads}'::text[]"
        line = f"(SELECT (to_jsonb(t) - {uses})::text AS line FROM %s t) AS lines"
        return [rows(f"{of} {line % name}")[0]["sum"] for name in names], stored_files()

    return take


def expected(row, whose, role, how, method, path):
    if how == "cookie":
        if row["token's cookie"] != "2xx" and method not in ("GET", "HEAD"):
            return row["token's cookie"]
        assert row["token's cookie"] in ("2xx", "as its token")
    if how in ("person", "several") and row["person's cookie"] not in (AS_ROLE, WITH_CSRF):
        return row["person's cookie"]
    # The object named in the path is looked up before the role is checked, the object named in the body after it.
    if whose == "theirs" and row["other project's"] != "own" and ("{" in path or row[role] != "403"):
        return row["other project's"]
    cell = row[role].rstrip("†")  # objects that the caller created are covered by other tests
    if cell.endswith("*"):
        return "2xx" if whose == "all" else cell.removesuffix("*")
    return cell


def shown(status):
    return "2xx" if 200 <= status < 300 else str(status)


async def refusal(reply):
    """Status, headers and body of a refusal, without the parts that differ in every request."""
    body = await reply.json() if reply.content_type == "application/json" and reply.method != "HEAD" else {}
    headers = {name: value for name, value in reply.headers.items() if name not in ("Date", "X-Request-ID")}
    assert body or reply.method == "HEAD"
    return reply.status, headers, {**body, "request_id": None}


# --- the table -------------------------------------------------------------------------------------------------


def test_the_table_in_the_docs_has_every_route():
    """One row per route, and one more for a query parameter that needs another role."""
    switched = [named(route, f"?{route.access.admin_if}=true") for route in ROUTES if route.access.admin_if]
    assert sorted(table()) == sorted([named(route) for route in ROUTES] + switched)
    assert set(SENDS) == {name for name in table() if not name.startswith("GET ")}


def test_openapi_documents_the_same_access_rules():
    paths = document(ROUTES, "1")["paths"]
    for name, row in table().items():
        method, path = method_and_path(name)
        operation = paths[path.partition("?")[0]][method.lower()]
        if path in (LOGIN, EXCHANGE):
            continue
        documented = operation["responses"].keys() & {"401", "403"}
        cells = {cell.rstrip("*†") for cell in row.values()} & {"401", "403"}
        assert cells <= documented, name
        assert not documented - cells or path == LOGOUT or (name.startswith("PUT") and row["uploader"] == "2xx"), name
        if cells:
            least = next((role for role in ROLES if row[role] == "2xx"), "person's session")
            least = "in all projects" if "403*" in row.values() else "a token" if path == SESSION != name[4:] else least
            assert least in operation["description"], name
            security = operation.get("security", [{"bearer": []}, {"session": []}])
            assert ({"session": []} in security) == (row["token's cookie"] == "as its token"), name
            by_person = row["person's cookie"] == WITH_CSRF or path == LOGOUT
            assert ({"session": [], "csrf": []} in security) == by_person, name


async def test_every_route_replies_to_every_caller_as_the_table_says(
    nobody, token_callers, people, invalid_credentials, make_things, snapshot, make_user, make_token
):
    ours = await make_things()
    assert len(token_callers) == 18 and len(people) == 17 and len(invalid_credentials) == 16
    wrong, asked, refused = [], 0, 0
    for name, row in table().items():
        method, path = method_and_path(name)
        methods = ["GET", "HEAD"] if method == "GET" else [method]

        async def ask(method, headers, ids, path=path, name=name):
            sent = request_for(name, ids)
            both = {**sent.get("headers", {}), **headers}
            return await nobody.request(method, path.format_map(ids), **{**sent, "headers": both})

        before, may = snapshot(), []
        for word in methods:
            for headers in invalid_credentials:
                reply = await ask(word, headers, ours)
                asked += 1
                if shown(reply.status) != row["no valid token"]:
                    wrong.append((word, name, headers, reply.status))
            for whose, role, how, headers in [*token_callers, *people]:
                if how == "several" and "{" not in path:
                    continue  # without an id in the path, no project decides which role counts
                if path in (LOGIN, LOGOUT) and how in ("person", "cookie"):  # these routes end the session
                    headers = await logged_in(nobody, make_user(default=role))
                    if how == "cookie":
                        _, headers = await bearing(nobody, make_token())
                changes = how in ("person", "several") and word not in ("GET", "HEAD")
                if changes and path not in (LOGIN, EXCHANGE):
                    reply = await ask(word, {**headers, "X-CSRF-Token": ""}, ours)
                    assert (reply.status, (await reply.json())["code"]) == (403, "csrf_token_needed"), name
                wanted = expected(row, whose, role, how, word, path)
                if wanted == "2xx":
                    may.append((word, whose, role, headers))
                    continue
                reply = await ask(word, headers, ours)
                received = await refusal(reply)
                refused += 1
                if str(reply.status) != wanted:
                    wrong.append((word, name, whose, role, how, reply.status))
                if wanted == "404":
                    missing = await ask(word, headers, dict.fromkeys(ours, str(uuid.uuid4())))
                    assert received == await refusal(missing), (word, name)
                if wanted == "403" and word != "HEAD":
                    code, detail = received[2]["code"], received[2]["detail"]
                    assert code in ("role_too_small", "all_projects_needed"), (name, whose, role, how)
                    assert f"yours is {role}." in detail or "a role in all projects" in detail
        if path not in (LOGIN, LOGOUT, EXCHANGE):
            assert snapshot() == before, name
        for word, whose, role, headers in may:
            changes = word not in ("GET", "HEAD") and "{" in path
            ids = await make_things() if changes else ours
            was = snapshot() if changes and (whose, role) == ("ours", "admin") else None
            reply = await ask(word, headers, ids)
            asked += 1
            if shown(reply.status) != "2xx":
                wrong.append((word, name, whose, role, reply.status, await reply.text()))
            assert was is None or snapshot() != was, f"an allowed {name} changed nothing, so its refusals prove nothing"
    assert wrong == []
    assert asked > 1200 and refused > 700


async def test_lists_show_what_the_caller_may_see(nobody, token_callers, people, make_things):
    ours = (await make_things())["suite_id"]
    token_callers += [person for person in people if person[2] == "person"]
    for whose, role, _, headers in token_callers:
        if role != "viewer":
            await nobody.post(f"{BASE}/suite-runs", json={"name": f"{whose} {role}"}, headers=headers)
    for whose, _, _, headers in token_callers:
        page = await (await nobody.get(f"{BASE}/suite-runs", headers=headers)).json()
        projects = {run["project"] for run in page["items"]}
        assert projects == {"ours": {"default"}, "theirs": {"theirs"}, "all": {"default", "theirs"}}[whose]
        assert (ours in [run["id"] for run in page["items"]]) == (whose != "theirs")


# --- the order of checks ---------------------------------------------------------------------------------------


async def test_the_role_is_checked_before_the_request_is_validated(nobody, make_token, make_things):
    ours, missing = await make_things(), missing_ids()
    mine = {"Authorization": f"Bearer {make_token(project='default', role='viewer')}"}
    theirs = {"Authorization": f"Bearer {make_token(project='theirs', role='admin')}"}
    asked = 0
    for name, sent in SENDS.items():
        method, path = method_and_path(name)
        if "{" not in path or not sent:
            continue
        for bad in ({"data": b"{"}, {"data": b'{"steps": 7}'}, {"data": b"[]", "headers": {"Idempotency-Key": ""}}):
            extra = {**bad.get("headers", {}), **sent.get("headers", {})}
            for caller, ids, status in [(mine, ours, 403), (mine, missing, 404), (theirs, ours, 404)]:
                url = path.format_map(ids) + ("&" if "?" in path else "?") + "iteration_number=nonsense"
                reply = await nobody.request(method, url, data=bad["data"], headers={**extra, **caller})
                assert reply.status == status, (name, bad, await reply.text())
                asked += 1
    assert asked > 100


@pytest.mark.parametrize("head", ["Expect: 100-continue\r\nContent-Length: 9", f"Content-Length: {9 << 20}"])
async def test_a_forbidden_request_is_refused_before_its_body_is_read(nobody, make_token, make_things, head):
    ours = await make_things()
    for name in SENDS:
        method, path = method_and_path(name)
        if method == "DELETE" or path.startswith("/api/v1/auth/"):
            continue
        for project, role, status in [("default", "viewer", 403), ("theirs", "admin", 404)]:
            if status == 404 and "{" not in path:
                continue
            kind = FILE["headers"]["Content-Type"] if "artifacts" in path else "application/json"
            reader, writer = await asyncio.open_connection(nobody.host, nobody.port)
            writer.write(
                f"{method} {path.format_map(ours)} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n{head}\r\n"
                f"Authorization: Bearer {make_token(project=project, role=role)}\r\n\r\n".encode()
            )
            answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            assert answer.startswith(f"HTTP/1.1 {status} ".encode()), (name, answer)
            assert b"\r\nConnection: close\r\n" in answer
            writer.close()


async def test_prune_needs_an_admin_in_every_spelling_of_true(nobody, make_token, make_things):
    path = f"{BASE}/test-case-results/{(await make_things())['case_id']}/steps"
    uploader = {"Authorization": f"Bearer {make_token(project='default', role='uploader')}"}
    for query, status in [
        ("prune=1", 403),
        ("prune=TRUE", 403),
        ("prune=false&prune=true", 403),
        ("prune=true&prune=maybe", 422),
        ("prune=false", 200),
        ("prune=0", 200),
        ("prune=", 200),
        ("prune=maybe", 422),
    ]:
        reply = await nobody.put(f"{path}?{query}", json={"steps": []}, headers=uploader)
        assert reply.status == status, (query, await reply.text())


# --- which queries a request costs -----------------------------------------------------------------------------


# asyncpg asks once on each connection about each type that is new to it: in the first request there, whosever it is.
ABOUT_TYPES = ("current_setting('jit')", "typeinfo_tree")


@pytest.fixture
def queries(client, monkeypatch):
    """The queries that the server sends for requests, as a list that grows."""
    pool, asked = client.app[SERVICES].pool, []
    acquire = pool.acquire

    @asynccontextmanager
    async def watched():
        of_request = "RequestHandler" in asyncio.current_task().get_coro().__qualname__  # not of a background task
        async with acquire() as connection:

            def record_query(record):
                if of_request and not any(sign in record.query for sign in ABOUT_TYPES):
                    asked.append(record.query)

            connection.add_query_logger(record_query)
            try:
                yield connection
                await asyncio.sleep(0)  # the event loop calls the logger in its next iteration
            finally:
                connection.remove_query_logger(record_query)

    monkeypatch.setattr(pool, "acquire", watched)
    return asked


async def test_another_projects_object_costs_the_same_queries_as_a_missing_one(
    nobody, queries, make_token, make_things
):
    """Otherwise the response time would reveal which ids exist in other projects."""
    ours, missing = await make_things(), {**missing_ids(), "width": "320"}
    compared = 0
    for role in ROLES:
        theirs = {"Authorization": f"Bearer {make_token(project='theirs', role=role)}"}
        assert (await nobody.get(f"{BASE}/suite-runs", headers=theirs)).status == 200  # fills the token cache
        for name, row in table().items():
            method, path = method_and_path(name)
            if row["other project's"] != "404" or ("{" not in path and row[role] == "403"):
                continue
            seen = []
            for ids in (ours, missing):
                queries.clear()
                sent = request_for(name, ids)
                headers = {**sent.get("headers", {}), **theirs}
                reply = await nobody.request(method, path.format_map(ids), **{**sent, "headers": headers})
                assert reply.status == 404
                seen.append(list(queries))
            assert seen[0] == seen[1] != [], name
            compared += 1
    assert compared > 60


async def test_a_cached_token_costs_no_query(nobody, queries, make_token, make_things):
    path = f"{BASE}/test-case-results/{(await make_things())['case_id']}"
    viewer = {"Authorization": f"Bearer {make_token(project='default', role='viewer')}"}
    assert (await nobody.get(path, headers=viewer)).status == 200
    queries.clear()
    assert (await nobody.get(path, headers=viewer)).status == 200
    assert len(queries) == 1 and "FROM test_case_results" in queries[0]


@pytest.mark.parametrize("valid", [True, False])
async def test_concurrent_requests_with_one_token_share_one_lookup(nobody, queries, make_token, valid):
    bearer = {"Authorization": f"Bearer {make_token() if valid else new_token()}"}
    replies = await asyncio.gather(*(nobody.get("/api/v1/auth/session", headers=bearer) for _ in range(50)))
    assert {reply.status for reply in replies} == {200 if valid else 401}
    assert len([query for query in queries if "former_secrets" in query]) == 1
    assert nobody.app[SERVICES].callers.lookups == {}


async def test_a_failed_lookup_fails_all_requests_that_share_it(nobody, make_token, monkeypatch):
    bearer, pool = {"Authorization": f"Bearer {make_token()}"}, nobody.app[SERVICES].pool
    with monkeypatch.context() as broken:
        broken.setattr(pool, "_max_waiting", -pool.size)
        replies = await asyncio.gather(*(nobody.get("/api/v1/auth/session", headers=bearer) for _ in range(10)))
        assert {reply.status for reply in replies} == {503}
    assert (await nobody.get("/api/v1/auth/session", headers=bearer)).status == 200


async def test_a_malformed_token_costs_no_query_and_gets_the_reply_of_an_unknown_token(nobody, queries, make_token):
    token = make_token()
    for typo in (
        token[:-1],
        token[:10] + token[11:],
        token[:9] + chr(ord(token[9]) ^ 1) + token[10:],
        "rpt_",
        "x" * 53,
    ):
        queries.clear()
        reply = await nobody.get(f"{BASE}/suite-runs", headers={"Authorization": f"Bearer {typo}"})
        assert queries == []
        wrong = await nobody.get(f"{BASE}/suite-runs", headers={"Authorization": f"Bearer {new_token()}"})
        assert len(queries) == 1
        assert await refusal(reply) == await refusal(wrong) and reply.status == 401


# --- a role that changes ---------------------------------------------------------------------------------------


async def test_a_changed_role_takes_effect_also_for_idempotent_replays(nobody, make_token, make_things, rows):
    path = f"{BASE}/test-case-results/{(await make_things())['case_id']}/steps"
    token = make_token(name="mine", project="default", role="uploader")
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k"}

    async def send():
        reply = await nobody.post(path, json=STEPS, headers=headers)
        return reply.status, reply.headers.get("Idempotent-Replayed")

    async def become(role):
        rows("UPDATE tokens SET role = %s WHERE name = 'mine'", role)
        for key, (caller, _) in nobody.app[SERVICES].callers.items():
            nobody.app[SERVICES].callers[key] = (caller, 0.0)

    assert [await send(), await send()] == [(201, None), (201, "true")]
    await become("viewer")
    assert await send() == (403, None)
    await become("admin")
    assert await send() == (201, "true")


async def test_without_required_auth_a_request_without_token_has_the_admin_role(start, aiohttp_client, make_token):
    opened = await start(auth={"required": False}, token=make_token(role="viewer"))
    anyone = await aiohttp_client(opened.server)
    run = await (await anyone.post(f"{BASE}/suite-runs", json={"name": "x"})).json()
    path = f"{BASE}/suite-runs/{run['id']}"
    assert (await opened.delete(path)).status == 403  # a token that is sent still counts
    assert (await anyone.delete(path)).status == 204
    assert (await anyone.get("/metrics")).status == 200


async def test_an_expired_token_of_any_role_is_refused(nobody, make_token):
    for role in ROLES:
        token = make_token(role=role, expires_at=datetime.now(UTC) - timedelta(seconds=1))
        reply = await nobody.get(f"{BASE}/suite-runs", headers={"Authorization": f"Bearer {token}"})
        assert reply.status == 401


def test_the_roles_of_the_code_are_those_of_the_database(rows):
    (check,) = rows("SELECT pg_get_constraintdef(oid) AS text FROM pg_constraint WHERE conname = 'tokens_role_check'")
    assert re.findall(r"'(\w+)'", check["text"]) == ROLES
