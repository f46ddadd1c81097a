"""Migrations and the schema: apply, roll back, the columns of both documents, constraints, rolling upgrades."""

import contextlib
import itertools
import json
import re
import subprocess
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

from server.database import migrate
from server.database.queries import data_folder
from tests.forms import CONTENT_TYPE, single
from tests.makers import png
from tests.up_server import CHECKOUT, ENVIRONMENT, REPORTD, wait_for

_numbers = itertools.count()
FOLDER = data_folder("migrations")


@pytest.fixture
def empty(postgres):
    """The DSN of a database without tables."""
    name = f"empty_{next(_numbers)}"
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    yield postgres.dsn(name)
    with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


COLUMNS = """
    SELECT table_name, column_name, data_type, udt_name, character_maximum_length, is_nullable, column_default,
           is_identity
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name !~ '^_?yoyo' ORDER BY 1, 2"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text !~ '^_?yoyo' ORDER BY 1, 2"""
INDEXES = """
    SELECT tablename, indexname, indexdef FROM pg_indexes
    WHERE schemaname = 'public' AND tablename !~ '^_?yoyo' ORDER BY 1, 2"""

FUNCTIONS = """
    SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1"""
AN_ENTRY = """
    INSERT INTO audit_entries (id, created_at, action, actor_kind, subject_kind)
    VALUES ('01900000-0000-7000-8000-000000000000', now(), 'logout', 'person', 'user')"""
TRIGGERS = """
    SELECT tgrelid::regclass::text, tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger
    WHERE NOT tgisinternal AND tgrelid::regclass::text !~ '^_?yoyo' ORDER BY 1, 2"""


def schema(dsn):
    with psycopg.connect(dsn) as connection:
        queries = (COLUMNS, CONSTRAINTS, INDEXES, FUNCTIONS, TRIGGERS)
        return [connection.execute(query).fetchall() for query in queries]


def query(dsn, sql):
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else None


# --- up and down -----------------------------------------------------------------------------------------------


def test_rolling_back_and_applying_again_restores_the_same_schema(empty):
    names = sorted(migrate.versions())
    assert migrate.apply(empty) == names and migrate.apply(empty) == []
    assert migrate.status(empty) == [(name, True) for name in names]
    full = schema(empty)
    assert len(full[0]) > 100
    steps = [full]
    for name in reversed(names):  # one by one: each rollback undoes only its own migration
        assert migrate.rollback(empty, 1) == [name]
        steps.append(schema(empty))
        change = sum(map(len, steps[-1])) - sum(map(len, steps[-2]))
        if migrate.waits(name):
            assert change > 0, name  # its rollback restores what the migration dropped
        else:
            assert change < 0 or (change == 0 and steps[-1] != steps[-2]), name
    assert steps[-1] == [[], [], [], [], []]
    assert migrate.rollback(empty, 1) == []
    assert [applied for _, applied in migrate.status(empty)] == [False] * len(names)
    assert migrate.apply(empty) == names
    assert schema(empty) == full


def test_a_rollback_ends_tokens_of_ci_jobs(empty):
    """Older servers could rotate such a token to one that does not end. Its name must be free when jobs come again."""
    names = migrate.apply(empty)
    insert = "INSERT INTO tokens (name, token_hash, role, subject_hash) VALUES ('%s', '%s', 'uploader', {})"
    query(empty, (insert % ("main #1", "a")).format("'x'") + ";" + (insert % ("of a person", "b")).format("NULL"))
    migrate.rollback(empty, len(names) - names.index("0033_add_token_subject"))
    assert query(empty, "SELECT name FROM tokens WHERE revoked_at IS NULL") == [("of a person",)]
    migrate.apply(empty)
    query(empty, (insert % ("main #1", "c")).format("'x'"))


def test_a_rollback_keeps_the_replies_that_are_stored_by_day(empty):
    names = migrate.apply(empty)
    insert = "INSERT INTO idempotency_{} (caller_id, key, fingerprint, status, body) VALUES (gen_random_uuid(), {})"
    query(empty, "SELECT make_idempotency_days()")
    query(empty, insert.format("replies", "'new', 'x', 201, 'b'") + ";" + insert.format("keys", "'old', 'y', 200, 'c'"))
    migrate.rollback(empty, len(names) - names.index("0044_create_idempotency_replies"))
    stored = "SELECT key, fingerprint, status, body FROM idempotency_keys ORDER BY key"
    assert query(empty, stored) == [("new", b"x", 201, b"b"), ("old", b"y", 200, b"c")]
    migrate.apply(empty)
    assert len(query(empty, stored)) == 2


