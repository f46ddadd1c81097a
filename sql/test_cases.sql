-- name: project_of
-- No row when the test case does not exist or is not in the caller's project ($2; NULL is every project).
SELECT project_id FROM test_case_results WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2)

-- name: lock
-- The row lock for writers: only one request at a time writes data below a test case.
SELECT project_id FROM test_case_results WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2) FOR NO KEY UPDATE

-- name: touch
-- The row lock for writers of steps and artifacts. Unlike `lock`, it creates a new row version: statements that lock
-- and check at once (steps.insert_many, artifacts.lock) find it after a wait, and do not write on an old snapshot. At
-- most one UPDATE per transaction: for a second one, PostgreSQL checks the row's foreign keys, which deadlocks with a
-- DELETE of the run. So before those two statements, which UPDATE the row themselves, use `lock`.
UPDATE test_case_results SET updated_at = updated_at
WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2)
RETURNING project_id

-- name: touch_decided
-- `touch`, unless the result is failed and its steps decide its error: then errors.assign will be the UPDATE.
UPDATE test_case_results SET updated_at = updated_at
WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2) AND NOT (status = 'Failed' AND coalesce(error_message, '') = '')
RETURNING project_id

-- name: insert_many
-- $5: the fingerprints of the results' errors; an empty array when none failed. unknown_error: the table `errors` does
-- not have the result's error yet, so grouping.add must follow.
-- The project is that of the run. No row when the run does not exist or is not in the caller's project.
INSERT INTO test_case_results (id, suite_run_id, project_id, name, test_id, status, duration_ms, attempt,
                               error_message, error_type, stack_trace, browser, tags, metadata,
                               started_at, completed_at, error_fingerprint)
SELECT n.id, r.id, r.project_id, n.name, coalesce(n.test_id, n.name), coalesce(n.status, 'Pending'), n.duration_ms,
       coalesce(n.attempt, 1), n.error_message, n.error_type, n.stack_trace, n.browser, coalesce(n.tags, '{}'),
       coalesce(n.metadata, '{}'), n.started_at, n.completed_at, n.error_fingerprint
FROM suite_runs r, ROWS FROM (unnest($3::uuid[], $5::bytea[]), json_to_recordset($4::json) AS (
    name text, test_id text, status text, duration_ms int, attempt int, error_message text, error_type text,
    stack_trace text, browser text, tags text[], metadata jsonb, started_at timestamptz, completed_at timestamptz))
    AS n(id, error_fingerprint)
WHERE r.id = $1 AND ($2::uuid IS NULL OR r.project_id = $2)
ORDER BY n.id
RETURNING id, suite_run_id, name, test_id, status, duration_ms, attempt, error_message, error_type, stack_trace,
          browser, tags, metadata, started_at, completed_at, created_at, updated_at,
          error_fingerprint IS NOT NULL AND NOT EXISTS (
              SELECT FROM errors e WHERE e.project_id = test_case_results.project_id
                                     AND e.fingerprint = test_case_results.error_fingerprint) AS unknown_error

-- name: insert_bundled
-- The results of a bundle, whose client_ref ($6) the run does not have yet. Returns only these. In the order of
-- client_ref: an insert waits for another transaction with the same one, and two that wait in different orders would
-- deadlock. $5 and unknown_error as in insert_many.
INSERT INTO test_case_results (id, suite_run_id, project_id, name, test_id, status, duration_ms, attempt,
                               error_message, error_type, stack_trace, browser, tags, metadata,
                               started_at, completed_at, error_fingerprint, client_ref)
SELECT n.id, r.id, r.project_id, n.name, coalesce(n.test_id, n.name), coalesce(n.status, 'Pending'), n.duration_ms,
       coalesce(n.attempt, 1), n.error_message, n.error_type, n.stack_trace, n.browser, coalesce(n.tags, '{}'),
       coalesce(n.metadata, '{}'), n.started_at, n.completed_at, n.error_fingerprint, n.client_ref
FROM suite_runs r, ROWS FROM (unnest($3::uuid[], $5::bytea[], $6::uuid[]), json_to_recordset($4::json) AS (
    name text, test_id text, status text, duration_ms int, attempt int, error_message text, error_type text,
    stack_trace text, browser text, tags text[], metadata jsonb, started_at timestamptz, completed_at timestamptz))
    AS n(id, error_fingerprint, client_ref)
