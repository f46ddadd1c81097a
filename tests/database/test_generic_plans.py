"""The plan of every statement for any parameters: it finds its rows by an index."""

import json
import re
import uuid

import asyncpg
import pytest

from server.database.pool import _SESSION
from server.database.queries import load_sql
from server.services import SERVICES
from tests.forms import post, single
from tests.makers import png

QUERIES = {f"{noun}.{name}": text for noun, queries in vars(load_sql()).items() for name, text in vars(queries).items()}
# What reads all rows: `reportd verify`, `reportd backup`, and a question that the first row answers.
WHOLE = {
    "verify.test_step_results",
    "verify.test_artifacts",
    "storage_folder.in_use",
    "backup.snapshot",
    "backup.files",
}
PLANNED = re.compile(r"(--.*\n)*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")  # not SET, CREATE and the like
LARGE = {"test_case_results", "test_step_results", "test_console_logs", "test_network_logs", "test_artifacts"}
FILL = """
    INSERT INTO suite_runs (project_id, name, branch)
        SELECT id, 'nightly', 'main' FROM projects, generate_series(1, 50);
    INSERT INTO errors (project_id, fingerprint, stable_text, sample)
        SELECT id, decode(md5(n::text), 'hex'), md5(n::text), '' FROM projects, generate_series(1, 300) AS n;
    INSERT INTO test_case_results (suite_run_id, project_id, name, test_id, status, error_fingerprint)
        SELECT r.id, r.project_id, 'test ' || n, 'test ' || n, CASE WHEN n % 20 = 0 THEN 'Failed' ELSE 'Passed' END,
               CASE WHEN n % 20 = 0 THEN decode(md5((n / 10)::text), 'hex') END
        FROM suite_runs r, generate_series(1, 400) AS n;
    INSERT INTO test_step_results (test_case_result_id, step_number, step_type, status)
        SELECT id, 1, 'click', 'Passed' FROM test_case_results;
    INSERT INTO test_artifacts (test_case_result_id, artifact_type, file_name, file_size, mime_type, checksum,
                                storage_path, dedupe_key)
        SELECT id, 'log', 'x', 1, 'text/plain', '', id::text, id::text::bytea FROM test_case_results;
    UPDATE test_step_results s SET screenshot_artifact_id = a.id
        FROM test_artifacts a WHERE a.test_case_result_id = s.test_case_result_id;
    ANALYZE
"""
# Statements with short arrays, as requests and pages send them.
SOME, RUN, TESTS = uuid.UUID(int=1), [uuid.UUID(int=1)], ["test 1", "test 2"]
SHORT = {
    "steps.by_ids": (SOME, [SOME]),
    "steps.failed_first": ([SOME],),
    "checkpoints.own_artifacts": (SOME, [SOME]),
    "suite_runs.counts": (RUN,),
    "test_cases.test_counts": (RUN,),
    "test_cases.failing": (RUN, 2),
    "errors.sources": ([SOME], 4000, 4000, True),
    "errors.assign": ([SOME], [b"x"]),
    "errors.add": ([SOME], [b"x"], [None], ["x"], ["x"]),
    "marks.histories": (SOME, TESTS, SOME, 200),
    "insights.newest_of_tests": (SOME, TESTS),
}
INDEXES = """
    SELECT i.indexrelid::regclass::text AS name, i.indrelid::regclass::text AS table, a.attname AS column
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indexrelid AND a.attnum = 1"""


@pytest.fixture
async def filled(dsn):
    connection = await asyncpg.connect(dsn)
    await connection.execute(FILL)
    await connection.execute(_SESSION)
    await connection.execute(
        "SET plan_cache_mode = force_generic_plan"
    )  # the one that a server uses from the 6th time on
    yield connection
    await connection.close()


def nodes(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


async def unbounded(connection, query):
    """The large tables that a statement reads from beginning to end, by the plan for any parameters.

    Also by an index, when the statement does not name a value of its first column.
    """
    first = {name: (table, column) for name, table, column in await connection.fetch(INDEXES)}
    await connection.execute(f"PREPARE planned AS {query}")
    count = max([int(number) for number in re.findall(r"\$(\d+)", query)], default=0)
    nulls = f"({', '.join(['NULL'] * count)})" if count else ""
    (root,) = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE planned{nulls}"))
    await connection.execute("DEALLOCATE planned")
    found = []
    for node in nodes(root["Plan"]):
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] in LARGE:
            found.append(f"sequential scan of {node['Relation Name']}")
        elif "Index Name" in node:
            table, column = first[node["Index Name"]]
            if table in LARGE and not re.search(rf"\b{column}\b", node.get("Index Cond", "")):
                found.append(f"scan of the whole {node['Index Name']}")
    return found