def test_a_rollback_of_more_migrations_than_exist_undoes_all(empty):
    names = migrate.apply(empty)
    assert migrate.rollback(empty, 2) == names[:-3:-1]
    assert migrate.apply(empty, finish=True) == names[-2:]
    assert migrate.rollback(empty, 99) == names[::-1]


def test_every_migration_has_a_rollback_and_depends_on_an_earlier_one_that_drops_nothing():
    files = sorted(path.name for path in FOLDER.iterdir() if path.suffix == ".sql")
    forward = [name for name in files if not name.endswith(".rollback.sql")]
    assert [name for name in files if name.endswith(".rollback.sql")] == [
        name.replace(".sql", ".rollback.sql") for name in forward
    ]
    for number, name in enumerate(forward):
        assert re.fullmatch(rf"{number + 1:04}_[a-z]+_[a-z_]+\.sql", name), name
        depends = re.findall(r"^-- depends: (\w+)$", (FOLDER / name).read_text("utf-8"), re.MULTILINE)
        # The one before; but one that drops may still wait for --finish, so nothing depends on it.
        earlier = [other.removesuffix(".sql") for other in forward[:number]]
        assert depends == [other for other in earlier if not migrate.waits(other)][-1:], name


def test_no_migration_alters_two_tables():
    """It would hold one of them while it waits for the other: a deadlock with a request that uses both."""
    for name in sorted(migrate.versions()):
        if name > "0017" and not migrate.waits(name):  # the ones before are released
            text = (FOLDER / f"{name}.sql").read_text("utf-8")
            assert len(set(re.findall(r"^(?:ALTER TABLE|CREATE INDEX .* ON) (\w+)", text, re.MULTILINE))) <= 1, name


def test_a_killed_migration_does_not_block_the_next(empty):
    names = migrate.apply(empty)
    migrate.rollback(empty, 1)
    query(empty, "INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 4194304)")
    assert migrate.status(empty)[-1] == (names[-1], False)
    assert migrate.apply(empty, finish=True) == names[-1:]
    assert query(empty, "SELECT count(*) FROM yoyo_lock") == [(0,)]


def test_concurrent_runs_apply_each_migration_once(empty):
    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(migrate.apply, [empty] * 4))
    assert sorted(name for names in applied for name in names) == sorted(migrate.versions())
    assert sorted(map(len, applied)) == [0, 0, 0, len(migrate.versions())]


def test_a_failed_migration_is_rolled_back_completely(empty):
    names = migrate.apply(empty)
    migrate.rollback(empty, len(names) - 6)
    before = schema(empty)
    query(empty, "CREATE TABLE test_network_logs (x int)")  # makes the second CREATE TABLE of 0007 fail
    with pytest.raises(errors.DuplicateTable):
        migrate.apply(empty, finish=True)
    assert [name for name, applied in migrate.status(empty) if not applied] == names[6:]
    query(empty, "DROP TABLE test_network_logs")
    assert schema(empty) == before
    assert migrate.apply(empty, finish=True) == names[6:]


def test_both_dsn_schemes_are_accepted(empty):
    """psycopg and asyncpg accept postgresql:// and postgres://. yoyo needs a scheme that names the driver."""
    short = empty.replace("postgresql://", "postgres://")
    assert len(migrate.apply(short)) == len(migrate.status(empty))


# --- both documents --------------------------------------------------------------------------------------------

