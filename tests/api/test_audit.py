"""The audit trail: which actions write an entry, that entries cannot be changed, and how admins read them."""

import asyncio
import json
import os
import pwd
import re
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from uuid import UUID, uuid4

import psycopg
import pytest
from aiohttp import DummyCookieJar
from psycopg import errors

from server.commands import audit as audit_command
from server.commands import first_access
from server.database.queries import SQL
from server.ids import new_id, time_of
from server.observe import audit
from server.observe.audit import Action, Actor, Subject
from server.services import SERVICES, Call
from tests.forms import CONTENT_TYPE, single
from tests.makers import png
from tests.up_server import CHECKOUT, ENVIRONMENT, REPORTD

BASE = "/api/v1/reports"
RUNS = f"{BASE}/suite-runs"
SESSION = "/api/v1/auth/session"
AUDIT = "/api/v1/audit"
PAGE = (CHECKOUT / "docs/access.md").read_text("utf-8")
FROM = {"X-Request-Id": "find-me", "X-Forwarded-For": "203.0.113.9"}
NASTY = "a\nb\r\x1b[2J\x1b]0;x\x07\x85\u2028\u202e\x7f\x9b|"
SOMEBODY = Actor("person", new_id(0), "alice", "203.0.113.9", "r1")


@pytest.fixture
def entries(rows):
    """entries(): all audit entries, the oldest first."""
    return lambda: rows("SELECT * FROM audit_entries ORDER BY id")


@pytest.fixture
def one(entries):
    """one(): the only entry, without `id` and `created_at`. Checks that these two match."""

    def only():
        (entry,) = entries()
        assert entry.pop("created_at") == time_of(entry.pop("id"))
        return entry

    return only


@pytest.fixture
def add(rows):
    """add(action, **columns): writes an entry as the server does. Returns its id, which is above all earlier ones."""
    last = UUID(int=0)

    def insert(action="login.failed", **columns):
        nonlocal last
        entry_id = columns.get("id") or new_id(0)
        while entry_id <= last and "id" not in columns:  # ids of the same millisecond are in random order
            entry_id = new_id(0)
        last = entry_id
        row = {"id": entry_id, "created_at": time_of(entry_id), "action": action, "actor_kind": "anyone"}
        row |= {"subject_kind": "user", **columns}
        names, placeholders = ", ".join(row), ", ".join(["%s"] * len(row))
        rows(f"INSERT INTO audit_entries ({names}) VALUES ({placeholders})", *row.values())
        return entry_id

    return insert


@pytest.fixture
async def ci(start, make_token):
    """A client with an admin token for the project "shop", named "ci"."""
    return await start(token=make_token(name="ci", project="shop"))


@pytest.fixture
def who(rows):
    """who(): the columns of an entry that identify the client `ci`, for a request with the headers FROM."""

    def columns():
        (token,) = rows("SELECT id, project_id FROM tokens WHERE name = 'ci'")
        actor = {"actor_kind": "token", "actor_id": token["id"], "actor_name": "ci"}
        return {**actor, "project_id": token["project_id"], "remote": "203.0.113.9", "request_id": "find-me"}

    return columns


@pytest.fixture
def things(ci):
    """await things(): the ids of a new run, a test case with 3 steps in 2 iterations, and an artifact, in "shop"."""

    async def make():
        run = (await (await ci.post(RUNS, json={"name": "nightly"})).json())["id"]
        case = (await (await ci.post(f"{RUNS}/{run}/test-cases", json={"name": "login works"})).json())["id"]
        steps = [{"step_number": 1}, {"step_number": 2}, {"step_number": 1, "iteration_number": 2}]
        assert (await ci.post(f"{BASE}/test-case-results/{case}/steps/bulk", json={"steps": steps})).status == 201
        sent = await ci.post(
            f"{BASE}/test-case-results/{case}/artifacts",
            data=single(png()),
            headers={"Content-Type": CONTENT_TYPE},
        )
        return run, case, (await sent.json())["id"]

    return make


@pytest.fixture
def clear(rows):
    """clear(): deletes all entries. Only a superuser who disables the trigger can do that."""

    def empty():
        rows("ALTER TABLE audit_entries DISABLE TRIGGER USER")
        rows("DELETE FROM audit_entries")
        rows("ALTER TABLE audit_entries ENABLE ALWAYS TRIGGER audit_entries_only_grows")

    return empty


@pytest.fixture
def read(client):
    """await read(client, action=…): a page of GET /api/v1/audit, by default for an admin of all projects."""

    async def get(asking=client, **query):
        reply = await asking.get(AUDIT, params={name: str(value) for name, value in query.items()})
        assert reply.status == 200, await reply.text()
        return await reply.json()

    return get


# --- actions that write an entry -------------------------------------------------------------------------------