WHERE r.id = $1 AND ($2::uuid IS NULL OR r.project_id = $2)
ORDER BY n.client_ref
ON CONFLICT (suite_run_id, client_ref) WHERE client_ref IS NOT NULL DO NOTHING
RETURNING id, error_fingerprint IS NOT NULL AND NOT EXISTS (
    SELECT FROM errors e WHERE e.project_id = test_case_results.project_id
                           AND e.fingerprint = test_case_results.error_fingerprint) AS unknown_error

-- name: by_client_refs
SELECT client_ref, id FROM test_case_results WHERE suite_run_id = $1 AND client_ref = ANY($2::uuid[]) ORDER BY id

-- name: by_id
SELECT id, suite_run_id, name, test_id, status, duration_ms, attempt, error_message, error_type, stack_trace,
       browser, tags, metadata, started_at, completed_at, created_at, updated_at
FROM test_case_results WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2)

-- name: for_run
-- A portion of the results after $4, as in logs.console_for_case.
SELECT id, suite_run_id, name, test_id, status, duration_ms, attempt, error_message, error_type, stack_trace,
       browser, tags, metadata, started_at, completed_at, created_at, updated_at, id AS last, bytes
FROM (SELECT *, row_number() OVER portion AS number,
             sum(500 + coalesce(octet_length(error_message), 0) + coalesce(octet_length(stack_trace), 0)
                 + octet_length(metadata::text) + pg_column_size(tags)) OVER portion AS bytes
      FROM (SELECT * FROM test_case_results
            WHERE suite_run_id = $1
              AND ($2::text IS NULL OR status = $2)
              AND ($3::text IS NULL OR strpos(lower(name), lower($3)) > 0)
              AND id > $4
            ORDER BY id LIMIT $5 OFFSET $6) AS page
      WINDOW portion AS (ORDER BY id ROWS UNBOUNDED PRECEDING)) AS result
WHERE bytes <= 1048576 OR number = 1
ORDER BY id

-- name: count_for_run
-- One row if the run exists and the caller may see it, even when the count is 0. Otherwise no row: a 404.
SELECT (SELECT count(*) FROM test_case_results c
        WHERE c.suite_run_id = r.id
          AND ($3::text IS NULL OR c.status = $3)
          AND ($4::text IS NULL OR strpos(lower(c.name), lower($4)) > 0)) AS total
FROM suite_runs r WHERE r.id = $1 AND ($2::uuid IS NULL OR r.project_id = $2)

-- name: report_counts
-- $2: how the type of the artifacts must begin.
SELECT (SELECT count(*) FROM test_artifacts
        WHERE test_case_result_id = $1 AND ($2::text IS NULL OR starts_with(mime_type, $2))) AS artifacts,
       (SELECT count(*) FROM test_checkpoints WHERE test_case_result_id = $1) AS checkpoints,
       (SELECT count(*) FROM test_console_logs WHERE test_case_result_id = $1) AS console,
       (SELECT count(*) FROM test_network_logs WHERE test_case_result_id = $1) AS network

-- name: test_counts
-- Of the runs ($1): tests, not results. A test counts by its last attempt: of its results in the run with one browser,
-- the highest attempt, then the newest. It is flaky when that attempt passed and another one failed. MATERIALIZED:
-- otherwise the last attempt of a repeated test is looked up once for each of the counts. A sub-select as in
-- artifacts.lock.
WITH tests AS (
    SELECT suite_run_id, test_id, browser, count(*) AS results, sum(duration_ms) AS milliseconds,
           bool_or(status = 'Failed') AS failed, min(status) AS only_status
    FROM test_case_results WHERE suite_run_id = ANY((SELECT $1::uuid[])::uuid[])
    GROUP BY suite_run_id, test_id, browser
), judged AS MATERIALIZED (
    SELECT t.*, CASE WHEN results = 1 THEN only_status ELSE (
        SELECT c.status FROM test_case_results c
        WHERE c.suite_run_id = t.suite_run_id AND c.test_id = t.test_id AND c.browser IS NOT DISTINCT FROM t.browser
        ORDER BY c.attempt DESC, c.id DESC LIMIT 1) END AS status
    FROM tests t
)
SELECT suite_run_id, count(*) AS total,
       count(*) FILTER (WHERE status = 'Failed') AS failed,
       count(*) FILTER (WHERE status = 'Passed' AND failed) AS flaky,
       count(*) FILTER (WHERE status = 'Passed' AND NOT failed) AS passed,
       count(*) FILTER (WHERE status = 'Skipped') AS skipped,
       count(*) FILTER (WHERE status = 'Pending') AS pending,
       sum(results)::bigint AS results, coalesce(sum(milliseconds), 0)::bigint AS total_duration_ms
FROM judged GROUP BY suite_run_id

