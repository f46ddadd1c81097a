"""Fills a database with months of a company's test reports: runs, results, steps, failures, screenshots and logs."""

import time
from functools import cache

import psycopg

from bench.servers import Database
from server.compare.failures import Failed, Group, group_of

RUN_OF = 500  # results of a run; every 200th has 5,000
DAYS = 60  # that the runs are spread over
_ERRORS = 4_000  # different texts, a few of them common
BYTES_PER_RUN = 5_000_000  # on disk, a third of them indexes; the write-ahead log and temporary files included

# Ids in the format of reportd: time, version 7, the bucket of the run, and a counter.
_ID = "(lpad(to_hex({time}), 12, '0') || '7' || lpad(to_hex({run} % 4096), 3, '0') || '8'" + (
    " || lpad(to_hex({count}), 15, '0'))::uuid"
)

_RUNS = f"""
CREATE TEMP TABLE made_runs AS
SELECT r, (ARRAY['default', 'default', 'default', 'web', 'web', 'mobile'])[1 + r % 6] AS project,
       CASE WHEN large THEN 'full' ELSE (ARRAY['nightly', 'smoke'])[1 + r / 6 % 2] END AS name,
       CASE WHEN large OR r / 12 % 2 = 0 THEN 'main' ELSE 'feature/' || r / 12 % 40 END AS branch,
       substr(md5((r / 12)::text) || md5('commit'), 1, 40) AS commit_sha, at,
       CASE WHEN large THEN 5000 ELSE {RUN_OF} END AS results, large,
       {_ID.format(time="(extract(epoch FROM at) * 1000)::bigint", run="r", count="r")} AS id
FROM generate_series(0, :runs - 1) AS r, LATERAL (
    SELECT (:runs - 1 - r) % 200 = 0 AS large,
           date_trunc('second', now()) - INTERVAL '{DAYS} days' * (:runs - r)::float8 / :runs AS at) AS facts
"""

# Tests 0, 1 and 2 have many steps and fail in every third commit; of the others, 3 % of the results fail, and 30 % in
# the newest large run. A quarter of the failures is repeated and passes.
_RESULTS = f"""
CREATE TEMP TABLE made_results AS
SELECT {{id}} AS id, r, run, project_id, n, attempt, status, steps, run_at + n * INTERVAL '20 ms' AS at,
       CASE WHEN status = 'Failed' THEN error END AS error, status = 'Failed' AND (n < 3 OR h % 2 = 0) AS in_step
FROM (
    SELECT m.r, m.id AS run, p.id AS project_id, n, attempt, m.at AS run_at, h,
           CASE WHEN attempt = 2 THEN 'Passed'
                WHEN failed THEN 'Failed' WHEN h BETWEEN 400 AND 409 THEN 'Skipped' ELSE 'Passed' END AS status,
           CASE WHEN n = 0 AND m.r >= :runs - greatest(60, :runs / 20) THEN 2000 WHEN n = 1 THEN 200 WHEN n = 2 THEN 20
                ELSE :steps END AS steps,
           floor(power(abs(hashint8(m.r * 7919 + n + 1)) % 10000 / 10000.0, 3) * {_ERRORS})::int AS error
    FROM made_runs m JOIN projects p ON p.name = m.project CROSS JOIN generate_series(0, m.results - 1) AS n
    CROSS JOIN LATERAL (SELECT abs(hashint8(m.r * 10007 + n)) % 1000 AS h) AS drawn
    CROSS JOIN LATERAL (SELECT CASE WHEN n < 3 THEN m.r / 12 % 3 = 2
                                    ELSE h < CASE WHEN m.r = :runs - 1 THEN 300 ELSE 30 END END AS failed) AS judged
    CROSS JOIN generate_series(1, CASE WHEN failed AND n > 2 AND h % 4 = 0 THEN 2 ELSE 1 END) AS attempt
) AS each
""".format(
    id=_ID.format(
        time="(extract(epoch FROM run_at) * 1000)::bigint + n * 20 + attempt * 200000",
        run="r",
        count="n * 2 + attempt",
    )
)

_TIME = "(extract(epoch FROM m.at) * 1000)::bigint + 400000"
_STEP = _ID.format(time=_TIME, run="m.r", count="m.n * 100000::bigint + m.attempt * 10000 + s")
_FILE = _ID.format(time=_TIME + " + 1000", run="m.r", count="m.n * 100000::bigint + m.attempt * 10000 + s")
_FAILS = "m.steps * 4 / 5"  # the step that fails, from 0
_SHOWN = f"s = {_FAILS} AND m.status = 'Failed' OR m.n < 3 AND m.status <> 'Skipped'"  # has a screenshot
_EACH = "made_results m CROSS JOIN generate_series(0, m.steps - 1) AS s"
_MESSAGE = "replace(e.text, '{}', m.n::text)"