async def test_creating_a_run_writes_an_entry(ci, who, one):
    run = await (await ci.post(RUNS, json={"name": "nightly", "run_key": "k"}, headers=FROM)).json()
    subject = {"subject_kind": "suite_run", "subject_id": UUID(run["id"]), "subject_name": "nightly"}
    assert one() == {"action": "suite_run.created", **who(), **subject, "detail": {}}


async def test_deleting_a_run_writes_an_entry(only_requests, ci, who, one, things, clear):
    run, _, _ = await things()
    clear()
    assert (await ci.delete(f"{RUNS}/{run}", headers=FROM)).status == 204
    subject = {"subject_kind": "suite_run", "subject_id": UUID(run), "subject_name": "nightly"}
    assert one() == {"action": "suite_run.deleted", **who(), **subject, "detail": {}}


async def test_deleting_an_artifact_writes_an_entry(only_requests, ci, who, one, things, clear):
    _, case, artifact = await things()
    clear()
    assert (await ci.delete(f"{BASE}/artifacts/{artifact}", headers=FROM)).status == 204
    subject = {"subject_kind": "artifact", "subject_id": UUID(artifact), "subject_name": "shot.png"}
    assert one() == {"action": "artifact.deleted", **who(), **subject, "detail": {"test_case_result_id": case}}


async def test_pruning_steps_writes_an_entry(only_requests, ci, who, one, things, clear):
    _, case, _ = await things()
    clear()
    kept = {"steps": [{"step_number": 1}, {"step_number": 7, "iteration_number": 2}]}
    reply = await ci.put(f"{BASE}/test-case-results/{case}/steps?prune=true", json=kept, headers=FROM)
    assert (await reply.json())["removed"] == 2
    subject = {"subject_kind": "test_case_result", "subject_id": UUID(case), "subject_name": "login works"}
    detail = {"removed": 2, "iterations": [1, 2]}
    assert one() == {"action": "steps.pruned", **who(), **subject, "detail": detail}


async def test_starting_a_session_writes_an_entry(ci, who, one):
    reply = await ci.post(SESSION, headers=FROM)
    ends = datetime.fromisoformat((await reply.json())["expires_at"])
    entry = one()
    assert abs(datetime.fromisoformat(entry["detail"].pop("expires_at")) - ends) < timedelta(seconds=1)
    subject = {"subject_kind": "token", "subject_id": who()["actor_id"], "subject_name": "ci"}
    assert entry == {"action": "session.started", **who(), **subject, "detail": {}}


async def test_an_entry_has_the_project_of_its_subject_for_a_token_of_all_projects(client, rows, entries):
    rows("INSERT INTO projects (name) VALUES ('shop')")
    made = [await (await client.post(RUNS, json={"name": "x", "project": name})).json() for name in ("shop", "default")]
    for run in made:
        await client.delete(f"{RUNS}/{run['id']}")
    names = {row["id"]: row["name"] for row in rows("SELECT id, name FROM projects")}
    assert [(entry["action"].rpartition(".")[2], names[entry["project_id"]]) for entry in entries()] == [
        ("created", "shop"),
        ("created", "default"),
        ("deleted", "shop"),
        ("deleted", "default"),
    ]


async def test_the_actor_of_a_request_without_a_needed_token_is_anyone(start, aiohttp_client, one):
    opened = await start(auth={"required": False})
    anyone = await aiohttp_client(opened.server, headers={"X-Forwarded-For": "203.0.113.9"})
    await anyone.post(RUNS, json={"name": "x"})
    entry = one()
    actor = [entry[name] for name in ("actor_kind", "actor_id", "actor_name", "remote")]
    assert actor == ["anyone", None, None, "203.0.113.9"] and len(entry["request_id"]) == 32


def test_creating_rotating_and_revoking_a_token_write_entries(command, entries, rows):
    assert (
        command("token", "create", "--name", "ci", "--project", "shop", "--role", "viewer", "--expires", "90d")[0] == 0
    )
    assert command("token", "create", "--name", "all")[0] == 0
    assert command("token", "rotate", "ci", "--overlap", "2h")[0] == 0
    assert command("token", "revoke", "ci")[0] == 0
    ids = {row["name"]: (row["id"], row["project_id"]) for row in rows("SELECT id, name, project_id FROM tokens")}
    found = entries()
    assert [(entry["action"], entry["subject_name"]) for entry in found] == [
        ("token.created", "ci"),
        ("token.created", "all"),
        ("token.rotated", "ci"),
        ("token.revoked", "ci"),
    ]
    for entry in found:
        assert (entry["subject_kind"], entry["actor_kind"], entry["actor_id"]) == ("token", "command", None)
        assert (entry["subject_id"], entry["project_id"]) == ids[entry["subject_name"]]
        assert (entry["remote"], entry["request_id"]) == (socket.gethostname(), None)
        assert entry["actor_name"] == audit.operator().name
    assert ids["all"][1] is None
    created, without_end, rotated, revoked = (entry["detail"] for entry in found)
    assert created.pop("expires_at")[:10] == (datetime.now(UTC) + timedelta(days=90)).date().isoformat()
    assert (created, without_end) == ({"role": "viewer"}, {"role": "uploader", "expires_at": None})
    assert list(rotated) == ["former_secret_until"] and revoked == {}


