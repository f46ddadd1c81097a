-- name: insert_many
-- $1: the result of each checkpoint.
INSERT INTO test_checkpoints (
    id, test_case_result_id, iteration_number, checkpoint_number, step_number, name, checkpoint_type, status,
    expected_value, actual_value, message, screenshot_artifact_id, captured_at)
SELECT n.id, n.case_id, coalesce(n.iteration_number, 1), n.checkpoint_number, n.step_number, n.name, n.checkpoint_type,
       coalesce(n.status, 'Pending'), n.expected_value, n.actual_value, n.message, n.screenshot_artifact_id,
       n.captured_at
FROM ROWS FROM (unnest($2::uuid[], $1::uuid[]), json_to_recordset($3::json) AS (
    iteration_number int, checkpoint_number int, step_number int, name text, checkpoint_type text, status text,
    expected_value text, actual_value text, message text, screenshot_artifact_id uuid, captured_at timestamptz))
    AS n(id, case_id)
ORDER BY n.id

-- name: count_for_case
-- One row if the test case exists and the caller may see it, even when the count is 0. Otherwise no row: a 404.
SELECT (SELECT count(*) FROM test_checkpoints k
        WHERE k.test_case_result_id = c.id
          AND ($3::int IS NULL OR k.step_number = $3)
          AND ($4::int IS NULL OR k.iteration_number = $4)) AS total
FROM test_case_results c WHERE c.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: for_case
-- A portion of the checkpoints after $4, as in logs.console_for_case.
SELECT id, test_case_result_id, iteration_number, checkpoint_number, step_number, name, checkpoint_type, status,
       expected_value, actual_value, message, screenshot_artifact_id, captured_at, created_at, seq, bytes
FROM (SELECT *, row_number() OVER portion AS number,
             sum(500 + coalesce(octet_length(expected_value), 0) + coalesce(octet_length(actual_value), 0)
                 + coalesce(octet_length(message), 0)) OVER portion AS bytes
      FROM (SELECT * FROM test_checkpoints
            WHERE test_case_result_id = $1
              AND ($2::int IS NULL OR step_number = $2)
              AND ($3::int IS NULL OR iteration_number = $3)
              AND seq > $4
            ORDER BY seq LIMIT $5 OFFSET $6) AS page
      WINDOW portion AS (ORDER BY seq ROWS UNBOUNDED PRECEDING)) AS checkpoint
WHERE bytes <= 1048576 OR number = 1
ORDER BY seq

-- name: own_artifacts
-- Which of the artifacts in $2 belong to the test case: a checkpoint may show no other screenshot.
-- OFFSET 0 as in steps.by_ids.
SELECT id FROM unnest((SELECT $2::uuid[])) AS wanted(wanted_id)
CROSS JOIN LATERAL (SELECT id, test_case_result_id FROM test_artifacts WHERE id = wanted_id OFFSET 0) AS artifact
WHERE test_case_result_id = $1
