-- A run as JSON for its archive, in portions: each row is one JSON text, up to 1 MiB of them or one larger, and its place
-- for the next portion. Names and values are those of the API; times have all their digits. What follows from the rest is
-- left out: counts, addresses, places of files. What the API does not show, but an import needs, is added.

-- name: run
SELECT r.name, r.created_at, row_to_json(item)::text AS item
FROM suite_runs r JOIN projects p ON p.id = r.project_id CROSS JOIN LATERAL (
    SELECT r.id, p.name AS project, r.run_key, r.name, r.status, r.environment, r.branch, r.commit_sha, r.build_url,
           r.browser, r.platform, r.triggered_by, r.tags, r.metadata, r.started_at, r.finished_at, r.created_at,
           r.updated_at) AS item
WHERE r.id = $1 AND ($2::uuid IS NULL OR r.project_id = $2)

-- name: size
-- How many results and artifacts a run has.
SELECT count(*) AS results,
       coalesce(sum((SELECT count(*) FROM test_artifacts a WHERE a.test_case_result_id = c.id)), 0)::bigint AS artifacts
FROM test_case_results c WHERE c.suite_run_id = $1

-- name: results
-- Those after $2.
SELECT item, id
FROM (SELECT item, id, row_number() OVER portion AS number, sum(octet_length(item)) OVER portion AS bytes
      FROM (SELECT c.id, row_to_json(item)::text AS item
            FROM test_case_results c CROSS JOIN LATERAL (
                SELECT c.id, c.suite_run_id, c.client_ref, c.name, c.test_id, c.status, c.duration_ms, c.attempt,
                       c.error_message, c.error_type, c.stack_trace, c.browser, c.tags, c.metadata, c.started_at,
                       c.completed_at, c.created_at, c.updated_at) AS item
            WHERE c.suite_run_id = $1 AND c.id > $2 ORDER BY c.id LIMIT $3) AS page
      WINDOW portion AS (ORDER BY id ROWS UNBOUNDED PRECEDING)) AS result
WHERE bytes <= 1048576 OR number = 1
ORDER BY id

-- name: steps
-- Those of a result after iteration $2 and step number $3.
SELECT item, iteration_number, step_number
FROM (SELECT *, row_number() OVER portion AS number, sum(octet_length(item)) OVER portion AS bytes
      FROM (SELECT s.iteration_number, s.step_number, row_to_json(item)::text AS item
            FROM test_step_results s CROSS JOIN LATERAL (
                SELECT s.id, s.test_case_result_id, s.iteration_number, s.step_number, s.parent_step_number,
                       s.step_type, s.action, s.description, s.status, s.duration_ms, s.element_selector,
                       s.element_name, s.element_type, s.input_value, s.expected_value, s.actual_value,
                       s.error_message, s.error_type, s.stack_trace, s.screenshot_path, s.screenshot_artifact_id,
                       s.screenshot_pinned, s.started_at, s.completed_at, s.created_at, s.updated_at) AS item
            WHERE s.test_case_result_id = $1 AND (s.iteration_number, s.step_number) > ($2, $3)
            ORDER BY s.iteration_number, s.step_number LIMIT $4) AS page
      WINDOW portion AS (ORDER BY iteration_number, step_number ROWS UNBOUNDED PRECEDING)) AS step
WHERE bytes <= 1048576 OR number = 1
ORDER BY iteration_number, step_number

-- name: checkpoints
-- Those of a result after $2, in the order sent.
SELECT item, seq
FROM (SELECT *, row_number() OVER portion AS number, sum(octet_length(item)) OVER portion AS bytes
      FROM (SELECT k.seq, row_to_json(item)::text AS item
            FROM test_checkpoints k CROSS JOIN LATERAL (
                SELECT k.id, k.test_case_result_id, k.iteration_number, k.checkpoint_number, k.step_number, k.name,
                       k.checkpoint_type, k.status, k.expected_value, k.actual_value, k.message,
                       k.screenshot_artifact_id, k.captured_at, k.created_at) AS item
            WHERE k.test_case_result_id = $1 AND k.seq > $2 ORDER BY k.seq LIMIT $3) AS page
      WINDOW portion AS (ORDER BY seq ROWS UNBOUNDED PRECEDING)) AS checkpoint
WHERE bytes <= 1048576 OR number = 1
ORDER BY seq

-- name: console_logs
-- As `checkpoints`.
SELECT item, seq
FROM (SELECT *, row_number() OVER portion AS number, sum(octet_length(item)) OVER portion AS bytes
      FROM (SELECT l.seq, row_to_json(item)::text AS item
            FROM test_console_logs l CROSS JOIN LATERAL (
                SELECT l.id, l.test_case_result_id, l.client_sequence, l.level, l.message, l.source_url,
                       l.line_number, l.column_number, l.step_number, l.iteration_number, l.logged_at,
                       l.created_at) AS item
            WHERE l.test_case_result_id = $1 AND l.seq > $2 ORDER BY l.seq LIMIT $3) AS page
      WINDOW portion AS (ORDER BY seq ROWS UNBOUNDED PRECEDING)) AS entry
WHERE bytes <= 1048576 OR number = 1
ORDER BY seq

-- name: network_logs
-- As `checkpoints`.
SELECT item, seq
FROM (SELECT *, row_number() OVER portion AS number, sum(octet_length(item)) OVER portion AS bytes
      FROM (SELECT l.seq, row_to_json(item)::text AS item
            FROM test_network_logs l CROSS JOIN LATERAL (
                SELECT l.id, l.test_case_result_id, l.client_sequence, l.method, l.url, l.status_code,
                       l.resource_type, l.request_headers, l.response_headers, l.request_size, l.response_size,
                       l.duration_ms, l.error_text, l.step_number, l.iteration_number, l.started_at,
                       l.created_at) AS item
            WHERE l.test_case_result_id = $1 AND l.seq > $2 ORDER BY l.seq LIMIT $3) AS page
      WINDOW portion AS (ORDER BY seq ROWS UNBOUNDED PRECEDING)) AS entry
WHERE bytes <= 1048576 OR number = 1
ORDER BY seq

-- name: artifacts
-- Those of a result after $2, and their files.
SELECT item, id, checksum, file_size, mime_type, storage_path
FROM (SELECT *, row_number() OVER portion AS number, sum(octet_length(item)) OVER portion AS bytes
      FROM (SELECT a.id, a.checksum, a.file_size, a.mime_type, a.storage_path, row_to_json(item)::text AS item
            FROM test_artifacts a CROSS JOIN LATERAL (
                SELECT a.id, a.test_case_result_id, a.step_result_id, a.artifact_type, a.artifact_category,
                       a.step_number, a.iteration_number, a.file_name, a.file_size, a.mime_type,
                       coalesce(a.text_encoding, CASE WHEN a.mime_type ~ '^text/|/json$' THEN 'utf-8' END)
                           AS text_encoding,
                       a.checksum, a.description, a.captured_at, a.uploaded_at, a.created_at) AS item
            WHERE a.test_case_result_id = $1 AND a.id > $2 ORDER BY a.id LIMIT $3) AS page
      WINDOW portion AS (ORDER BY id ROWS UNBOUNDED PRECEDING)) AS artifact
WHERE bytes <= 1048576 OR number = 1
ORDER BY id