# Column names, types, lengths and nullability of both documents. docs/differences-from-the-documents.md lists the
# differences: byte counts are BIGINT.
TIME = "timestamp with time zone"
DOCUMENTS = {
    "test_step_results": {
        "id": ("uuid", None, "NO"),
        "test_case_result_id": ("uuid", None, "NO"),
        "step_number": ("integer", None, "NO"),
        "step_type": ("character varying", 50, "NO"),
        "action": ("character varying", 100, "YES"),
        "description": ("text", None, "YES"),
        "status": ("character varying", 20, "NO"),
        "duration_ms": ("integer", None, "YES"),
        "element_selector": ("text", None, "YES"),
        "element_name": ("character varying", 255, "YES"),
        "element_type": ("character varying", 50, "YES"),
        "input_value": ("text", None, "YES"),
        "expected_value": ("text", None, "YES"),
        "actual_value": ("text", None, "YES"),
        "error_message": ("text", None, "YES"),
        "error_type": ("character varying", 100, "YES"),
        "stack_trace": ("text", None, "YES"),
        "screenshot_path": ("character varying", 500, "YES"),
        "screenshot_artifact_id": ("uuid", None, "YES"),
        "started_at": (TIME, None, "YES"),
        "completed_at": (TIME, None, "YES"),
        "created_at": (TIME, None, "NO"),
        "updated_at": (TIME, None, "NO"),
        # In neither document.
        "iteration_number": ("integer", None, "NO"),
        "screenshot_pinned": ("boolean", None, "NO"),
        "parent_step_number": ("integer", None, "YES"),
        "link_name": ("ARRAY", None, "YES"),
    },
    "test_artifacts": {
        "id": ("uuid", None, "NO"),
        "test_case_result_id": ("uuid", None, "NO"),
        "step_result_id": ("uuid", None, "YES"),
        "artifact_type": ("character varying", 50, "NO"),
        "artifact_category": ("character varying", 50, "YES"),
        "step_number": ("integer", None, "YES"),
        "iteration_number": ("integer", None, "NO"),
        "file_name": ("character varying", 255, "NO"),
        "file_size": ("bigint", None, "NO"),
        "mime_type": ("character varying", 100, "NO"),
        "checksum": ("character varying", 64, "NO"),
        "storage_path": ("text", None, "NO"),
        "description": ("text", None, "YES"),
        "captured_at": (TIME, None, "YES"),
        "uploaded_at": (TIME, None, "NO"),
        "created_at": (TIME, None, "NO"),
        "dedupe_key": ("bytea", None, "NO"),  # in neither document
        "text_encoding": ("character varying", 10, "YES"),  # in neither document
        "link_name": ("text", None, "YES"),  # in neither document
    },
}
DEFAULTS = {
    ("test_step_results", "id"): "gen_random_uuid()",
    ("test_step_results", "status"): "'Pending'",
    ("test_step_results", "iteration_number"): "1",
    ("test_step_results", "created_at"): "CURRENT_TIMESTAMP",
    ("test_step_results", "updated_at"): "CURRENT_TIMESTAMP",
    ("test_artifacts", "id"): "gen_random_uuid()",
    ("test_artifacts", "iteration_number"): "1",
    ("test_artifacts", "uploaded_at"): "CURRENT_TIMESTAMP",
    ("test_artifacts", "created_at"): "CURRENT_TIMESTAMP",
}


def test_the_tables_have_the_columns_of_both_documents(dsn):
    columns, constraints, indexes, *_ = schema(dsn)
    for table, expected in DOCUMENTS.items():
        found = {name: (kind, length, null) for t, name, kind, _, length, null, _, _ in columns if t == table}
        assert found == expected
    defaults = {(table, name): default or "" for table, name, _, _, _, _, default, _ in columns}
    assert {key: default for key, default in DEFAULTS.items() if not defaults[key].startswith(default)} == {}
    named = {name for _, name, _ in constraints} | {name for _, name, _ in indexes}
    assert named >= {
        "unique_step_per_test",
        "unique_artifact_path",
        "idx_step_results_test_case",
        "idx_step_results_status",
        "idx_artifacts_test_case",
        "idx_artifacts_type",
        "idx_artifacts_step",
    }


def test_every_row_of_a_test_case_is_deleted_with_it(dsn):
    constraints = schema(dsn)[1]
    owned = {
        table
        for table, _, definition in constraints
        if definition == "FOREIGN KEY (test_case_result_id) REFERENCES test_case_results(id) ON DELETE CASCADE"
    }
    assert owned == {
        "expected_artifacts",
        "test_step_results",
        "test_artifacts",
        "test_checkpoints",
        "test_console_logs",
        "test_network_logs",
        "evidence_links",
    }