_FILL = [
    # With wal_level minimal, rows inserted in the transaction that truncates the table are not written to the WAL.
    "TRUNCATE suite_runs, test_case_results, test_step_results, test_artifacts, errors CASCADE",
    # Turns off foreign key checks, which would take most of the time. The generated rows are consistent.
    "SET LOCAL session_replication_role = replica",
    "SET LOCAL work_mem = '256MB'",
    "INSERT INTO projects (name) VALUES ('web'), ('mobile') ON CONFLICT DO NOTHING",
    _RUNS,
    _RESULTS,
    "ANALYZE made_runs, made_results",
    """
INSERT INTO suite_runs (id, project_id, name, status, branch, commit_sha, environment, tags, started_at, finished_at,
                        created_at, updated_at)
SELECT m.id, p.id, m.name, CASE WHEN m.r BETWEEN :runs - 3 AND :runs - 2 THEN 'Running' ELSE 'Failed' END, m.branch,
       m.commit_sha, (ARRAY['staging', 'production'])[1 + m.r % 2], ARRAY[m.name, 'team-' || m.r % 7], m.at,
       CASE WHEN m.r NOT BETWEEN :runs - 3 AND :runs - 2 THEN m.at + INTERVAL '20 min' END, m.at, m.at
FROM made_runs m JOIN projects p ON p.name = m.project ORDER BY m.r
""",
    f"""
INSERT INTO test_case_results (id, suite_run_id, project_id, name, test_id, status, duration_ms, attempt, browser, tags,
                               error_message, error_type, error_fingerprint, started_at, completed_at, created_at)
SELECT m.id, m.run, m.project_id, 'checkout pays with method ' || m.n,
       'area ' || m.n % 12 || '/checkout.spec.ts > pays with method ' || m.n, m.status,
       CASE WHEN m.status <> 'Skipped' THEN m.steps * 300 + (m.n * 37 + m.r * 11) % 500 END, m.attempt, 'chromium',
       ARRAY['area-' || m.n % 12], CASE WHEN NOT m.in_step THEN {_MESSAGE} END,
       CASE WHEN NOT m.in_step THEN e.error_type END, e.fingerprint, m.at, m.at + m.steps * INTERVAL '300 ms', m.at
FROM made_results m LEFT JOIN made_errors e ON e.n = m.error ORDER BY m.id
""",
    """
INSERT INTO errors (project_id, fingerprint, error_type, stable_text, sample)
SELECT DISTINCT ON (project_id, fingerprint) m.project_id, e.fingerprint, e.error_type, e.stable_text, e.sample
FROM made_results m JOIN made_errors e ON e.n = m.error
""",
    f"""
INSERT INTO test_step_results (
    id, test_case_result_id, step_number, step_type, action, description, status, duration_ms, element_selector,
    element_name, element_type, expected_value, actual_value, error_message, error_type, screenshot_artifact_id,
    started_at, completed_at)
SELECT {_STEP}, m.id, s + 1, (ARRAY['click', 'fill', 'assert'])[1 + s % 3], 'Click the button Save',
       'Saves order ' || s || ' and waits until the list of orders is shown again', step.status,
       CASE WHEN step.ran THEN 250 + (s * 37 + m.r) % 100 END,
       '#orders > tbody > tr:nth-child(' || s || ') > td.actions > button.save', 'Save', 'button',
       CASE WHEN s % 3 = 2 THEN 'Total 25.00' END,
       CASE WHEN s % 3 = 2 THEN CASE WHEN step.status = 'Failed' THEN 'Total 24.00' ELSE 'Total 25.00' END END,
       CASE WHEN step.status = 'Failed' AND m.in_step THEN {_MESSAGE} END,
       CASE WHEN step.status = 'Failed' AND m.in_step THEN e.error_type END,
       CASE WHEN {_SHOWN} THEN {_FILE} END, CASE WHEN step.ran THEN m.at + s * INTERVAL '300 ms' END,
       CASE WHEN step.ran THEN m.at + s * INTERVAL '300 ms' + INTERVAL '250 ms' END
FROM {_EACH} LEFT JOIN made_errors e ON e.n = m.error
CROSS JOIN LATERAL (SELECT m.status = 'Passed' OR m.status = 'Failed' AND s <= {_FAILS} AS ran,
    CASE WHEN m.status = 'Skipped' OR m.status = 'Failed' AND s > {_FAILS} THEN 'Skipped'
         WHEN m.status = 'Failed' AND s = {_FAILS} THEN 'Failed' ELSE 'Passed' END AS status) AS step
""",
    f"""
INSERT INTO test_artifacts (
    id, test_case_result_id, step_result_id, artifact_type, artifact_category, step_number, file_name, file_size,
    mime_type, checksum, storage_path, dedupe_key)
SELECT file.id, m.id, {_STEP}, 'screenshot', CASE WHEN m.status = 'Failed' AND s = {_FAILS} THEN 'error' END, s + 1,
       'step_' || s || '.png', 2000, 'image/png', encode(sha256(file.id::text::bytea), 'hex'),
       '2026/01/01/' || m.id || '/' || file.id || '.png', decode(md5(file.id::text), 'hex')
FROM {_EACH} CROSS JOIN LATERAL (SELECT {_FILE} AS id) AS file
WHERE {_SHOWN}
""",
    f"""
INSERT INTO test_console_logs (test_case_result_id, level, message, step_number, logged_at)
SELECT m.id, (ARRAY['error', 'info', 'warning', 'info', 'debug'])[1 + s % 5], 'Order ' || s || ' was not saved: 500',
       CASE WHEN s % 2 = 0 THEN s + 1 END, m.at + s * INTERVAL '300 ms'
FROM {_EACH} WHERE m.status = 'Failed'
""",
    f"""
INSERT INTO test_network_logs (test_case_result_id, method, url, status_code, resource_type, duration_ms, step_number,
                               started_at)
SELECT m.id, 'GET', 'https://shop.example.com/orders/' || s || '?session=' || m.n,
       CASE WHEN s % 9 = 7 THEN 500 ELSE 200 END, 'fetch', 120, CASE WHEN s % 2 = 0 THEN s + 1 END,
       m.at + s * INTERVAL '300 ms'
FROM {_EACH} WHERE m.status = 'Failed'
""",
]


