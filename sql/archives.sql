-- A run as JSON for its archive, in portions: each row is one JSON text, up to 1 MiB of them or one larger, and its place
-- for the next portion. Names and values are those of the API; times have all their digits. What follows from the rest is
-- left out: counts, addresses, places of files. What the API does not show, but an import needs, is added.

-- name: run
SELECT r.name, r.created_at, row_to_json(item)::text AS item
FROM suite_runs r JOIN projects p ON p.id = r.project_id CROSS JOIN LATERAL (
    SELECT r.id, p.name AS project, r.run_key, r.name, r.status, r.environment, r.branch, r.commit_sha, r.build_url,
           r.browser, r.platform, r.triggered_by, r.tags, r.metadata, r.by_shards, r.started_at, r.finished_at,
           r.created_at, r.updated_at) AS item
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

-- name: shards
-- Those of a run after $2.
SELECT item, shard_index
FROM (SELECT *, row_number() OVER portion AS number, sum(octet_length(item)) OVER portion AS bytes
      FROM (SELECT s.shard_index, row_to_json(item)::text AS item
            FROM suite_run_shards s CROSS JOIN LATERAL (
                SELECT s.shard_index, s.total, s.tests_expected, s.status, s.started_at, s.finished_at,
                       s.errors) AS item
            WHERE s.suite_run_id = $1 AND s.shard_index > $2 ORDER BY s.shard_index LIMIT $3) AS page
      WINDOW portion AS (ORDER BY shard_index ROWS UNBOUNDED PRECEDING)) AS shard
WHERE bytes <= 1048576 OR number = 1
ORDER BY shard_index

-- name: expected_artifacts
-- Files of a run that have not come, after that of result $2 with checksum $3 and name $4.
SELECT item, test_case_result_id, checksum, file_name
FROM (SELECT *, row_number() OVER portion AS number, sum(octet_length(item)) OVER portion AS bytes
      FROM (SELECT e.test_case_result_id, e.checksum, e.file_name, row_to_json(item)::text AS item
            FROM expected_artifacts e CROSS JOIN LATERAL (
                SELECT e.test_case_result_id, e.checksum, e.file_name, e.file_size, e.reason) AS item
            WHERE e.suite_run_id = $1 AND (e.test_case_result_id, e.checksum, e.file_name) > ($2, $3, $4)
            ORDER BY e.test_case_result_id, e.checksum, e.file_name LIMIT $5) AS page
      WINDOW portion AS (ORDER BY test_case_result_id, checksum, file_name ROWS UNBOUNDED PRECEDING)) AS file
WHERE bytes <= 1048576 OR number = 1
ORDER BY test_case_result_id, checksum, file_name

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

-- name: page_starts
-- The first of each $2 steps of an iteration.
SELECT iteration_number, step_number
FROM (SELECT iteration_number, step_number,
             row_number() OVER (PARTITION BY iteration_number ORDER BY step_number) AS number
      FROM test_step_results WHERE test_case_result_id = $1) AS step
WHERE (number - 1) % $2::int = 0
ORDER BY iteration_number, step_number

-- name: checksums_of
SELECT id, checksum FROM test_artifacts WHERE id = ANY($1::uuid[])

-- name: known_run
-- Where a run with this id is.
SELECT p.id, p.name FROM suite_runs r JOIN projects p ON p.id = r.project_id WHERE r.id = $1

-- name: insert_run
-- $2: as `run` has it; archives of earlier servers have no by_shards.
INSERT INTO suite_runs (id, project_id, run_key, name, status, environment, branch, commit_sha, build_url, browser,
                        platform, triggered_by, tags, metadata, by_shards, started_at, finished_at, created_at,
                        updated_at)
SELECT n.id, $1, n.run_key, n.name, n.status, n.environment, n.branch, n.commit_sha, n.build_url, n.browser,
       n.platform, n.triggered_by, n.tags, n.metadata, coalesce(n.by_shards, FALSE), n.started_at, n.finished_at,
       n.created_at, n.updated_at
FROM json_to_record($2::json) AS n(
    id uuid, run_key text, name text, status text, environment text, branch text, commit_sha text, build_url text,
    browser text, platform text, triggered_by text, tags text[], metadata jsonb, by_shards boolean,
    started_at timestamptz, finished_at timestamptz, created_at timestamptz, updated_at timestamptz)

