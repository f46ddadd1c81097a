"""Every named query runs on the migrated schema, returns its columns in the expected order, and is used."""

import ast
import dataclasses
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from server.auth import access_tokens, people
from server.database.pool import _SESSION
from server.database.queries import data_folder, load_sql
from server.http import reply
from server.reports import (
    artifacts,
    audit,
    checkpoints,
    downloads,
    errors,
    insights,
    links,
    logs,
    projects,
    search,
    shards,
    steps,
    suite_runs,
    test_cases,
    tests,
    usage,
    webhooks,
)
from server.storage.disk import Removal

SERVER = Path(__file__).parent.parent.parent / "server"
SOURCES = {path.relative_to(SERVER).as_posix(): path.read_text("utf-8") for path in SERVER.rglob("*.py")}
SQL = load_sql()
QUERIES = {f"{noun}.{name}": text for noun, queries in vars(SQL).items() for name, text in vars(queries).items()}


def fields(kind):
    return [field.name for field in dataclasses.fields(kind)]


RUN = fields(suite_runs.SuiteRun)[:-2]  # the counts come from another query
MATCHING = ["test_case_result_id", "id", "iteration_number", "step_number", "name", "screenshot_pinned", "shown"]
MATCHING += ["shown_iteration", "shown_number", "shown_name", "shown_category"]
COUNTS = ["suite_run_id", *fields(suite_runs.TestCounts), "total_duration_ms"]
# Rows are unpacked by position: the columns of a query must be in the order of the dataclass fields.
COLUMNS = {
    "suite_runs.by_id": RUN,
    "suite_runs.by_ids": RUN,
    "suite_runs.page": RUN,
    "suite_runs.counts": COUNTS,
    "test_cases.insert_many": [*fields(test_cases.TestCase), "unknown_error"],
    "test_cases.by_id": fields(test_cases.TestCase),
    "test_cases.for_run": [*fields(test_cases.TestCase), "last", "bytes"],
    "steps.for_case": [*fields(steps.Step), "last_iteration", "last_number", "bytes"],
    "steps.portion": ["shown", "bytes", "iteration_number", "step_number"],
    "steps.insert_many": fields(steps.Step),
    "steps.by_ids": fields(steps.Step),
    "steps.matching": MATCHING,
    "steps.prune": ["iteration_number", "artifact_ids"],
    "steps.counts": ["total_steps", "passed_steps", "failed_steps", "skipped_steps", "pending_steps", "matching"],
    "steps.illustrated": [
        *["total_steps", "passed_steps", "failed_steps", "skipped_steps", "pending_steps", "matching", "steps"],
    ],
    "steps.replace_many": ["id", "iteration_number", "step_number"],
    "artifacts.by_id": fields(artifacts.Artifact),
    "artifacts.for_case": [*fields(artifacts.Artifact), "last_iteration", "last_step", "last", "bytes"],
    "artifacts.insert_many": ["created_at"],
    "artifacts.lock": ["project_id", "known", "taken", "expected", *MATCHING],
    "artifacts.delete": fields(Removal),
    "artifacts.remove_of_run": fields(Removal),
    "artifacts.duplicates": ["dedupe_key", *fields(artifacts.Artifact)],
    "artifacts.removed": fields(Removal),
    "artifacts.for_download": fields(downloads.Stored),
    "insights.runs": fields(insights.Run),
    "insights.fragile": fields(insights.FragileSelector),
    "insights.selectors_with": fields(search.FoundSelector),
    "links.create": [*fields(links.Link), "project_id"],
    "links.page": fields(links.Link),
    "links.by_id": fields(links.Link),
    "users.page": fields(people.Listed),
    "users.one": fields(people.Listed),
    "tokens.page": fields(access_tokens.Listed),
    "tokens.one": fields(access_tokens.Listed),
    "projects.page": fields(projects.Listed),
    "links.open": ["project_id", "thing_id", "kind"],
    "links.covered_artifact": fields(downloads.Stored),
    "checkpoints.for_case": [*fields(checkpoints.Checkpoint), "seq", "bytes"],
    "logs.console_for_case": [*fields(logs.ConsoleEntry), "seq", "bytes"],
    "logs.network_for_case": [*fields(logs.NetworkEntry), "seq", "bytes"],
    "test_cases.report_counts": ["artifacts", "checkpoints", "console", "network"],
    "errors.facts": [
        *fields(errors.ErrorGroup)[:-2],
        *["first_id", "first_run", "first_branch", "first_commit", "first_started"],
        *["last_id", "last_run", "last_branch", "last_commit", "last_started"],
    ],
    "errors.days": fields(errors.ErrorDay),
    "errors.tests": fields(errors.ErrorTest),
    "errors.results": fields(tests.HistoryEntry),
    "errors.of_run": ["project_id", "error_fingerprint", "tests", "failed_tests", *fields(errors.FailedTest)],
    "tests.history": fields(tests.HistoryEntry),
    "tests.summary": fields(tests.HistorySummary),
    "search.tests": [*fields(search.FoundTest)[1:3], "id", "suite_run_id", "status", "literal", "found", "last"],
    "audit.page": fields(audit.AuditEntry),
    "webhooks.latest": fields(webhooks.Delivery),
    "audit.page_of_action": fields(audit.AuditEntry),
    "audit.page_of_actor": fields(audit.AuditEntry),
    "shards.errors": fields(shards.ShardError),
    "expected_artifacts.of_run": fields(shards.MissingArtifact),
    "usage.of_projects": fields(usage.Usage),
    "usage.total": fields(usage.Total),
}