async def test_no_statement_reads_a_large_table_from_beginning_to_end(filled):
    assert QUERIES.keys() >= WHOLE
    found = {}
    for name, query in QUERIES.items():
        if PLANNED.match(query) and name not in WHOLE:
            found[name] = await unbounded(filled, query)
    assert len(found) > 150
    assert {name: scans for name, scans in found.items() if scans} == {}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT count(*) FROM test_step_results WHERE status = $1",
        "SELECT id FROM test_case_results WHERE name = $1",
        "SELECT id FROM test_case_results WHERE ($1::text IS NULL OR test_id = $1)",
        "SELECT id FROM test_artifacts ORDER BY id",
    ],
)
async def test_such_a_statement_would_be_found(filled, query):
    assert await unbounded(filled, query)


@pytest.mark.parametrize("name", ["artifacts.lock", "steps.matching"])
async def test_an_upload_to_a_new_database_reads_no_other_artifacts(dsn, name):
    """A plan from the first artifacts stays in use while they become many, until the table is analyzed."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        """
        ANALYZE;
        INSERT INTO suite_runs (project_id, name) SELECT id, 'nightly' FROM projects;
        INSERT INTO test_case_results (suite_run_id, project_id, name, test_id)
            SELECT id, project_id, n, n FROM suite_runs, generate_series(1, 20) AS n;
        INSERT INTO test_step_results (test_case_result_id, step_number, step_type)
            SELECT id, n, 'click' FROM test_case_results, generate_series(1, 10) AS n;
        ANALYZE test_case_results, test_step_results;
        INSERT INTO test_artifacts (test_case_result_id, artifact_type, file_name, file_size, mime_type, checksum,
                                    storage_path, dedupe_key)
            SELECT id, 'log', 'x', 1, 'text/plain', '', id::text, id::text::bytea FROM test_case_results;
        """
    )
    await connection.execute(f"{_SESSION}; SET plan_cache_mode = force_generic_plan")
    assert [scan for scan in await unbounded(connection, QUERIES[name]) if "artifact" in scan] == []
    await connection.close()


async def test_the_statements_of_an_upload_are_not_planned_each_time(client, case_url):
    """To plan the insert takes half as long as to insert a row. PostgreSQL plans a statement anew when it expects less
    of short arrays than of any."""
    url = await case_url()
    steps = [{"step_number": number, "step_type": "click"} for number in range(8)]
    assert (await client.post(f"{url}/steps", json={"steps": steps})).status == 201
    for number in range(8):
        body = single(png(8, 8, number), f"step_{number}.png", step_number=number)
        assert (await post(client, f"{url}/artifacts", body))[0] == 201
    async with client.app[SERVICES].pool.acquire() as connection:
        planned = dict(await connection.fetch("SELECT statement, custom_plans FROM pg_prepared_statements"))
    assert [planned[QUERIES[name]] for name in ("artifacts.lock", "artifacts.insert_many")] == [5, 5]


@pytest.mark.parametrize("name", SHORT)
async def test_a_statement_with_a_short_array_is_not_planned_each_time(filled, name):
    """To plan it takes as long as to execute it, or several times as long."""
    await filled.execute("RESET plan_cache_mode")
    statement = await filled.prepare(QUERIES[name])
    for _ in range(8):
        await statement.fetch(*SHORT[name])
    planned = "SELECT custom_plans, generic_plans FROM pg_prepared_statements WHERE statement = $1"
    assert tuple(await filled.fetchrow(planned, QUERIES[name])) == (5, 3)


@pytest.mark.parametrize("name", ["steps.by_ids", "checkpoints.own_artifacts"])
async def test_rows_are_looked_up_by_their_ids(filled, name):
    """The plan for any values must not read all steps of a result that has thousands."""
    await filled.execute(f"PREPARE planned AS {QUERIES[name]}")
    (root,) = json.loads(await filled.fetchval("EXPLAIN (FORMAT JSON) EXECUTE planned(NULL, NULL)"))
    assert [each["Index Cond"] for each in nodes(root["Plan"]) if "Index Cond" in each] == ["(id = wanted.wanted_id)"]