def test_what_the_first_up_makes_writes_one_entry_each(tmp_path, dsn, entries):
    for _ in range(2):
        asyncio.run(first_access.ensure(tmp_path, dsn))
    columns = [[entry[name] for name in ("action", "actor_kind", "subject_name", "detail")] for entry in entries()]
    assert columns == [
        ["token.created", "command", "admin", {"role": "admin", "expires_at": None}],
        ["user.created", "command", "admin", {"roles": ["admin"]}],
    ]


def test_the_actor_of_a_command_is_the_login_user_or_else_the_user_of_the_process(monkeypatch):
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.setattr(os, "getlogin", lambda: "alice")
    assert audit.operator() == Actor("command", None, "alice", socket.gethostname(), None)

    def no_login():
        raise OSError

    monkeypatch.setattr(os, "getlogin", no_login)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert audit.operator().name == pwd.getpwuid(0).pw_name == "root"
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_001)
    assert audit.operator().name == "uid 4000000001"


def test_every_action_is_documented_and_recorded():
    table = PAGE[PAGE.index("| action | recorded when |") :].partition("\n\n")[0]
    first_cells = " ".join(line.split("|")[1] for line in table.splitlines())
    assert re.findall(r"`([a-z_.]+)`", first_cells) == list(Action)
    sources = [path.read_text("utf-8") for path in (CHECKOUT / "server").rglob("*.py")]
    recorded = {Action[name] for text in sources for name in re.findall(r"\bAction\.([A-Z_]+)", text)}
    assert set(Action) == recorded


# --- requests that write no entry ------------------------------------------------------------------------------


async def test_a_refused_request_writes_no_entry(ci, client, start, things, make_token, entries):
    run, case, artifact = await things()
    steps = f"{BASE}/test-case-results/{case}/steps"
    uploader = await start(token=make_token(project="shop", role="uploader"))
    theirs = await start(token=make_token(project="other"))
    before = entries()
    missing = uuid4()
    for asking, method, path, sent, status in [
        (uploader, "DELETE", f"{RUNS}/{run}", None, 403),
        (uploader, "DELETE", f"{BASE}/artifacts/{artifact}", None, 403),
        (uploader, "PUT", f"{steps}?prune=true", {"steps": [{"step_number": 1}]}, 403),
        (uploader, "GET", AUDIT, None, 403),
        (theirs, "DELETE", f"{RUNS}/{run}", None, 404),
        (theirs, "DELETE", f"{BASE}/artifacts/{artifact}", None, 404),
        (theirs, "PUT", f"{steps}?prune=true", {"steps": [{"step_number": 1}]}, 404),
        (ci, "DELETE", f"{RUNS}/{missing}", None, 404),
        (ci, "DELETE", f"{BASE}/artifacts/{missing}", None, 404),
        (ci, "PUT", f"{BASE}/test-case-results/{missing}/steps?prune=true", {"steps": []}, 404),
        (ci, "POST", steps, {"steps": [{"step_number": 1, "step_type": "x"}]}, 409),
        (ci, "POST", RUNS, {}, 422),
        (ci, "POST", RUNS, {"name": "x", "project": "other"}, 422),
        (client, "POST", RUNS, {"name": "x", "project": "unheard of"}, 422),
        (ci, "PUT", f"{steps}?prune=true", {"steps": [{"step_number": -1}]}, 422),
    ]:
        reply = await asking.request(method, path, **({} if sent is None else {"json": sent}))
        assert reply.status == status, (method, path, await reply.text())
    reply = await ci.post(SESSION, headers={"Authorization": "Bearer wrong"})
    assert reply.status == 401
    assert entries() == before


async def test_a_request_that_changes_nothing_writes_no_entry(ci, things, entries):
    run, case, artifact = await things()
    steps = f"{BASE}/test-case-results/{case}/steps"
    keyed = {"Idempotency-Key": "k"}
    first = await ci.post(RUNS, json={"name": "x", "run_key": "build 1"}, headers=keyed)
    before = entries()
    again = await ci.post(RUNS, json={"name": "x", "run_key": "build 1"}, headers=keyed)
    assert (again.status, again.headers["Idempotent-Replayed"]) == (201, "true")
    joined = await ci.post(RUNS, json={"name": "other", "run_key": "build 1"})
    assert (joined.status, (await joined.json())["id"]) == (200, (await first.json())["id"])
    # Nothing to prune: the request has all steps of the iteration, or the iteration has no steps.
    both = [{"step_number": 1}, {"step_number": 2}, {"step_number": 3}]
    for sent in ({"steps": both}, {"steps": []}, {"steps": [{"step_number": 1, "iteration_number": 9}]}):
        reply = await ci.put(f"{steps}?prune=true", json=sent)
        assert (reply.status, (await reply.json())["removed"]) == (200, 0)
    assert (await ci.put(steps, json={"steps": [{"step_number": 1}]})).status == 200
    await ci.patch(f"{RUNS}/{run}", json={"status": "Passed"})
    assert entries() == before
    for path in (f"{BASE}/artifacts/{artifact}", f"{RUNS}/{run}"):
        assert [(await ci.delete(path)).status for _ in range(2)] == [204, 404]
    assert len(entries()) == len(before) + 2