# Constraints and indexes that are as the specification gives them.
AS_SPECIFIED = {"unique_artifact_path", "idx_artifacts_step"}
SPECIFIED_COLUMNS = {
    "test_step_results": "id test_case_result_id step_number step_type action description status duration_ms"
    " element_selector element_name element_type input_value expected_value actual_value error_message error_type"
    " stack_trace screenshot_artifact_id started_at completed_at created_at",
    "test_artifacts": "id test_case_result_id artifact_type file_name file_size mime_type checksum storage_path"
    " step_number iteration_number artifact_category description captured_at uploaded_at created_at",
}


def test_the_page_of_differences_names_every_column_constraint_and_index_of_our_own(dsn):
    page = (CHECKOUT / "docs/differences-from-the-documents.md").read_text("utf-8")
    named = set(re.findall(r"`([\w.]+)`", page))
    columns, constraints, indexes, *_ = schema(dsn)
    own = {name for table, name, *_ in [*constraints, *indexes] if table in DOCUMENTS} - AS_SPECIFIED
    usual = re.compile(r".*_pkey|.*_test_case_result_id_fkey|.*_not_null")  # PostgreSQL 18 names NOT NULL, too
    assert sorted(name for name in own - named if not usual.fullmatch(name)) == []
    added = {
        f"{table}.{name}"
        for table, name, *_ in columns
        if table in DOCUMENTS and name not in SPECIFIED_COLUMNS[table].split()
    }
    assert sorted(added - named) == []


def test_every_foreign_key_has_an_index(dsn):
    """Without one, each delete of a referenced row would scan the whole referencing table."""
    found = query(
        dsn,
        """
        SELECT c.conname FROM pg_constraint c
        WHERE c.contype = 'f' AND c.connamespace = 'public'::regnamespace AND c.confdeltype <> 'a' AND NOT EXISTS (
            SELECT FROM pg_index i
            WHERE i.indrelid = c.conrelid AND i.indkey[0] = ANY (c.conkey) AND (
                i.indkey[0] = c.conkey[array_length(c.conkey, 1)] OR array_length(c.conkey, 1) = 1))
        """,
    )
    # The exception: there are few tokens, and no request deletes a project.
    assert {name for (name,) in found} <= {"tokens_project_id_fkey"}


# --- constraints -----------------------------------------------------------------------------------------------


@pytest.fixture
def two_cases(rows):
    """The ids of two test cases, each with a step and an artifact: (case, step, artifact)."""
    rows("INSERT INTO suite_runs (project_id, name) SELECT id, 'r' FROM projects")
    made = []
    for name in ("a", "b"):
        insert = (
            "INSERT INTO test_case_results (suite_run_id, project_id, name, test_id)"
            " SELECT id, project_id, %s, 't' FROM suite_runs RETURNING id"
        )
        case = rows(insert, name)[0]["id"]
        insert = (
            "INSERT INTO test_step_results (test_case_result_id, step_number, step_type)"
            " VALUES (%s, 1, 'x') RETURNING id"
        )
        step = rows(insert, case)[0]["id"]
        insert = (
            "INSERT INTO test_artifacts (test_case_result_id, artifact_type, file_name, file_size, mime_type, checksum,"
            " storage_path, dedupe_key) VALUES (%s, 'log', 'x', 1, 'text/plain', 'x', %s, 'k') RETURNING id"
        )
        made.append((case, step, rows(insert, case, name)[0]["id"]))
    return made


def test_a_screenshot_of_another_test_case_is_refused(rows, two_cases):
    (case, step, own), (_, other_step, foreign) = two_cases
    with pytest.raises(errors.ForeignKeyViolation):
        rows("UPDATE test_step_results SET screenshot_artifact_id = %s WHERE id = %s", foreign, step)
    with pytest.raises(errors.ForeignKeyViolation):
        rows("UPDATE test_artifacts SET step_result_id = %s WHERE id = %s", other_step, own)
    insert = (
        "INSERT INTO test_checkpoints (test_case_result_id, checkpoint_number, name, screenshot_artifact_id)"
        " VALUES (%s, 1, 'c', %s)"
    )
    with pytest.raises(errors.ForeignKeyViolation):
        rows(insert, case, foreign)
    rows(insert, case, own)
    rows("UPDATE test_step_results SET screenshot_artifact_id = %s WHERE id = %s", own, step)
    rows("UPDATE test_artifacts SET step_result_id = %s WHERE id = %s", step, own)


