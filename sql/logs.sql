-- name: insert_console
-- An entry whose client_sequence is already there was sent before: nothing is added.
INSERT INTO test_console_logs (
    id, test_case_result_id, client_sequence, level, message, source_url, line_number, column_number,
    step_number, iteration_number, logged_at)
SELECT n.id, $1, n.client_sequence, n.level, n.message, n.source_url, n.line_number, n.column_number,
       n.step_number, n.iteration_number, n.logged_at
FROM unnest($2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::int[], $8::int[],
            $9::int[], $10::int[], $11::timestamptz[])
     AS n(id, client_sequence, level, message, source_url, line_number, column_number,
          step_number, iteration_number, logged_at)
ORDER BY n.id
ON CONFLICT ON CONSTRAINT unique_console_log_sequence DO NOTHING
RETURNING id

-- name: count_console
-- One row when the test case exists and the caller may see it, else none.
SELECT (SELECT count(*) FROM test_console_logs l
        WHERE l.test_case_result_id = c.id
          AND ($3::int IS NULL OR l.step_number = $3)
          AND ($4::int IS NULL OR l.iteration_number = $4)
          AND ($5::text IS NULL OR l.level = $5)) AS total
FROM test_case_results c WHERE c.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: console_for_case
SELECT id, test_case_result_id, level, message, source_url, line_number, column_number,
       step_number, iteration_number, logged_at, created_at
FROM test_console_logs
WHERE test_case_result_id = $1
  AND ($2::int IS NULL OR step_number = $2)
  AND ($3::int IS NULL OR iteration_number = $3)
  AND ($4::text IS NULL OR level = $4)
ORDER BY seq LIMIT $5 OFFSET $6

-- name: insert_network
-- An entry whose client_sequence is already there was sent before: nothing is added.
INSERT INTO test_network_logs (
    id, test_case_result_id, client_sequence, method, url, status_code, resource_type, request_headers,
    response_headers, request_size, response_size, duration_ms, error_text, step_number, iteration_number, started_at)
SELECT n.id, $1, n.client_sequence, n.method, n.url, n.status_code, n.resource_type, n.request_headers,
       n.response_headers, n.request_size, n.response_size, n.duration_ms, n.error_text, n.step_number,
       n.iteration_number, n.started_at
FROM unnest($2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::int[], $7::text[], $8::jsonb[], $9::jsonb[],
            $10::bigint[], $11::bigint[], $12::int[], $13::text[], $14::int[], $15::int[], $16::timestamptz[])
     AS n(id, client_sequence, method, url, status_code, resource_type, request_headers,
          response_headers, request_size, response_size, duration_ms, error_text, step_number, iteration_number,
          started_at)
ORDER BY n.id
ON CONFLICT ON CONSTRAINT unique_network_log_sequence DO NOTHING
RETURNING id

-- name: count_network
-- One row when the test case exists and the caller may see it, else none.
SELECT (SELECT count(*) FROM test_network_logs l
        WHERE l.test_case_result_id = c.id
          AND ($3::int IS NULL OR l.step_number = $3)
          AND ($4::int IS NULL OR l.iteration_number = $4)
          AND ($5::int IS NULL OR l.status_code >= $5)
          AND ($6::text IS NULL OR l.resource_type = $6)) AS total
FROM test_case_results c WHERE c.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: network_for_case
SELECT id, test_case_result_id, method, url, status_code, resource_type, request_headers, response_headers,
       request_size, response_size, duration_ms, error_text, step_number, iteration_number, started_at, created_at
FROM test_network_logs
WHERE test_case_result_id = $1
  AND ($2::int IS NULL OR step_number = $2)
  AND ($3::int IS NULL OR iteration_number = $3)
  AND ($4::int IS NULL OR status_code >= $4)
  AND ($5::text IS NULL OR resource_type = $5)
ORDER BY seq LIMIT $6 OFFSET $7

-- name: counts
SELECT (SELECT count(*) FROM test_console_logs WHERE test_case_result_id = $1) AS console,
       (SELECT count(*) FROM test_network_logs WHERE test_case_result_id = $1) AS network