-- name: insert_shards
-- Of run $1; $2: as `shards` has them. How many.
WITH stored AS (
    INSERT INTO suite_run_shards (suite_run_id, shard_index, total, tests_expected, status, started_at, finished_at,
                                  errors)
    SELECT $1, n.shard_index, n.total, n.tests_expected, n.status, n.started_at, n.finished_at, n.errors
    FROM json_to_recordset($2::json) AS n(
        shard_index int, total int, tests_expected int, status text, started_at timestamptz, finished_at timestamptz,
        errors text[])
    RETURNING 1)
SELECT count(*) FROM stored

-- name: insert_expected_artifacts
-- Of results of run $1; $2: as `expected_artifacts` has them. How many.
WITH stored AS (
    INSERT INTO expected_artifacts (test_case_result_id, checksum, file_name, suite_run_id, file_size, reason)
    SELECT n.test_case_result_id, n.checksum, n.file_name, $1, n.file_size, n.reason
    FROM json_to_recordset($2::json) AS n(
        test_case_result_id uuid, checksum text, file_name text, file_size bigint, reason text)
    JOIN test_case_results c ON c.id = n.test_case_result_id AND c.suite_run_id = $1
    RETURNING 1)
SELECT count(*) FROM stored

-- name: insert_results
-- $3: as `results` has them.
INSERT INTO test_case_results (id, suite_run_id, project_id, client_ref, name, test_id, status, duration_ms, attempt,
                               error_message, error_type, stack_trace, browser, tags, metadata, started_at,
                               completed_at, created_at, updated_at)
SELECT n.id, $1, $2, n.client_ref, n.name, n.test_id, n.status, n.duration_ms, n.attempt, n.error_message,
       n.error_type, n.stack_trace, n.browser, n.tags, n.metadata, n.started_at, n.completed_at, n.created_at,
       n.updated_at
FROM json_to_recordset($3::json) AS n(
    id uuid, client_ref uuid, name text, test_id text, status text, duration_ms int, attempt int,
    error_message text, error_type text, stack_trace text, browser text, tags text[], metadata jsonb,
    started_at timestamptz, completed_at timestamptz, created_at timestamptz, updated_at timestamptz)

-- name: taken
-- Which of the paths are in use. A path in removed_files is, too: a delayed unlink would delete the new file.
SELECT storage_path FROM test_artifacts WHERE storage_path = ANY($1::text[])
UNION ALL
SELECT storage_path FROM removed_files WHERE storage_path = ANY($1::text[])

-- name: insert_artifacts
-- Of result $1; $2: as `artifacts` has them. $3 to $5: the path, dedupe key and link_name of each. Without their steps,
-- which are not there yet.
INSERT INTO test_artifacts (id, test_case_result_id, artifact_type, artifact_category, step_number, iteration_number,
                            file_name, file_size, mime_type, text_encoding, checksum, storage_path, description,
                            dedupe_key, captured_at, uploaded_at, created_at, link_name)
SELECT n.id, $1, n.artifact_type, n.artifact_category, n.step_number, n.iteration_number, n.file_name, n.file_size,
       n.mime_type, n.text_encoding, n.checksum, n.storage_path, n.description, n.dedupe_key, n.captured_at,
       n.uploaded_at, n.created_at, n.link_name
FROM ROWS FROM (unnest($3::text[], $4::bytea[], $5::text[]), json_to_recordset($2::json) AS (
    id uuid, artifact_type text, artifact_category text, step_number int, iteration_number int, file_name text,
    file_size bigint, mime_type text, text_encoding text, checksum text, description text, captured_at timestamptz,
    uploaded_at timestamptz, created_at timestamptz)) AS n(storage_path, dedupe_key, link_name)

-- name: insert_steps
-- Of result $1; $2: as `steps` has them; $3: the link_name of each. A run that was written while it was archived may
-- name a screenshot that the archive does not have.
INSERT INTO test_step_results (
    id, test_case_result_id, iteration_number, step_number, parent_step_number, step_type, action, description, status,
    duration_ms, element_selector, element_name, element_type, input_value, expected_value, actual_value,
    error_message, error_type, stack_trace, screenshot_path, link_name, screenshot_artifact_id, screenshot_pinned,
    started_at, completed_at, created_at, updated_at)
SELECT n.id, $1, n.iteration_number, n.step_number, n.parent_step_number, n.step_type, n.action, n.description,
       n.status, n.duration_ms, n.element_selector, n.element_name, n.element_type, n.input_value, n.expected_value,
       n.actual_value, n.error_message, n.error_type, n.stack_trace, n.screenshot_path,
       CASE WHEN n.link_name IS NOT NULL THEN ARRAY[n.screenshot_path, n.link_name] END,
       (SELECT a.id FROM test_artifacts a WHERE a.test_case_result_id = $1 AND a.id = n.screenshot_artifact_id),
       n.screenshot_pinned, n.started_at, n.completed_at, n.created_at, n.updated_at