def test_deleting_an_artifact_or_step_clears_only_the_reference(rows, two_cases):
    (case, step, artifact), _ = two_cases
    rows("UPDATE test_step_results SET screenshot_artifact_id = %s WHERE id = %s", artifact, step)
    rows("UPDATE test_artifacts SET step_result_id = %s WHERE id = %s", step, artifact)
    rows("DELETE FROM test_artifacts WHERE id = %s", artifact)
    (left,) = rows("SELECT test_case_result_id, screenshot_artifact_id FROM test_step_results WHERE id = %s", step)
    assert left == {"test_case_result_id": case, "screenshot_artifact_id": None}
    (_, (_, step, artifact)) = two_cases
    rows("UPDATE test_artifacts SET step_result_id = %s WHERE id = %s", step, artifact)
    rows("DELETE FROM test_step_results WHERE id = %s", step)
    (left,) = rows("SELECT test_case_result_id IS NULL AS lost, step_result_id FROM test_artifacts")
    assert left == {"lost": False, "step_result_id": None}


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("UPDATE suite_runs SET status = 'passed'", errors.CheckViolation),
        ("UPDATE test_case_results SET status = 'Running'", errors.CheckViolation),
        ("UPDATE test_step_results SET status = ''", errors.CheckViolation),
        ("UPDATE test_artifacts SET artifact_type = 'picture'", errors.CheckViolation),
        ("UPDATE test_artifacts SET artifact_category = 'during'", errors.CheckViolation),
        ("UPDATE test_artifacts SET storage_path = 'same'", errors.UniqueViolation),
        (
            "UPDATE test_step_results SET test_case_result_id = (SELECT id FROM test_case_results LIMIT 1)",
            errors.UniqueViolation,
        ),
        ("UPDATE test_case_results SET suite_run_id = gen_random_uuid()", errors.ForeignKeyViolation),
        ("INSERT INTO projects (name) VALUES ('default')", errors.UniqueViolation),
    ],
)
def test_rows_that_violate_a_constraint_are_refused(rows, two_cases, statement, error):
    with pytest.raises(error):
        rows(statement)


def test_the_only_trigger_keeps_the_audit_log_append_only(dsn):
    tables = ["audit_entries", "audit_entries_first", "audit_entries_other"]
    assert [(table, name) for table, name, *_ in schema(dsn)[-1]] == [(t, "audit_entries_only_grows") for t in tables]


def test_the_default_project_exists(rows):
    assert [row["name"] for row in rows("SELECT name FROM projects")] == ["default"]


# --- rolling upgrades -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("0045_drop_idempotency_trigger", "SELECT FROM idempotency_keys"),
        ("0046_add_audit_bound", AN_ENTRY),
        ("0047_partition_audit_entries", AN_ENTRY),
    ],
)
def test_requests_go_on_while_an_upgrade_waits_for_a_backup(dsn, monkeypatch, name, statement):
    """If the upgrade waited for its lock, requests would wait behind it, until a backup of hours has ended."""
    monkeypatch.setattr(migrate, "_LOCKED_SECONDS", 0.5)
    undone = migrate.rollback(dsn, 1)
    while undone[-1] != name:
        undone += migrate.rollback(dsn, 1)
    waits = "SELECT 1 FROM pg_locks WHERE NOT granted"
    with psycopg.connect(dsn) as backup, psycopg.connect(dsn) as request, ThreadPoolExecutor(1) as pool:
        backup.execute("SELECT FROM audit_entries, idempotency_keys")
        applied = pool.submit(migrate.apply, dsn, finish=True)
        try:
            wait_for(lambda: query(dsn, waits) or applied.done())
            request.execute("SET lock_timeout = '20s'")
            request.execute(statement)
            request.commit()
            assert not applied.done()
        finally:
            backup.rollback()
        assert sorted(applied.result()) == sorted(undone)