@pytest.fixture
async def connection(dsn):
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def test_every_query_runs_on_the_schema_and_returns_its_columns_in_order(connection):
    assert len(QUERIES) > 50 and COLUMNS.keys() <= QUERIES.keys()
    wrong = {}
    for name, text in QUERIES.items():
        try:
            prepared = await connection.prepare(text)
        except asyncpg.PostgresError as error:
            wrong[name] = str(error)
            continue
        columns = [column.name for column in prepared.get_attributes()]
        if columns != COLUMNS.get(name, columns):
            wrong[name] = columns
    assert wrong == {}


async def test_every_parameter_has_a_type(connection):
    """Otherwise PostgreSQL would guess the type of a parameter and convert its value to that type."""
    for name, text in QUERIES.items():
        types = [kind.name for kind in (await connection.prepare(text)).get_parameters()]
        assert not {"unknown", "anyelement"} & set(types), name
        assert len(types) == max([int(number) for number in re.findall(r"\$(\d+)", text)], default=0), name


def test_every_query_with_a_limit_has_an_order():
    for name, text in QUERIES.items():
        assert "LIMIT" not in text or "ORDER BY" in text or name.rpartition(".")[2].startswith("sweep"), name
        assert not text.rstrip().endswith(";"), name


def used(noun, name):
    """Whether a module uses the query, as `SQL.noun.name` or as `sql.name` after `sql = SQL.noun`."""
    for text in SOURCES.values():
        if re.search(rf"\bSQL\.{noun}\.{name}\b", text):
            return True
        bound = re.findall(rf"\b(\w+)(?:, \w+)* = SQL\.{noun}\b(?!\.)", text)
        if any(re.search(rf"\b{variable}\.{name}\b", text) for variable in bound):
            return True
    return name == "project_of" and f'("{noun}", ' in SOURCES["reports/scope.py"]


def test_every_query_is_used():
    assert [name for name in QUERIES if not used(*name.split("."))] == []


def test_no_sql_is_written_in_python():
    """The two exceptions: the lock of the migrations, and the creation of a private database."""
    words = re.compile(r"\b(SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM|WITH \w+ AS)\b")
    found = []
    for name, text in SOURCES.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and words.search(node.value):
                found.append(f"{name}:{node.lineno}")
    assert [place for place in found if not place.startswith(("database/migrate.py", "database/embedded.py"))] == []
    assert found  # the exceptions are found: the search works


def test_every_sql_file_is_one_noun_of_the_queries():
    assert {path.stem for path in data_folder("sql").glob("*.sql")} == vars(SQL).keys()


@pytest.mark.parametrize(
    "text", ["SELECT 1\n-- name: a\nSELECT 2", "-- name: a\nSELECT 1\n-- name: b\nSELECT 2\n-- name: a\nSELECT 3"]
)
def test_a_query_without_a_name_or_with_a_duplicate_name_is_an_error(tmp_path, text):
    (tmp_path / "x.sql").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"x\.sql"):
        load_sql(tmp_path)


def test_comments_before_and_inside_a_query_are_allowed(tmp_path):
    (tmp_path / "x.sql").write_text("-- a file\n\n-- name: a\n-- why\nSELECT 1\n\n-- name: b\nSELECT 2\n", "utf-8")
    loaded = load_sql(tmp_path)
    assert (loaded.x.a, loaded.x.b) == ("-- why\nSELECT 1", "SELECT 2")


def rows_touched(plan: dict) -> int:
    """How many rows all nodes of a plan returned or filtered out."""
    loops = plan.get("Actual Loops", 1)
    own = sum(
        plan.get(name, 0) * loops for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter")
    )
    return int(own) + sum(rows_touched(child) for child in plan.get("Plans", []))