async def test_concurrent_deletions_of_the_same_object_write_one_entry(ci, things, entries):
    run, _, artifact = await things()
    for path in (f"{BASE}/artifacts/{artifact}", f"{RUNS}/{run}"):
        before = len(entries())
        replies = await asyncio.gather(*(ci.delete(path) for _ in range(6)))
        assert sorted(reply.status for reply in replies) == [204, *[404] * 5]
        assert len(entries()) == before + 1


async def test_concurrent_shards_that_create_one_run_write_one_entry(ci, entries):
    replies = await asyncio.gather(*(ci.post(RUNS, json={"name": "x", "run_key": "k"}) for _ in range(6)))
    assert sorted(reply.status for reply in replies) == [*[200] * 5, 201]
    assert len(entries()) == 1


def test_a_refused_command_writes_no_entry(command, entries):
    assert command("token", "create", "--name", "ci")[0] == 0
    before = entries()
    for arguments in (["create", "--name", "ci", "--project", "new"], ["rotate", "nobody"], ["revoke", "nobody"]):
        assert command("token", *arguments)[0] == 1
    assert entries() == before


def all_rows(rows):
    """All rows of all tables, by table, without the last use of tokens."""
    names = rows("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public' AND tablename !~ 'yoyo'")
    line = "SELECT (to_jsonb(t) - 'last_used_at')::text AS line FROM {} t ORDER BY 1"
    return {row["name"]: rows(line.format(row["name"])) for row in names}


async def test_a_rollback_removes_the_entry(only_requests, ci, things, rows, monkeypatch):
    """Each request fails after its entry was written: in a later statement, or at the commit."""
    run, case, artifact = await things()
    before = all_rows(rows)
    with monkeypatch.context() as patch:
        patch.setattr(SQL.suite_runs, "counts", "SELEKT 1")
        assert (await ci.post(RUNS, json={"name": "x"})).status == 500
    # A deferred trigger makes each commit fail, after the last statement of the transaction.
    rows("CREATE FUNCTION refuse() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$")
    rows(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON audit_entries DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    for method, path, sent in [
        ("POST", RUNS, {"name": "x"}),
        ("DELETE", f"{RUNS}/{run}", None),
        ("DELETE", f"{BASE}/artifacts/{artifact}", None),
        ("PUT", f"{BASE}/test-case-results/{case}/steps?prune=true", {"steps": [{"step_number": 1}]}),
        ("POST", SESSION, None),
    ]:
        reply = await ci.request(method, path, **({} if sent is None else {"json": sent}))
        assert reply.status == 500, (method, path)
    assert all_rows(rows) == before


async def test_an_action_whose_entry_cannot_be_written_fails(only_requests, ci, things, rows, command, stored_files):
    run, case, artifact = await things()
    assert command("token", "create", "--name", "mine")[0] == 0
    before, files = all_rows(rows), stored_files()
    rows("ALTER TABLE audit_entries ADD CONSTRAINT full_up CHECK (false) NOT VALID")
    for method, path, sent in [
        ("POST", RUNS, {"name": "x"}),
        ("DELETE", f"{RUNS}/{run}", None),
        ("DELETE", f"{BASE}/artifacts/{artifact}", None),
        ("PUT", f"{BASE}/test-case-results/{case}/steps?prune=true", {"steps": [{"step_number": 1}]}),
        ("POST", SESSION, None),
    ]:
        reply = await ci.request(method, path, **({} if sent is None else {"json": sent}))
        assert reply.status == 500, (method, path)
    for arguments in (["create", "--name", "new", "--project", "new"], ["rotate", "mine"], ["revoke", "mine"]):
        code, output, _ = command("token", *arguments)
        assert (code, output) == (1, "")
    assert all_rows(rows) == before and stored_files() == files


async def test_an_entry_written_through_the_pool_survives_a_rollback_of_the_request(client, one):
    pool = client.app[SERVICES].pool
    with pytest.raises(ZeroDivisionError):
        async with pool.transaction() as connection:
            await audit.record(connection, Action.LOGIN_SUCCEEDED, SOMEBODY, Subject("user", None, "alice"))
            await audit.record(pool, Action.LOGIN_FAILED, SOMEBODY, Subject("user", None, "alice"), reason="password")
            raise ZeroDivisionError
    entry = one()
    assert (entry["action"], entry["actor_kind"], entry["detail"]) == ("login.failed", "person", {"reason": "password"})


def test_the_handler_of_a_request_without_a_token_chooses_the_actor():
    call = Call("r1", "", False, "")
    assert call.actor() == Actor("anyone", None, None, None, "r1")
    alice = new_id(0)
    assert call.actor_as("person", alice, "alice") == Actor("person", alice, "alice", None, "r1")


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("a\0b", "a\ufffdb"),
        ("a\udcffb", "a\ufffdb"),
        ("x" * 500, "x" * 500),
        ("x" * 501, "x" * 499 + "…"),
        ("😀" * 1_000_000, "😀" * 499 + "…"),
        (NASTY, NASTY),
        ("", ""),
    ],
)
async def test_names_that_cannot_be_stored_are_cleaned_and_shortened(client, one, given, stored):
    actor = Actor("anyone", None, given, given, None)
    await audit.record(client.app[SERVICES].pool, Action.LOGIN_FAILED, actor, Subject("user", None, given))
    entry = one()
    assert (entry["actor_name"], entry["subject_name"]) == (stored, stored)
    assert len(entry["remote"]) <= 255


