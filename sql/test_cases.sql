-- name: project_of
-- None when there is no such thing, or the caller may not see it.
SELECT project_id FROM test_case_results WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2)

-- name: lock
-- Every writer of steps or artifacts takes this first: otherwise two at once would each miss the other's rows.
SELECT lock_test_case($1, $2)

-- name: insert_many
-- The project is the run's own; no row comes back when there is no such run, or it is another project's.
INSERT INTO test_case_results (id, suite_run_id, project_id, name, test_id, status, duration_ms, attempt,
                               error_message, error_type, stack_trace, browser, tags, metadata,
                               started_at, completed_at)
SELECT n.id, r.id, r.project_id, n.name, n.test_id, n.status, n.duration_ms, n.attempt,
       n.error_message, n.error_type, n.stack_trace, n.browser,
       ARRAY(SELECT jsonb_array_elements_text(n.tags)), n.metadata, n.started_at, n.completed_at
FROM suite_runs r,
     unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::int[], $8::int[], $9::text[], $10::text[],
            $11::text[], $12::text[], $13::jsonb[], $14::jsonb[], $15::timestamptz[], $16::timestamptz[])
     AS n(id, name, test_id, status, duration_ms, attempt, error_message, error_type,
          stack_trace, browser, tags, metadata, started_at, completed_at)
WHERE r.id = $1 AND ($2::uuid IS NULL OR r.project_id = $2)
ORDER BY n.id
RETURNING id, suite_run_id, name, test_id, status, duration_ms, attempt, error_message, error_type, stack_trace,
          browser, tags, metadata, started_at, completed_at, created_at, updated_at

-- name: by_id
SELECT id, suite_run_id, name, test_id, status, duration_ms, attempt, error_message, error_type, stack_trace,
       browser, tags, metadata, started_at, completed_at, created_at, updated_at
FROM test_case_results WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2)

-- name: for_run
SELECT id, suite_run_id, name, test_id, status, duration_ms, attempt, error_message, error_type, stack_trace,
       browser, tags, metadata, started_at, completed_at, created_at, updated_at
FROM test_case_results
WHERE suite_run_id = $1
  AND ($2::text IS NULL OR status = $2)
  AND ($3::text IS NULL OR strpos(lower(name), lower($3)) > 0)
ORDER BY id LIMIT $4 OFFSET $5

-- name: count_for_run
-- One row when the run exists and the caller may see it, else none.
SELECT (SELECT count(*) FROM test_case_results c
        WHERE c.suite_run_id = r.id
          AND ($3::text IS NULL OR c.status = $3)
          AND ($4::text IS NULL OR strpos(lower(c.name), lower($4)) > 0)) AS total
FROM suite_runs r WHERE r.id = $1 AND ($2::uuid IS NULL OR r.project_id = $2)

-- name: update
-- $3 is the patch as sent: a key that is there is written, one that is not stays. Metadata merges (RFC 7396, top level).
UPDATE test_case_results SET
    name = CASE WHEN $3::jsonb ? 'name' THEN $3::jsonb->>'name' ELSE name END,
    test_id = CASE WHEN $3::jsonb ? 'test_id' THEN $3::jsonb->>'test_id' ELSE test_id END,
    status = CASE WHEN $3::jsonb ? 'status' THEN $3::jsonb->>'status' ELSE status END,
    duration_ms = CASE WHEN $3::jsonb ? 'duration_ms' THEN ($3::jsonb->>'duration_ms')::int ELSE duration_ms END,
    attempt = CASE WHEN $3::jsonb ? 'attempt' THEN ($3::jsonb->>'attempt')::int ELSE attempt END,
    error_message = CASE WHEN $3::jsonb ? 'error_message' THEN $3::jsonb->>'error_message' ELSE error_message END,
    error_type = CASE WHEN $3::jsonb ? 'error_type' THEN $3::jsonb->>'error_type' ELSE error_type END,
    stack_trace = CASE WHEN $3::jsonb ? 'stack_trace' THEN $3::jsonb->>'stack_trace' ELSE stack_trace END,
    browser = CASE WHEN $3::jsonb ? 'browser' THEN $3::jsonb->>'browser' ELSE browser END,
    tags = CASE WHEN $3::jsonb ? 'tags'
                THEN ARRAY(SELECT jsonb_array_elements_text($3::jsonb->'tags')) ELSE tags END,
    metadata = CASE WHEN $3::jsonb ? 'metadata'
                    THEN (metadata || ($3::jsonb->'metadata')) - $4::text[] ELSE metadata END,
    started_at = CASE WHEN $3::jsonb ? 'started_at'
                      THEN ($3::jsonb->>'started_at')::timestamptz ELSE started_at END,
    completed_at = CASE WHEN $3::jsonb ? 'completed_at'
                        THEN ($3::jsonb->>'completed_at')::timestamptz ELSE completed_at END,
    updated_at = CURRENT_TIMESTAMP
WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2)
RETURNING metadata::text AS metadata
