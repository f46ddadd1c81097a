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