# --- append-only -----------------------------------------------------------------------------------------------

CHANGES = [
    "UPDATE audit_entries SET actor_name = 'nobody'",
    "UPDATE audit_entries SET detail = '{}' WHERE false",
    "DELETE FROM audit_entries",
    "DELETE FROM audit_entries WHERE id IN (SELECT id FROM audit_entries LIMIT 1)",
    "TRUNCATE audit_entries",
    "TRUNCATE audit_entries, suite_runs CASCADE",
    "INSERT INTO audit_entries SELECT * FROM audit_entries ON CONFLICT (id) DO UPDATE SET action = 'x'",
    "MERGE INTO audit_entries e USING (SELECT 1) AS x ON true WHEN MATCHED THEN DELETE",
    "WITH gone AS (DELETE FROM audit_entries RETURNING *) SELECT count(*) FROM gone",
    "SELECT * FROM audit_entries FOR UPDATE",
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", ["owner", "superuser", "replica"])
def test_no_role_can_change_or_delete_an_entry(dsn, add, entries, change, mode):
    add("suite_run.deleted", subject_name="nightly")
    before = entries()
    with psycopg.connect(dsn, autocommit=True) as connection:
        (is_super,) = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
        assert is_super
        if mode == "replica":
            connection.execute("SET session_replication_role = replica")
        if mode == "owner":
            role = f"owner_{connection.info.dbname}"
            connection.execute(f"CREATE ROLE {role}")
        try:
            if mode == "owner":
                connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
                connection.execute(f"ALTER TABLE audit_entries OWNER TO {role}")
                connection.execute(f"SET ROLE {role}")
            if change.startswith("SELECT"):  # row locks are allowed
                assert len(connection.execute(change).fetchall()) == 1
            else:
                with pytest.raises(errors.InsufficientPrivilege, match=r"audit_entries only grows: \w+ is refused"):
                    connection.execute(change)
            assert connection.execute("SELECT count(*) FROM audit_entries").fetchone() == (1,)
        finally:
            if mode == "owner":
                connection.execute("RESET ROLE")
                connection.execute(f"REASSIGN OWNED BY {role} TO current_user")
                connection.execute(f"DROP OWNED BY {role}")
                connection.execute(f"DROP ROLE {role}")
    assert entries() == before


async def test_a_server_account_that_owns_no_table_works_and_cannot_disable_the_trigger(dsn, rows, start, entries):
    """The account has the privileges that docs/access.md names."""
    name = f"server_{dsn.partition('?')[0].rpartition('/')[2]}"
    own = dsn.replace("//postgres@", f"//{name}@")
    rows(f"CREATE ROLE {name} LOGIN")
    try:
        rows(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}")
        client = await start(database={"dsn": own})
        assert (await client.get("/readyz")).status == 200
        run = (await (await client.post(RUNS, json={"name": "x", "run_key": "k"})).json())["id"]
        case = (await (await client.post(f"{RUNS}/{run}/test-cases", json={"name": "x"})).json())["id"]
        case = f"{BASE}/test-case-results/{case}"
        console = {"entries": [{"level": "info", "message": "x"}]}
        form = {"data": single(png()), "headers": {"Content-Type": CONTENT_TYPE}}
        for path, sent in [
            (f"{case}/steps", {"json": {"steps": [{"step_number": 1, "step_type": "x"}]}}),
            (f"{case}/artifacts", form),
            (f"{case}/console-logs", {"json": console}),
            (SESSION, {}),
        ]:
            reply = await client.post(path, **sent)
            assert reply.status == 201, await reply.text()
        assert (await client.delete(f"{RUNS}/{run}")).status == 204
        before = entries()
        assert len(before) == 3
        with psycopg.connect(own, autocommit=True) as connection:
            for statement in [
                *(change for change in CHANGES if not change.startswith("SELECT")),
                "DROP TABLE audit_entries",
                "DROP TRIGGER audit_entries_only_grows ON audit_entries",
                "ALTER TABLE audit_entries DISABLE TRIGGER ALL",
                "SET session_replication_role = replica",
                "CREATE OR REPLACE FUNCTION refuse_to_change_audit_entries() RETURNS TRIGGER LANGUAGE plpgsql AS ''",
            ]:
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(statement)
        assert entries() == before
        await client.close()
    finally:
        rows(f"DROP OWNED BY {name}")
        rows(f"DROP ROLE {name}")


def test_entries_outlive_the_project_and_the_token(rows, add, entries, make_token):
    make_token(name="ci", project="shop")
    (token,) = rows("SELECT id, project_id FROM tokens")
    add("suite_run.created", project_id=token["project_id"], actor_id=token["id"], subject_id=uuid4())
    before = entries()
    rows("DELETE FROM projects WHERE name = 'shop'")
    assert entries() == before and rows("SELECT FROM tokens") == []


# --- GET /api/v1/audit -----------------------------------------------------------------------------------------


async def test_admins_read_all_columns_of_an_entry(ci, who, read, rows):
    run = await (await ci.post(RUNS, json={"name": "nightly"}, headers=FROM)).json()
    page = await read()
    (row,) = rows("SELECT id, created_at FROM audit_entries")
    token = who()
    assert page == {
        "items": [
            {
                "id": str(row["id"]),
                "created_at": row["created_at"].isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "action": "suite_run.created",
                "actor_kind": "token",
                "actor_id": str(token["actor_id"]),
                "actor_name": "ci",
                "project_id": str(token["project_id"]),
                "project": "shop",
                "subject_kind": "suite_run",
                "subject_id": run["id"],
                "subject_name": "nightly",
                "remote": "203.0.113.9",
                "request_id": "find-me",
                "detail": {},
            }
        ],
        "next_cursor": None,
    }


async def test_an_admin_of_one_project_sees_only_its_entries(read, add, rows, start, make_token):
    ours, theirs = [await start(token=make_token(project=name)) for name in ("ours", "theirs")]
    of = {row["name"]: row["id"] for row in rows("SELECT id, name FROM projects")}
    subject = uuid4()
    mine = add("suite_run.deleted", project_id=of["ours"], subject_id=subject)
    foreign = add("suite_run.deleted", project_id=of["theirs"], subject_id=subject)
    server = add("token.created", subject_id=subject)
    gone = add("suite_run.deleted", project_id=uuid4(), subject_id=subject)
    for query in ({}, {"subject_id": subject}):
        seen = [[item["id"] for item in (await read(asking, **query))["items"]] for asking in (ours, theirs)]
        assert seen == [[str(mine)], [str(foreign)]]
        assert [item["id"] for item in (await read(**query))["items"]] == [*map(str, (gone, server, foreign, mine))]
    assert (await read(ours, action="token.created"))["items"] == []
    named = {item["id"]: (item["project"], item["project_id"]) for item in (await read())["items"]}
    assert named[str(server)] == (None, None) and named[str(mine)] == ("ours", str(of["ours"]))
    assert named[str(gone)][0] is None and named[str(gone)][1] is not None


async def test_a_session_cookie_reads_the_entries_of_its_token(ci, aiohttp_client, read):
    cookie = SimpleCookie((await ci.post(SESSION)).headers["Set-Cookie"])["reportd_session"].value
    browser = await aiohttp_client(
        ci.server, cookie_jar=DummyCookieJar(), headers={"Cookie": f"reportd_session={cookie}"}
    )
    assert [item["action"] for item in (await read(browser))["items"]] == ["session.started"]


async def test_filters_choose_entries_by_exact_values(read, add):
    subject = uuid4()
    first = add("suite_run.created", actor_kind="token", actor_name="ci", subject_id=subject)
    second = add("suite_run.deleted", actor_kind="person", actor_name="alice", subject_id=subject)
    third = add("login.failed", actor_name=NASTY)
    for query, found in [
        ({}, [third, second, first]),
        ({"action": "suite_run.deleted"}, [second]),
        ({"action": "link.revoked"}, []),
        ({"actor": "alice"}, [second]),
        ({"actor": "ALICE"}, []),
        ({"actor": "ali%"}, []),
        ({"actor": NASTY}, [third]),
        ({"actor": "' OR true --"}, []),
        ({"subject_id": subject}, [second, first]),
        ({"subject_id": subject, "actor": "ci"}, [first]),
        ({"subject_id": uuid4()}, []),
        ({"action": "", "actor": "", "subject_id": "", "since": "", "cursor": ""}, [third, second, first]),
    ]:
        assert [UUID(item["id"]) for item in (await read(**query))["items"]] == found, query


async def test_since_is_inclusive_and_until_is_exclusive(read, add):
    moments = [datetime(2026, 11, 20, 10, 0, 0, millisecond * 1000, tzinfo=UTC) for millisecond in (0, 1, 2, 999)]
    ids = [UUID(int=(int(at.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | 5) for at in moments]
    assert [add(id=entry_id) for entry_id in ids] == ids and [time_of(entry_id) for entry_id in ids] == moments
    second = "2026-11-20T10:00:0"
    for query, found in [
        ({"since": f"{second}0.001Z"}, ids[1:]),
        ({"since": f"{second}0.0005Z"}, ids[1:]),
        ({"since": f"{second}0.0011Z"}, ids[2:]),
        ({"since": "2026-11-20T11:00:00.001+01:00"}, ids[1:]),
        ({"until": f"{second}0.001Z"}, ids[:1]),
        ({"until": f"{second}0.0011Z"}, ids[:2]),
        ({"since": f"{second}0.001Z", "until": f"{second}0.999Z"}, ids[1:3]),
        ({"since": f"{second}1Z"}, []),
        ({"until": "1970-01-01T00:00:00Z"}, []),
        ({"until": "9998-12-31T23:59:59.999999Z"}, ids),
    ]:
        assert [UUID(item["id"]) for item in (await read(**query))["items"]] == found[::-1], query


async def test_paging_returns_every_entry_once(read, add):
    ids = [add("login.failed" if number % 3 else "logout") for number in range(10)]
    for query, expected in [({}, ids), ({"action": "logout"}, ids[::3])]:
        for limit in (1, 3, 10, 11):
            seen, cursor = [], {}
            while cursor is not None:
                page = await read(limit=limit, **query, **cursor)
                assert len(page["items"]) <= limit
                seen += [UUID(item["id"]) for item in page["items"]]
                if len(seen) == limit:
                    add("user.created")  # an entry added between pages is newer than the pages still to be read
                cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
            assert [entry for entry in seen if entry in expected] == expected[::-1]
            assert len(seen) == len(set(seen))


async def test_a_limit_that_is_too_large_is_lowered(read, add):
    for _ in range(3):
        add()
    assert len((await read(limit=500_000))["items"]) == 3
    assert len((await read())["items"]) == 3


@pytest.mark.parametrize(
    ("query", "path", "message"),
    [
        ({"action": "suite_run.eaten"}, "action", "must be one of: suite_run.created, suite_run.deleted, artifact."),
        ({"action": "SUITE_RUN_CREATED"}, "action", "must be one of"),
        ({"actor": "x" * 501}, "actor", "at most 500"),
        ({"actor": "\0"}, "actor", "NUL"),
        ({"subject_id": "7"}, "subject_id", ""),
        ({"since": "yesterday"}, "since", "ISO 8601"),
        ({"since": "0001-01-01"}, "since", "1970"),
        ({"until": "2026-13-01T00:00:00Z"}, "until", "ISO 8601"),
        ({"until": "9999-01-01"}, "until", "1970"),
        ({"limit": "0"}, "limit", "at least 1"),
        ({"limit": "ten"}, "limit", ""),
        ({"cursor": "nonsense"}, "cursor", "next_cursor"),
        ({"cursor": "ü"}, "cursor", "next_cursor"),
        ({"cursor": "x" * 101}, "cursor", "100"),
        ({"cursor": str(UUID(int=7))}, "cursor", "next_cursor"),
    ],
)
async def test_wrong_query_values_are_refused(client, query, path, message):
    reply = await client.get(AUDIT, params=query)
    body = await reply.json()
    assert reply.status == 422, body
    assert body["errors"][0]["path"] == path and message in body["errors"][0]["message"]


async def test_the_audit_trail_allows_only_get_and_head(client, add):
    add()
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        reply = await client.request(method, AUDIT)
        assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")


# --- reportd audit ---------------------------------------------------------------------------------------------


def test_the_command_prints_a_table(command, add, rows):
    (project,) = rows("SELECT id FROM projects")
    subject = UUID("019aa0c2-7a1b-7c3d-9e4f-5a6b7c8d9e0f")
    add(
        "suite_run.deleted",
        id=UUID("019aa0c2-7a1b-7000-8000-000000000001"),
        actor_kind="token",
        actor_name="ci",
        project_id=project["id"],
        subject_kind="suite_run",
        subject_name="nightly",
        subject_id=subject,
        remote="203.0.113.9",
    )
    add("login.failed", id=UUID("019aa0c2-7a1c-7000-8000-000000000001"))
    time = time_of(subject).strftime("%Y-%m-%d %H:%M:%S")
    code, output, stderr = command("audit")
    assert (code, stderr) == (0, "")
    assert [re.split(" {2,}", line) for line in output.splitlines()] == [
        ["TIME (UTC)", "ACTION", "ACTOR", "FROM", "PROJECT", "SUBJECT"],
        [time, "login.failed", "(anyone)", "-", "(all)", "user"],
        [time, "suite_run.deleted", "ci", "203.0.113.9", "default", f"suite_run nightly ({subject})"],
    ]


async def test_the_command_prints_the_json_of_the_api(command, add, read, rows):
    (project,) = rows("SELECT id FROM projects")
    add("token.created", detail=json.dumps({"role": "admin"}), project_id=project["id"], subject_id=uuid4())
    add(actor_name=NASTY)
    code, output, stderr = command("audit", "--json")
    assert (code, stderr) == (0, "")
    assert [json.loads(line) for line in output.splitlines()] == (await read())["items"]


def test_the_command_filters_by_its_options(command, add):
    long_ago = new_id(0).int - (8 * 86_400_000 << 80)
    subject = uuid4()
    old = add("suite_run.deleted", id=UUID(int=long_ago), actor_name="ci")
    new = add("suite_run.deleted", subject_id=subject)
    failed = add("login.failed", actor_name="ci")

    def chosen(*arguments):
        code, output, _ = command("audit", "--json", *arguments)
        assert code == 0
        return [UUID(json.loads(line)["id"]) for line in output.splitlines()]

    assert chosen() == [failed, new, old]
    assert chosen("--action", "suite_run.deleted") == [new, old]
    assert chosen("--actor", "ci") == [failed, old]
    assert chosen("--subject", str(subject)) == [new]
    assert chosen("--since", "7d") == [failed, new]
    assert chosen("--since", "7d", "--action", "suite_run.deleted") == [new]
    assert chosen("--limit", "1") == [failed]
    for arguments in (["--action", "x"], ["--since", "yesterday"], ["--limit", "0"], ["--subject", "x"], ["x"]):
        with pytest.raises(SystemExit) as ended:
            command("audit", *arguments)
        assert ended.value.code == 2, arguments


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 6, 7, 8])
def test_the_command_reads_in_portions_and_reports_that_there_are_more_entries(command, add, monkeypatch, limit):
    monkeypatch.setattr(audit_command, "_PAGE", 3)
    ids = [str(add()) for _ in range(7)]
    code, output, stderr = command("audit", "--json", "--limit", str(limit))
    assert code == 0 and [json.loads(line)["id"] for line in output.splitlines()] == ids[::-1][:limit]
    assert stderr == (
        f"reportd: Showing the newest {limit} entries only. Raise --limit to see older ones.\n" if limit < 7 else ""
    )


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_command_escapes_control_characters_in_names(command, add, rows, options):
    rows("INSERT INTO projects (name) VALUES (%s)", NASTY)
    (project,) = rows("SELECT id FROM projects WHERE name = %s", NASTY)
    columns = {"actor_name": NASTY * 20, "subject_name": NASTY, "remote": NASTY, "subject_kind": NASTY}
    add("login.failed", **columns, request_id=NASTY, detail=json.dumps({"a": NASTY}), project_id=project["id"])
    code, output, _ = command("audit", *options)
    lines = output.split("\n")
    assert code == 0 and len(lines) == (2 if options else 3) and lines[-1] == ""
    assert all(line.isprintable() for line in lines)
    assert r"\x1b[2J" in output or r"\u001b[2J" in output


def test_the_token_commands_escape_control_characters_in_names(command, rows, make_token):
    make_token(name=NASTY, project=NASTY)
    code, output, _ = command("token", "list")
    assert code == 0 and len(output.split("\n")) == 3 and output.replace("\n", "").isprintable()
    (row,) = rows("SELECT id::text FROM tokens")
    for verb in ("rotate", "revoke"):
        code, output, stderr = command("token", verb, row["id"])
        assert code == 0 and "\\x1b[2J" in output + stderr and (output + stderr).replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "arguments", [["audit", "--limit", "30000"], ["audit", "--json", "--limit", "30000"], ["token", "list"]]
)
def test_a_pipe_that_the_reader_closes_is_no_error(dsn, rows, add, arguments):
    """The reader closes it after the first bytes, or before it reads anything."""
    add()
    rows(
        "INSERT INTO audit_entries (id, created_at, action, actor_kind, subject_kind)"
        " SELECT gen_random_uuid(), now(), 'logout', 'anyone', 'user' FROM generate_series(1, 20000)"
    )
    environment = {**ENVIRONMENT, "REPORTD_DATABASE_DSN": dsn}
    for reads in (1, 0):
        ours, theirs = os.pipe()
        process = subprocess.Popen(
            [*REPORTD, *arguments], stdout=theirs, stderr=subprocess.PIPE, env=environment, cwd=CHECKOUT
        )
        os.close(theirs)
        if reads:
            assert os.read(ours, 10)
        os.close(ours)
        assert process.communicate(timeout=60)[1] == b""
        assert process.returncode == 0


def test_an_unreachable_database_is_reported_in_one_line(monkeypatch, command):
    monkeypatch.setenv("REPORTD_DATABASE_DSN", "postgresql://nobody@127.0.0.1:1/x")
    code, output, stderr = command("audit")
    assert (code, output) == (1, "") and stderr.startswith("reportd: ") and stderr.count("\n") == 1