FROM ROWS FROM (unnest($3::text[]), json_to_recordset($2::json) AS (
    id uuid, iteration_number int, step_number int, parent_step_number int, step_type text, action text,
    description text, status text, duration_ms int, element_selector text, element_name text, element_type text,
    input_value text, expected_value text, actual_value text, error_message text, error_type text, stack_trace text,
    screenshot_path text, screenshot_artifact_id uuid, screenshot_pinned boolean, started_at timestamptz,
    completed_at timestamptz, created_at timestamptz, updated_at timestamptz)) AS n(link_name)

-- name: own_artifacts
-- After the steps of result $1: to which of them its artifacts ($2, as `artifacts` has them) belong.
UPDATE test_artifacts a SET step_result_id = s.id
FROM json_to_recordset($2::json) AS n(id uuid, step_result_id uuid)
JOIN test_step_results s ON s.test_case_result_id = $1 AND s.id = n.step_result_id
WHERE a.id = n.id AND a.test_case_result_id = $1

-- name: insert_checkpoints
-- Of result $1, in their order; $2: as `checkpoints` has them.
INSERT INTO test_checkpoints (
    id, test_case_result_id, iteration_number, checkpoint_number, step_number, name, checkpoint_type, status,
    expected_value, actual_value, message, screenshot_artifact_id, captured_at, created_at)
SELECT n.id, $1, n.iteration_number, n.checkpoint_number, n.step_number, n.name, n.checkpoint_type, n.status,
       n.expected_value, n.actual_value, n.message,
       (SELECT a.id FROM test_artifacts a WHERE a.test_case_result_id = $1 AND a.id = n.screenshot_artifact_id),
       n.captured_at, n.created_at
FROM ROWS FROM (json_to_recordset($2::json) AS (
    id uuid, iteration_number int, checkpoint_number int, step_number int, name text, checkpoint_type text,
    status text, expected_value text, actual_value text, message text, screenshot_artifact_id uuid,
    captured_at timestamptz, created_at timestamptz)) WITH ORDINALITY
    AS n(id, iteration_number, checkpoint_number, step_number, name, checkpoint_type, status, expected_value,
         actual_value, message, screenshot_artifact_id, captured_at, created_at, number)
ORDER BY n.number

-- name: insert_console_logs
-- As insert_checkpoints.
INSERT INTO test_console_logs (
    id, test_case_result_id, client_sequence, level, message, source_url, line_number, column_number, step_number,
    iteration_number, logged_at, created_at)
SELECT n.id, $1, n.client_sequence, n.level, n.message, n.source_url, n.line_number, n.column_number, n.step_number,
       n.iteration_number, n.logged_at, n.created_at
FROM ROWS FROM (json_to_recordset($2::json) AS (
    id uuid, client_sequence bigint, level text, message text, source_url text, line_number int, column_number int,
    step_number int, iteration_number int, logged_at timestamptz, created_at timestamptz)) WITH ORDINALITY
    AS n(id, client_sequence, level, message, source_url, line_number, column_number, step_number, iteration_number,
         logged_at, created_at, number)
ORDER BY n.number

-- name: insert_network_logs
-- As insert_checkpoints.
INSERT INTO test_network_logs (
    id, test_case_result_id, client_sequence, method, url, status_code, resource_type, request_headers,
    response_headers, request_size, response_size, duration_ms, error_text, step_number, iteration_number, started_at,
    created_at)
SELECT n.id, $1, n.client_sequence, n.method, n.url, n.status_code, n.resource_type, n.request_headers,
       n.response_headers, n.request_size, n.response_size, n.duration_ms, n.error_text, n.step_number,
       n.iteration_number, n.started_at, n.created_at
FROM ROWS FROM (json_to_recordset($2::json) AS (
    id uuid, client_sequence bigint, method text, url text, status_code int, resource_type text,
    request_headers jsonb, response_headers jsonb, request_size bigint, response_size bigint, duration_ms int,
    error_text text, step_number int, iteration_number int, started_at timestamptz, created_at timestamptz))
    WITH ORDINALITY AS n(id, client_sequence, method, url, status_code, resource_type, request_headers,
                         response_headers, request_size, response_size, duration_ms, error_text, step_number,
                         iteration_number, started_at, created_at, number)
ORDER BY n.number
