"""Every named query: it runs on the migrated schema, feeds its reply in the right order, and is used."""

import ast
import dataclasses
import re
from pathlib import Path

import asyncpg
import pytest

from server.api import artifacts, checkpoints, logs, steps, suite_runs, test_cases
from server.db import data_folder, load_sql

SERVER = Path(__file__).parent.parent / "server"
SOURCES = {path.relative_to(SERVER).as_posix(): path.read_text("utf-8") for path in SERVER.rglob("*.py")}
SQL = load_sql()
QUERIES = {f"{noun}.{name}": text for noun, queries in vars(SQL).items() for name, text in vars(queries).items()}


def fields(kind):
    return [field.name for field in dataclasses.fields(kind)]


RUN = fields(suite_runs.SuiteRun)[:-2]  # the counts are another query's
COUNTS = ["suite_run_id", *fields(suite_runs.TestCounts), "total_duration_ms"]
# What a handler unpacks by position: the columns in the order of the dataclass.
COLUMNS = {
    "suite_runs.by_id": RUN,
    "suite_runs.page": RUN,
    "suite_runs.counts": COUNTS,
    "test_cases.insert_many": fields(test_cases.TestCase),
    "test_cases.by_id": fields(test_cases.TestCase),
    "test_cases.for_run": fields(test_cases.TestCase),
    "steps.for_case": fields(steps.Step),
    "steps.insert_many": fields(steps.Step),
    "steps.counts": ["total_steps", "passed_steps", "failed_steps", "skipped_steps", "pending_steps", "matching"],
    "steps.replace_many": ["id", "iteration_number", "step_number"],
    "artifacts.by_id": fields(artifacts.Artifact),
    "artifacts.for_case": fields(artifacts.Artifact),
    "artifacts.insert_many": fields(artifacts.Artifact),
    "artifacts.lock": ["project_id", "known", "taken"],
    "artifacts.duplicates": ["dedupe_key", *fields(artifacts.Artifact)],
    "artifacts.for_download": ["storage_path", "file_name", "file_size", "mime_type", "checksum"],
    "artifacts.of_steps": [
        *["id", "step_result_id", "artifact_type", "artifact_category", "file_name", "file_size", "mime_type"],
        *["captured_at", "download_url"],
    ],
    "artifacts.removed": ["storage_path", "project_id", "checksum"],
    "checkpoints.for_case": fields(checkpoints.Checkpoint),
    "logs.console_for_case": fields(logs.ConsoleEntry),
    "logs.network_for_case": fields(logs.NetworkEntry),
    "logs.counts": ["console", "network"],
}


@pytest.fixture
async def connection(dsn):
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def test_every_query_runs_on_the_schema_and_feeds_its_reply(connection):
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


async def test_text_and_arrays_go_in_as_they_are_declared(connection):
    """A parameter whose type PostgreSQL has to guess takes values by the guess: none may be left to it."""
    for name, text in QUERIES.items():
        types = [kind.name for kind in (await connection.prepare(text)).get_parameters()]
        assert not {"unknown", "anyelement"} & set(types), name
        assert len(types) == max([int(number) for number in re.findall(r"\$(\d+)", text)], default=0), name


def test_every_table_wide_list_is_ordered():
    for name, text in QUERIES.items():
        assert "LIMIT" not in text or "ORDER BY" in text or name.rpartition(".")[2].startswith("sweep"), name
        assert not text.rstrip().endswith(";"), name


def used(noun, name):
    """Whether some module reads the query: `sql.noun.name`, or `sql.name` where `sql` is that noun's."""
    for text in SOURCES.values():
        if re.search(rf"\b{noun}\.{name}\b", text):
            return True
        bound = re.findall(rf"\b(\w+)(?:, \w+)* = .*(?:\[SQL\]|load_sql\(\))\.{noun}\b", text)
        if any(re.search(rf"\b{variable}\.{name}\b", text) for variable in bound):
            return True
    return name == "exists" and f'("{noun}", ' in SOURCES["http/route.py"]


def test_every_query_is_used():
    assert [name for name in QUERIES if not used(*name.split("."))] == []


def test_no_sql_is_written_in_python():
    """The migrations' lock and the making of a private database are the two that are."""
    words = re.compile(r"\b(SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM|WITH \w+ AS)\b")
    found = []
    for name, text in SOURCES.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and words.search(node.value):
                found.append(f"{name}:{node.lineno}")
    assert [place for place in found if not place.startswith(("migrate.py", "embedded.py"))] == []
    assert found  # so that what is looked for can be found


def test_files_are_named_like_their_nouns():
    assert {path.stem for path in data_folder("sql").glob("*.sql")} == vars(SQL).keys()


@pytest.mark.parametrize(
    "text", ["SELECT 1\n-- name: a\nSELECT 2", "-- name: a\nSELECT 1\n-- name: b\nSELECT 2\n-- name: a\nSELECT 3"]
)
def test_a_query_without_a_name_or_with_a_second_one_of_it_stops_the_start(tmp_path, text):
    (tmp_path / "x.sql").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"x\.sql"):
        load_sql(tmp_path)


def test_comments_before_and_within_are_fine(tmp_path):
    (tmp_path / "x.sql").write_text("-- a file\n\n-- name: a\n-- why\nSELECT 1\n\n-- name: b\nSELECT 2\n", "utf-8")
    loaded = load_sql(tmp_path)
    assert (loaded.x.a, loaded.x.b) == ("-- why\nSELECT 1", "SELECT 2")


def rows_touched(plan: dict) -> int:
    """How many rows a plan's nodes have handed on or thrown away, in all."""
    loops = plan.get("Actual Loops", 1)
    own = sum(
        plan.get(name, 0) * loops for name in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Join Filter")
    )
    return int(own) + sum(rows_touched(child) for child in plan.get("Plans", []))


def test_linking_a_large_test_case_is_linear(rows):
    """Without statistics, as after a bulk load: the planner takes the test case for one of a single step."""
    steps, artifacts = 1000, 400
    run = rows("INSERT INTO suite_runs (project_id, name) SELECT id, 'x' FROM projects RETURNING id")[0]["id"]
    case = rows(
        "INSERT INTO test_case_results (suite_run_id, project_id, name, test_id)"
        " SELECT %s, id, 'x', 'x' FROM projects RETURNING id",
        run,
    )[0]["id"]
    rows(
        "INSERT INTO test_step_results (test_case_result_id, step_number, step_type, screenshot_path)"
        " SELECT %s, n, 'click', n || '.png' FROM generate_series(1, %s) AS n",
        case,
        steps,
    )
    rows(
        "INSERT INTO test_artifacts (test_case_result_id, artifact_type, step_number, file_name, file_size, mime_type,"
        " checksum, storage_path, dedupe_key)"
        " SELECT %s, 'screenshot', n, n || '.png', 1, 'image/png', '', n::text, n::text::bytea"
        " FROM generate_series(1, %s) AS n",
        case,
        artifacts,
    )
    (function,) = rows("SELECT prosrc FROM pg_proc WHERE proname = 'link_screenshots'")
    link = re.search(r"WITH step AS .*?;", function["prosrc"], re.DOTALL)[0].replace("$1", f"'{case}'")
    (explained,) = rows("EXPLAIN (ANALYZE, FORMAT JSON) " + link.replace("%", "%%"))
    touched = rows_touched(explained["QUERY PLAN"][0]["Plan"])
    assert touched < 50 * (steps + artifacts), touched
    assert len(rows("SELECT FROM test_step_results WHERE screenshot_artifact_id IS NOT NULL")) == artifacts