@pytest.fixture
def large_case(rows):
    """A test case of 1,000 steps and 400 screenshots, without statistics, as after a bulk load."""
    run = rows("INSERT INTO suite_runs (project_id, name) SELECT id, 'x' FROM projects RETURNING id")[0]["id"]
    case = rows(
        "INSERT INTO test_case_results (suite_run_id, project_id, name, test_id)"
        " SELECT %s, id, 'x', 'x' FROM projects RETURNING id",
        run,
    )[0]["id"]
    rows(
        "INSERT INTO test_step_results (test_case_result_id, step_number, step_type, screenshot_path)"
        " SELECT %s, n, 'click', n || '.png' FROM generate_series(1, 1000) AS n",
        case,
    )
    rows(
        "INSERT INTO test_artifacts (test_case_result_id, artifact_type, step_number, file_name, file_size, mime_type,"
        " checksum, storage_path, dedupe_key)"
        " SELECT %s, 'screenshot', n, n || '.png', 1, 'image/png', '', n::text, n::text::bytea"
        " FROM generate_series(1, 400) AS n",
        case,
    )
    return case


async def touched_by(connection, query, *arguments):
    """How many rows a query touches, with the session settings of the pool and a generic plan."""
    await connection.execute(_SESSION)
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    plan = await connection.fetchval("EXPLAIN (ANALYZE, FORMAT JSON) " + query, *arguments)
    return rows_touched(json.loads(plan)[0]["Plan"])


async def test_linking_a_large_test_case_is_linear(connection, rows, large_case):
    """Without statistics, the planner expects a single step in the test case."""
    steps_of = [row["id"] for row in rows("SELECT id FROM test_step_results")]
    artifacts_of = [row["id"] for row in rows("SELECT id FROM test_artifacts")]
    touched = await touched_by(connection, SQL.steps.link, large_case, steps_of)
    assert touched < 60 * 1400, touched
    assert len(rows("SELECT FROM test_step_results WHERE screenshot_artifact_id IS NOT NULL")) == 400
    touched = await touched_by(connection, SQL.steps.own_artifacts, large_case, steps_of, artifacts_of)
    assert touched < 30 * 1400, touched
    assert len(rows("SELECT FROM test_artifacts WHERE step_result_id IS NOT NULL")) == 400


async def test_a_small_upload_links_only_its_own_steps(connection, rows, large_case):
    found = await connection.fetch(SQL.steps.matching, [large_case], [7], ["407.png"])
    assert sorted(row["step_number"] for row in found) == [7, 407]
    touched = await touched_by(connection, SQL.steps.matching, [large_case], [7], ["407.png"])
    assert touched < 3 * 1400, touched


EVERY = 0, 0, 2**31 - 1, 2**31 - 1, None  # arguments of `illustrated`: the bounds, and no limit of bytes


async def test_listing_a_large_test_case_is_linear(connection, rows, large_case):
    await link_all(connection, rows, large_case)
    touched = await touched_by(connection, SQL.steps.illustrated, large_case, None, None, None, None, 0, *EVERY)
    assert touched < 20 * 1400, touched


async def link_all(connection, rows, case):
    steps_of = [row["id"] for row in rows("SELECT id FROM test_step_results")]
    await connection.fetch(SQL.steps.link, case, steps_of)
    await connection.execute(SQL.steps.own_artifacts, case, steps_of, [])


async def test_the_json_of_steps_built_in_sql_has_the_fields_of_the_models(connection, rows, large_case):
    await link_all(connection, rows, large_case)
    row = await connection.fetchrow(SQL.steps.illustrated, large_case, None, None, None, 1, 0, *EVERY)
    (step,) = json.loads(row["steps"])
    assert list(step) == fields(steps.IllustratedStep)
    assert list(step["screenshot"]) == fields(steps.Screenshot)
    assert list(step["artifacts"][0]) == fields(steps.StepArtifact)
    moment = await connection.fetchval("SELECT created_at FROM test_step_results WHERE id = $1", step["id"])
    assert json.loads(reply.encode(moment)) == step["created_at"]


@pytest.mark.parametrize("microsecond", [0, 1, 999, 1000, 123_000, 999_999])
async def test_times_formatted_by_sql_and_by_python_are_equal(connection, microsecond):
    moment = datetime(1970, 1, 1, 0, 0, 0, microsecond, tzinfo=UTC)
    expected = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert json.loads(reply.encode(moment)) == expected
    (form,) = set(re.findall(r"to_char\([\w.]+ (AT TIME ZONE 'UTC', '[^']+')\)", SQL.steps.illustrated))
    await connection.execute("SET timezone = 'Asia/Kathmandu'")  # a connection pooler may have changed it
    assert await connection.fetchval(f"SELECT to_char($1::timestamptz {form})", moment) == expected
