"""Fills a database with 10 million steps and 1 million artifacts, in about a minute."""

import time

import psycopg

from bench.servers import Database

STEPS_OF_A_CASE = 50
ARTIFACTS_OF_A_CASE = 5
_CASES_OF_A_RUN = 1000

# Ids in the format of reportd: an ascending time, version 7, the bucket of the run, and a counter.
_ID = "(lpad(to_hex(1700000000000 + {time}), 12, '0') || '7' || lpad(to_hex({run} % 4096), 3, '0') || '8'" + (
    " || lpad(to_hex({count}), 15, '0'))::uuid"
)


def _id(time: str, run: str, count: str) -> str:
    return _ID.format(time=time, run=run, count=count)


_RUN = _id("r * 1000000", "r", "r")
_CASE = _id(f"c / {_CASES_OF_A_RUN} * 1000000 + 1000", f"c / {_CASES_OF_A_RUN}", "c")
_STEP = _id("c * 1000 + 2000", f"c / {_CASES_OF_A_RUN}", "c * 1000 + s")
_ARTIFACT = _id("c * 1000 + 3000", f"c / {_CASES_OF_A_RUN}", "c * 1000 + s")

_FILL = [
    # With wal_level minimal, rows inserted in the transaction that truncates the table are not written to the WAL.
    "TRUNCATE suite_runs, test_case_results, test_step_results, test_artifacts CASCADE",
    # Turns off foreign key checks, which would take most of the time. The generated rows are consistent.
    "SET LOCAL session_replication_role = replica",
    f"""
INSERT INTO suite_runs (id, project_id, name, status, branch)
SELECT {_RUN}, (SELECT id FROM projects WHERE name = 'default'), 'nightly', 'Passed', 'main'
FROM generate_series(0, (:cases - 1) / {_CASES_OF_A_RUN}) AS r
""",
    f"""
INSERT INTO test_case_results (id, suite_run_id, project_id, name, test_id, status, duration_ms)
SELECT {_CASE}, {_RUN}, (SELECT id FROM projects WHERE name = 'default'), 'case ' || c, 'case ' || c % 1000, 'Passed',
       60000
FROM generate_series(0, :cases - 1) AS c, LATERAL (SELECT c / {_CASES_OF_A_RUN}) AS of_run(r)
""",
    f"""
INSERT INTO test_step_results (
    id, test_case_result_id, step_number, step_type, action, description, status, duration_ms, element_selector,
    element_name, element_type, screenshot_artifact_id, started_at, completed_at)
SELECT {_STEP}, {_CASE}, s, 'click', 'Click the button Save',
       'Saves the order and waits until the list of orders is shown again', 'Passed', 1250 + s,
       '#orders > tbody > tr:nth-child(' || s || ') > td.actions > button.save', 'Save', 'button',
       CASE WHEN s < {ARTIFACTS_OF_A_CASE} THEN {_ARTIFACT} END, now(), now()
FROM generate_series(0, :cases * {STEPS_OF_A_CASE} - 1) AS n,
     LATERAL (SELECT n / {STEPS_OF_A_CASE}, n % {STEPS_OF_A_CASE}) AS place(c, s)
""",
    f"""
INSERT INTO test_artifacts (
    id, test_case_result_id, step_result_id, artifact_type, step_number, file_name, file_size, mime_type, checksum,
    storage_path, dedupe_key)
SELECT {_ARTIFACT}, {_CASE}, {_STEP}, 'screenshot', s, 'step_00' || s || '.png', 2000, 'image/png',
       encode(sha256(n::text::bytea), 'hex'), '2025/01/01/' || {_CASE} || '/step_00' || s || '.png',
       decode(md5(n::text), 'hex')
FROM generate_series(0, :cases * {ARTIFACTS_OF_A_CASE} - 1) AS n,
     LATERAL (SELECT n / {ARTIFACTS_OF_A_CASE}, n % {ARTIFACTS_OF_A_CASE}) AS place(c, s)
""",
]


def fill(database: Database, cases: int) -> float:
    """Inserts `cases` test cases with steps and artifacts, without files; the seconds that it took."""
    started = time.monotonic()
    with psycopg.connect(database.dsn) as connection:
        for statement in _FILL:
            connection.execute(statement.replace(":cases", f"{cases}::bigint").encode())
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")  # otherwise autovacuum might start during a measurement
        connection.execute("CHECKPOINT")
    return time.monotonic() - started


def some_cases(database: Database, cases: int, count: int) -> list[str]:
    """URL paths of `count` random test cases that `fill` inserted."""
    drawn = f"SELECT floor(random() * {cases})::bigint AS c FROM generate_series(1, {count})"
    return [
        f"/api/v1/reports/test-case-results/{case}"
        for case in database.value(f"SELECT array_agg({_CASE}) FROM ({drawn}) AS drawn")
    ]