-- name: failing
-- The tests of the runs ($1) whose last attempt failed, at most $2 of each run. What they say about it: their own
-- message, else that of their first failed step, else the stack trace. Sub-selects as in artifacts.lock.
SELECT c.id, c.suite_run_id, c.name, c.test_id, c.browser, c.duration_ms, c.attempt,
       coalesce(c.error_type, s.error_type) AS error_type,
       left(coalesce(nullif(c.error_message, ''), s.error_message, c.stack_trace), 1000) AS error,
       encode(c.error_fingerprint, 'hex') AS fingerprint
FROM unnest((SELECT $1::uuid[])) AS r(id) CROSS JOIN LATERAL (
    SELECT * FROM test_case_results f
    WHERE f.suite_run_id = r.id AND f.status = 'Failed' AND NOT EXISTS (
        SELECT FROM test_case_results l
        WHERE l.suite_run_id = r.id AND l.test_id = f.test_id AND l.browser IS NOT DISTINCT FROM f.browser
          AND (l.attempt, l.id) > (f.attempt, f.id))
    ORDER BY f.id LIMIT (SELECT $2::int)) AS c
LEFT JOIN LATERAL (
    SELECT error_type, error_message FROM test_step_results
    WHERE test_case_result_id = c.id AND coalesce(c.error_message, '') = ''
      AND status = 'Failed' AND error_message <> ''
    ORDER BY iteration_number, step_number LIMIT 1) AS s ON true
ORDER BY c.id

-- name: tests
-- A page of the tests of a run ($1), each by its last attempt: failed first, then in the order of creation. $2 is a
-- status, `Flaky`, or NULL; $3 a part of the name, $4 a tag. $5 and $6 are rank and id of the previous page's last row.
SELECT c.id, c.name, c.test_id, c.status, c.browser, c.duration_ms, c.attempt,
       c.status = 'Passed' AND a.failed AS flaky, c.rank, c.error_type, left(c.error_message, 300) AS error
FROM (
    SELECT t.*, CASE t.status WHEN 'Failed' THEN 0 ELSE 1 END AS rank
    FROM test_case_results t WHERE t.suite_run_id = $1) AS c
CROSS JOIN LATERAL (
    SELECT coalesce(bool_or(o.status = 'Failed'), false) AS failed,
           coalesce(bool_or((o.attempt, o.id) > (c.attempt, c.id)), false) AS outdated
    FROM test_case_results o
    WHERE o.suite_run_id = $1 AND o.test_id = c.test_id AND o.browser IS NOT DISTINCT FROM c.browser
      AND o.id <> c.id) AS a
WHERE NOT a.outdated
  AND ($2::text IS NULL OR c.status = CASE $2 WHEN 'Flaky' THEN 'Passed' ELSE $2 END
       AND ($2 NOT IN ('Flaky', 'Passed') OR a.failed = ($2 = 'Flaky')))
  AND ($3::text IS NULL OR strpos(lower(c.name), lower($3)) > 0)
  AND ($4::text IS NULL OR c.tags @> ARRAY[$4::text])
  AND ($5::int IS NULL OR (c.rank, c.id) > ($5, $6::uuid))
ORDER BY c.rank, c.id LIMIT $7

-- name: slowest
-- The tests of a run that took longest.
SELECT id, name, duration_ms FROM test_case_results
WHERE suite_run_id = $1 AND duration_ms IS NOT NULL ORDER BY duration_ms DESC, id LIMIT $2

-- name: update
-- $3 is the patch as sent: absent fields stay, null clears a field. Metadata merges by key; $4 are the keys to remove.
-- $5: whether the error may change, to $6; see grouping.after_patch in server/reports/.
UPDATE test_case_results c SET (name, test_id, status, duration_ms, attempt, error_message, error_type, stack_trace, browser,
    tags, metadata, started_at, completed_at) = (
    SELECT p.name, p.test_id, p.status, p.duration_ms, p.attempt, p.error_message, p.error_type,
           p.stack_trace, p.browser, p.tags, p.metadata, p.started_at, p.completed_at
    FROM jsonb_populate_record(c, CASE WHEN $3::jsonb ? 'metadata' THEN $3::jsonb || jsonb_build_object(
        'metadata', (c.metadata || ($3::jsonb->'metadata')) - $4::text[]) ELSE $3::jsonb END) AS p),
    error_fingerprint = CASE WHEN $5::bool THEN $6::bytea ELSE c.error_fingerprint END, updated_at = CURRENT_TIMESTAMP
WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2)
RETURNING metadata::text AS metadata