@pytest.fixture(scope="session")
def previous(tmp_path_factory):
    """A checkout of the version before the newest migration. Skips the test without a git history."""
    newest = sorted(migrate.versions())[-1]
    log = ["git", "log", "--format=%H", "--diff-filter=A", "--", f"migrations/{newest}.sql"]
    found = subprocess.run(log, cwd=CHECKOUT, capture_output=True, text=True)
    if found.returncode != 0:
        pytest.skip("not a git checkout")
    commit = f"{found.stdout.split()[-1]}^" if found.stdout else "HEAD"
    folder = tmp_path_factory.mktemp("previous")
    archive = ["git", "archive", commit, "server", "sql", "migrations"]
    tar = subprocess.run(archive, cwd=CHECKOUT, capture_output=True)
    if tar.returncode != 0:
        pytest.skip("a shallow clone: the commit is missing")
    subprocess.run(["tar", "-x"], input=tar.stdout, cwd=folder, check=True)
    assert not (folder / f"migrations/{newest}.sql").exists()
    return folder


class Worker(threading.Thread):
    """Sends steps and a screenshot to new test cases in a loop. `linked` records which steps have a screenshot."""

    def __init__(self, url, token):
        super().__init__()
        self.client, self.over, self.linked = Api(url, token), threading.Event(), []

    def run(self):
        while not self.over.is_set():
            case = self.client.post("/suite-runs", {"name": "x"}, "/suite-runs/{}/test-cases", {"name": "x"})
            url = f"/test-case-results/{case['id']}"
            self.client.post(f"{url}/steps", {"steps": [{"step_number": n, "step_type": "click"} for n in range(3)]})
            self.client.send(f"{url}/artifacts", single(png(), step_number=1), CONTENT_TYPE)
            shown = [step["screenshot"] is not None for step in self.client.get(f"{url}/steps")["steps"]]
            self.linked.append(shown)

    def end(self):
        self.over.set()
        self.join(60)


class Api:
    """A client of one server. An error status raises HTTPError."""

    def __init__(self, url, token):
        self.url, self.headers = f"{url}/api/v1/reports", {"Authorization": f"Bearer {token}"}

    def post(self, path, body, *then):
        made = self.send(path, json.dumps(body).encode(), "application/json")
        return self.post(then[0].format(made["id"]), then[1]) if then else made

    def get(self, path):
        with urllib.request.urlopen(urllib.request.Request(self.url + path, headers=self.headers), timeout=30) as reply:
            return json.loads(reply.read())

    def send(self, path, body, kind):
        headers = {**self.headers, "Content-Type": kind}
        with urllib.request.urlopen(urllib.request.Request(self.url + path, body, headers), timeout=30) as reply:
            return json.loads(reply.read())


@contextlib.contextmanager
def serving(folder, dsn, storage):
    """Runs the server of a checkout inside the `with` block; its URL."""
    environ = {**ENVIRONMENT, "REPORTD_DATABASE_DSN": dsn, "REPORTD_ARTIFACTS_STORAGE_PATH": str(storage)}
    command = [*REPORTD, "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield re.search(r"http://\S+", process.stdout.readline())[0]
        finally:
            process.terminate()
            assert process.wait(60) == 0


def test_an_old_server_keeps_working_while_the_database_is_migrated(empty, previous, tmp_path):
    """A rolling upgrade: migrate, replace one server after the other, and --finish after the last old one has ended."""
    environ = {**ENVIRONMENT, "REPORTD_DATABASE_DSN": empty}
    subprocess.run([*REPORTD, "migrate"], cwd=previous, env=environ, check=True, capture_output=True)
    token = subprocess.run(
        [*REPORTD, "token", "create", "--name", "x"],
        cwd=previous,
        env=environ,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    storage = tmp_path / "artifacts"
    with contextlib.ExitStack() as new:
        with serving(previous, empty, storage) as url:
            workers = [Worker(url, token)]
            workers[0].start()
            wait_for(lambda: workers[0].linked)
            migrate.apply(empty)
            for _ in range(2):  # the second new entry is of a round that began after the migration
                before = len(workers[0].linked)
                wait_for(lambda before=before: len(workers[0].linked) > before)
            workers.append(Worker(new.enter_context(serving(CHECKOUT, empty, storage)), token))
            workers[1].start()
            wait_for(lambda: len(workers[1].linked) > 2)
            workers[0].end()
        migrate.apply(empty, finish=True)
        before = len(workers[1].linked)
        wait_for(lambda: len(workers[1].linked) > before + 2)
        workers[1].end()
    assert all(shown == [False, True, False] for worker in workers for shown in worker.linked)
    assert not any(worker.is_alive() for worker in workers)
    assert all(applied for _, applied in migrate.status(empty))