def fill(database: Database, runs: int, steps: int = 9) -> float:
    """Inserts `runs` runs with all that belongs to them, without files; the seconds that it took.

    `steps`: of most results.
    """
    started = time.monotonic()
    with psycopg.connect(database.dsn) as connection:
        connection.execute(
            "CREATE TEMP TABLE made_errors "
            "(n int PRIMARY KEY, text text, fingerprint bytea, error_type text, stable_text text, sample text)"
        )
        copy = "COPY made_errors FROM STDIN"
        with connection.cursor() as cursor, cursor.copy(copy) as rows:
            for n, (text, group) in enumerate(_errors()):
                rows.write_row((n, text, group.fingerprint, group.error_type, group.stable_text, group.sample))
        for statement in _FILL:
            connection.execute(statement.replace(":runs", f"{runs}::int").replace(":steps", str(steps)).encode())
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")  # otherwise autovacuum might start during a measurement
        connection.execute("CHECKPOINT")
    return time.monotonic() - started


@cache
def _errors() -> list[tuple[str, Group]]:
    """Texts of failures as tests report them, `{}` for a number that differs each time, and their errors."""
    return [(text, group) for text, group in map(_with_group, range(_ERRORS)) if group is not None]


def _with_group(number: int) -> tuple[str, Group | None]:
    word = "".join(_SYLLABLES[number // 16**place % 16] for place in range(3))
    kind, text = _KINDS[number % len(_KINDS)]
    text = text.replace("@", word)
    return text, group_of(Failed(kind, text.replace("{}", "0")))


_SYLLABLES = ["ba", "de", "fi", "go", "hu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "wu", "ya"]
_KINDS = [
    ("TimeoutError", "Timeout 30000ms exceeded: #@ is not visible in order {}\n  at checkout.spec.ts:40"),
    ("AssertionError", "expected the total of @ to be 25.00 but order {} has 24.00"),
    ("Error", "net::ERR_CONNECTION_RESET at https://shop.example.com/@/orders/{}"),
    ("TypeError", "Cannot read properties of undefined (reading '@') while order {} was saved"),
    ("ElementNotFound", 'No element matches "[data-test=@]" on the page of order {}, which has 3 forms'),
]


def addresses(database: Database) -> dict[str, str]:
    """What the addresses of pages are about: ids and values by the names in bench/pages.py."""
    return {name: str(database.value(query)) for name, query in _ADDRESSES.items()}


_OF_DEFAULT = "project_id = (SELECT id FROM projects WHERE name = 'default')"
_FAILED_TEST = f"""
SELECT c.id FROM test_case_results c JOIN suite_runs r ON r.id = c.suite_run_id
WHERE c.status = 'Failed' AND c.name = 'checkout pays with method :n' AND c.{_OF_DEFAULT} AND r.name <> 'full'
ORDER BY c.id DESC LIMIT 1"""
_ADDRESSES = {
    "run": f"SELECT id FROM suite_runs WHERE name = 'nightly' AND {_OF_DEFAULT} ORDER BY id DESC LIMIT 1",
    "large_run": "SELECT id FROM suite_runs WHERE name = 'full' ORDER BY id DESC LIMIT 1",
    "steps_2000": _FAILED_TEST.replace(":n", "0"),
    "steps_200": _FAILED_TEST.replace(":n", "1"),
    "steps_20": _FAILED_TEST.replace(":n", "2"),
    "test": "SELECT test_id FROM test_case_results WHERE name = 'checkout pays with method 2' LIMIT 1",
    "error": f"""
SELECT encode(error_fingerprint, 'hex') FROM test_case_results
WHERE error_fingerprint IS NOT NULL AND {_OF_DEFAULT} GROUP BY error_fingerprint ORDER BY count(*) DESC LIMIT 1""",
    "middle": """
SELECT rtrim(translate(encode(uuid_send(id), 'base64'), '+/', '-_'), '=') FROM suite_runs
ORDER BY id OFFSET (SELECT count(*) / 2 FROM suite_runs) LIMIT 1""",
    "two_weeks_ago": "SELECT (now() - INTERVAL '14 days')::date",
}
