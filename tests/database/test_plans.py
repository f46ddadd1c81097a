"""The statements of results, comparisons and marks use indexes on a filled database: no page reads a whole table."""

import json
import uuid
from datetime import UTC, datetime

import asyncpg
import pytest

from server.database.pool import _SESSION
from tests.database.test_queries import QUERIES

# The largest tables, and all that grow without limit. Those of projects, tokens and people stay small.
LARGEST = {"test_step_results", "test_artifacts", "test_checkpoints", "test_console_logs", "test_network_logs"}
LARGE = LARGEST | {"suite_runs", "test_case_results", "selector_uses"}

RUNS, WITH_RESULTS, TESTS = 3_000, 60, 100
FILL = f"""
INSERT INTO suite_runs (id, project_id, name, branch, commit_sha, status)
SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, p.id, 'nightly', 'b' || n % 3, 'c' || n / 2,
       'Failed'
FROM projects p, generate_series(1, {RUNS}) AS n;
INSERT INTO test_case_results (id, suite_run_id, project_id, name, test_id, status, duration_ms)
SELECT ('00000000-0000-7000-9000-' || lpad((n * 1000 + t)::text, 12, '0'))::uuid,
       ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, p.id, 'test ' || t, 'test ' || t,
       CASE WHEN (n + t) % 50 = 0 THEN 'Failed' ELSE 'Passed' END, 1000
FROM projects p, generate_series({RUNS - WITH_RESULTS + 1}, {RUNS}) AS n, generate_series(1, {TESTS}) AS t;
INSERT INTO test_step_results (test_case_result_id, step_number, step_type, duration_ms)
SELECT c.id, s, 'click', 300 FROM test_case_results c, generate_series(1, 4) AS s;
INSERT INTO test_artifacts (test_case_result_id, artifact_type, file_name, file_size, mime_type, checksum,
                            storage_path, dedupe_key)
SELECT id, 'screenshot', 'x', 1, 'image/png', '', id::text, '' FROM test_case_results;
INSERT INTO test_checkpoints (test_case_result_id, checkpoint_number, name)
SELECT id, 1, 'x' FROM test_case_results;
INSERT INTO test_console_logs (test_case_result_id, level, message)
SELECT id, 'error', 'x' FROM test_case_results;
INSERT INTO test_network_logs (test_case_result_id, method, url, status_code)
SELECT id, 'GET', 'https://shop.test/', 500 FROM test_case_results;
INSERT INTO selector_uses (suite_run_id, hash, selector, used, failed, total_ms, hurt)
SELECT id, decode(md5(n::text), 'hex'), 'button' || n, 1, 0, 0, '{{}}' FROM suite_runs, generate_series(1, 20) AS n;
"""
RUN = uuid.UUID(f"00000000-0000-7000-8000-{RUNS:012}")
CASE = uuid.UUID(f"00000000-0000-7000-9000-{RUNS * 1000 + 7:012}")
FIRST = uuid.UUID(int=0)
PROJECT = object()
NOON = datetime(2026, 1, 24, 12, tzinfo=UTC)
ARGUMENTS = {
    "comparisons.of_case": (CASE, PROJECT),
    "comparisons.last_green": (PROJECT, "test 7", CASE, None, "b1"),
    "comparisons.greens": (PROJECT, "test 7", CASE, None),
    "comparisons.steps": (CASE, 5_001),
    "comparisons.console_errors": (CASE, 2_001),
    "comparisons.failed_requests": (CASE, 2_001),
    "comparisons.durations": ([CASE], [1], ["click"], 20_000),
    "comparisons.pictures": ([CASE],),
    "comparisons.run": (RUN, PROJECT),
    "comparisons.previous_run": (PROJECT, RUN, "nightly", "b1"),
    "comparisons.main_run": (PROJECT, RUN, "nightly"),
    "comparisons.tests_of_run": (RUN, 10_001),
    "marks.flaky_tests": (PROJECT, FIRST, CASE, 5_000, ["test 7", "test 9"], 101),
    "marks.histories": (PROJECT, ["test 7", "test 9"], CASE, 200),
    "marks.runs": ([RUN],),
    "results.head": (CASE, PROJECT, 20_000),
    "results.iterations": (CASE, 1_000),
    "results.first": (CASE,),
    "results.position": (CASE, 1, 3),
    "results.rows": (CASE, 1, 2_001, 0),
    "results.outline": (CASE, 5_000),
    "results.image_of_step": (CASE,),
    "results.step": (CASE, 1, 3, 20_000),
    "results.around": (CASE, 1, 3),
    "results.nearest_image": (CASE, 1, 3),
    "results.files_of_step": (CASE, CASE, [CASE], True, 100),
    "results.files": (CASE, True, 100, 0),
    "results.checkpoints": (CASE, None, None, 500),
    "results.console_of_step": (CASE, 1, 3, NOON, NOON, 100),
    "results.network_of_step": (CASE, 1, 3, NOON, NOON, 100),
    "results.console": (CASE, NOON, NOON, 501, 0),
    "results.network": (CASE, NOON, NOON, 501, 0),
    "results.console_marks": (CASE, 1, NOON, 1_000.0),
    "results.network_marks": (CASE, NOON, 1_000.0, 1_000),
    "results.totals": (CASE, True),
    "results.attempts": (PROJECT, "test 7", RUN, None, 50),
    "results.failed_tests": (RUN, CASE, "test 7"),
    "results.step_count": (CASE,),
    "results.tests_failed_at": (CASE, CASE, 1_000),
    "insights.runs": (PROJECT, NOON, 400),
    "insights.newest_of_tests": (PROJECT, ["test 7", "test 9"]),
    "insights.slow": ([RUN], 50_000, 50),
    "insights.counted": ([RUN],),
    "insights.count_selectors": (RUN, 200_000, 5_000),
    "insights.fragile": ([RUN], None, 50),
    "insights.changed": ([RUN], 50),
    "insights.selectors_with": (None, "button", 20),
    "webhooks.status_before": (RUN, PROJECT),
    "webhooks.newly_failing": (RUN, None, None, 100, 200),
}


