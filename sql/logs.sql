-- name: insert_console
-- $1: the result of each entry. $4 is the client's sequence number of the first entry, or NULL. An entry whose number is stored already was sent
-- before and is skipped, so that a retry adds nothing twice.
INSERT INTO test_console_logs (
    id, test_case_result_id, client_sequence, level, message, source_url, line_number, column_number,
    step_number, iteration_number, logged_at)
SELECT n.id, n.case_id, $4::bigint + n.number - 1, n.level, n.message, n.source_url, n.line_number, n.column_number,
       n.step_number, coalesce(n.iteration_number, 1), n.logged_at
FROM ROWS FROM (unnest($2::uuid[], $1::uuid[]), json_to_recordset($3::json) AS (
    level text, message text, source_url text, line_number int, column_number int, step_number int,
    iteration_number int, logged_at timestamptz)) WITH ORDINALITY
    AS n(id, case_id, level, message, source_url, line_number, column_number, step_number, iteration_number, logged_at,
         number)
ORDER BY n.number
ON CONFLICT ON CONSTRAINT unique_console_log_sequence DO NOTHING
RETURNING id

-- name: count_console
-- One row if the test case exists and the caller may see it, even when the count is 0. Otherwise no row: a 404.
SELECT (SELECT count(*) FROM test_console_logs l
        WHERE l.test_case_result_id = c.id
          AND ($3::int IS NULL OR l.step_number = $3)
          AND ($4::int IS NULL OR l.iteration_number = $4)
          AND ($5::text IS NULL OR l.level = $5)) AS total
FROM test_case_results c WHERE c.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: console_for_case
-- The first portion of the entries after $5: 1 MiB of text, or one larger entry (see reports/listing.py). `bytes` is
-- their size up to each row; 500 stands for the names and the short values of one. The last columns are for the next
-- portion.
SELECT id, test_case_result_id, level, message, source_url, line_number, column_number,
       step_number, iteration_number, logged_at, created_at, seq, bytes
FROM (SELECT *, row_number() OVER portion AS number,
             sum(500 + octet_length(message) + coalesce(octet_length(source_url), 0)) OVER portion AS bytes
      FROM (SELECT * FROM test_console_logs
            WHERE test_case_result_id = $1
              AND ($2::int IS NULL OR step_number = $2)
              AND ($3::int IS NULL OR iteration_number = $3)
              AND ($4::text IS NULL OR level = $4)
              AND seq > $5
            ORDER BY seq LIMIT $6 OFFSET $7) AS page
      WINDOW portion AS (ORDER BY seq ROWS UNBOUNDED PRECEDING)) AS entry
WHERE bytes <= 1048576 OR number = 1
ORDER BY seq

-- name: insert_network
-- Like insert_console. In HAR, a size of -1 means unknown: it is stored as NULL.
INSERT INTO test_network_logs (
    id, test_case_result_id, client_sequence, method, url, status_code, resource_type, request_headers,
    response_headers, request_size, response_size, duration_ms, error_text, step_number, iteration_number, started_at)
SELECT n.id, n.case_id, $4::bigint + n.number - 1, n.method, n.url, n.status_code, n.resource_type,
       coalesce(n.request_headers, '{}'), coalesce(n.response_headers, '{}'), nullif(n.request_size, -1),
       nullif(n.response_size, -1), n.duration_ms, n.error_text, n.step_number, coalesce(n.iteration_number, 1),
       n.started_at
FROM ROWS FROM (unnest($2::uuid[], $1::uuid[]), json_to_recordset($3::json) AS (
    method text, url text, status_code int, resource_type text, request_headers jsonb, response_headers jsonb,
    request_size bigint, response_size bigint, duration_ms int, error_text text, step_number int,
    iteration_number int, started_at timestamptz)) WITH ORDINALITY
    AS n(id, case_id, method, url, status_code, resource_type, request_headers, response_headers, request_size,
         response_size, duration_ms, error_text, step_number, iteration_number, started_at, number)
ORDER BY n.number
ON CONFLICT ON CONSTRAINT unique_network_log_sequence DO NOTHING
RETURNING id

-- name: count_network
-- One row if the test case exists and the caller may see it, even when the count is 0. Otherwise no row: a 404.
SELECT (SELECT count(*) FROM test_network_logs l
        WHERE l.test_case_result_id = c.id
          AND ($3::int IS NULL OR l.step_number = $3)
          AND ($4::int IS NULL OR l.iteration_number = $4)
          AND ($5::int IS NULL OR l.status_code >= $5)
          AND ($6::text IS NULL OR l.resource_type = $6)) AS total
FROM test_case_results c WHERE c.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: network_for_case
-- A portion of the entries after $6, as in `console_for_case`.
SELECT id, test_case_result_id, method, url, status_code, resource_type, request_headers, response_headers,
       request_size, response_size, duration_ms, error_text, step_number, iteration_number, started_at, created_at,
       seq, bytes
FROM (SELECT *, row_number() OVER portion AS number,
             sum(500 + octet_length(url) + coalesce(octet_length(error_text), 0)
                 + octet_length(request_headers::text) + octet_length(response_headers::text)) OVER portion AS bytes
      FROM (SELECT * FROM test_network_logs
            WHERE test_case_result_id = $1
              AND ($2::int IS NULL OR step_number = $2)
              AND ($3::int IS NULL OR iteration_number = $3)
              AND ($4::int IS NULL OR status_code >= $4)
              AND ($5::text IS NULL OR resource_type = $5)
              AND seq > $6
            ORDER BY seq LIMIT $7 OFFSET $8) AS page
      WINDOW portion AS (ORDER BY seq ROWS UNBOUNDED PRECEDING)) AS entry
WHERE bytes <= 1048576 OR number = 1
ORDER BY seq