CHILDREN = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1::text::regclass"


def nodes(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.fixture
async def filled(dsn):
    connection = await asyncpg.connect(dsn)
    await connection.execute(FILL)
    await connection.execute("ANALYZE")
    yield connection
    await connection.close()


async def scans(connection, query, *values):
    """The types of the nodes of a plan, and the tables that it reads sequentially."""
    text = await connection.fetchval("EXPLAIN (FORMAT JSON) " + query, *values)
    found = list(nodes(json.loads(text)[0]["Plan"]))
    read = {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"}
    return {node["Node Type"] for node in found}, read


async def test_no_statement_reads_a_whole_table(filled):
    """A server's connections avoid sequential scans, so they have one only where no index would do. The largest tables
    have none by the planner's own choice either. A plan may be made before the values are known (generic)."""
    covered = {name for name in QUERIES if name.startswith(("comparisons.", "marks.", "results.", "insights."))}
    assert ARGUMENTS.keys() == covered | {"webhooks.status_before", "webhooks.newly_failing"}
    project = await filled.fetchval("SELECT id FROM projects")
    scanned = {}
    for settings, tables in ((_SESSION, LARGE), ("RESET enable_seqscan", LARGEST)):
        for cache in ("force_generic_plan", "force_custom_plan"):
            await filled.execute(f"{settings}; SET plan_cache_mode = {cache}")
            for name, given in ARGUMENTS.items():
                values = [project if value is PROJECT else value for value in given]
                types, read = await scans(filled, QUERIES[name], *values)
                assert any("Index" in each for each in types), name
                if read & tables:
                    scanned[name, settings, cache] = read & tables
    assert scanned == {}
    _, read = await scans(filled, "SELECT FROM test_step_results WHERE duration_ms = 300")
    assert read == {"test_step_results"}, "the search for sequential scans finds them"


@pytest.mark.parametrize("cache", ["force_generic_plan", "force_custom_plan"])
async def test_flaky_tests_are_found_from_the_failures(filled, cache):
    """Otherwise it reads all results since the first of them, or all results of each test that failed."""
    project = await filled.fetchval("SELECT id FROM projects")
    await filled.execute(f"{_SESSION}; SET plan_cache_mode = {cache}")
    query = "EXPLAIN (FORMAT JSON) " + QUERIES["marks.flaky_tests"]
    text = await filled.fetchval(query, project, FIRST, CASE, 5_000, None, 101)
    used = {node.get("Index Name") for node in nodes(json.loads(text)[0]["Plan"])} - {None}
    assert {name for name in used if "test_case_results" in name} == {
        "idx_test_case_results_failed",
        "idx_test_case_results_run_test",
    }


@pytest.mark.parametrize("cache", ["force_generic_plan", "force_custom_plan"])
async def test_filters_of_the_audit_trail_find_their_entries_by_an_index(dsn, cache):
    """Otherwise a filter that few entries pass reads all of them, which are never removed."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "INSERT INTO audit_entries (id, created_at, action, actor_kind, actor_name, subject_kind)"
        " SELECT gen_random_uuid(), now(), 'action ' || n % 20, 'token', 'name ' || n % 20, 'token'"
        f" FROM generate_series(1, 2000) AS n; ANALYZE audit_entries; {_SESSION}; SET plan_cache_mode = {cache}"
    )
    await connection.execute("SELECT make_audit_months()")
    for name, values, index in (
        ("audit.page", (None, None), "audit_entries_pkey"),
        ("audit.page_of_action", ("action 7", None), "idx_audit_entries_action"),
        ("audit.page_of_actor", (None, "name 7"), "idx_audit_entries_actor"),
    ):
        of_partitions = {row[0] for row in await connection.fetch(CHILDREN, index)}
        assert len(of_partitions) >= 3
        query = "EXPLAIN (FORMAT JSON) " + QUERIES[name]
        text = await connection.fetchval(query, None, None, *values, None, None, None, 101)
        used = [node["Index Name"] for node in nodes(json.loads(text)[0]["Plan"]) if "Index Name" in node]
        assert {each for each in used if each != "projects_pkey"} == of_partitions, name
    await connection.close()
