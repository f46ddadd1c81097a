-- name: project_of
-- None when there is no such thing, or the caller may not see it.
SELECT c.project_id FROM test_step_results s JOIN test_case_results c ON c.id = s.test_case_result_id
WHERE s.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: insert_many
-- Locks, checks, inserts and links in one round trip; see migrations/0009.
SELECT id, test_case_result_id, iteration_number, step_number, step_type, action, description, status, duration_ms,
       element_selector, element_name, element_type, input_value, expected_value, actual_value,
       error_message, error_type, stack_trace, screenshot_path, screenshot_artifact_id,
       started_at, completed_at, created_at, updated_at
FROM insert_steps($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
                  $22, $23)

-- name: replace_many
-- Ids, creation times and pinned screenshots stay; everything else is as sent now.
INSERT INTO test_step_results AS old (
    id, test_case_result_id, iteration_number, step_number, step_type, action, description, status, duration_ms,
    element_selector, element_name, element_type, input_value, expected_value, actual_value,
    error_message, error_type, stack_trace, screenshot_path, started_at, completed_at)
SELECT n.id, $1, n.iteration_number, n.step_number, n.step_type, n.action, n.description, n.status, n.duration_ms,
       n.element_selector, n.element_name, n.element_type, n.input_value, n.expected_value, n.actual_value,
       n.error_message, n.error_type, n.stack_trace, n.screenshot_path, n.started_at, n.completed_at
FROM unnest($2::uuid[], $3::int[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[], $9::int[],
            $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[],
            $16::text[], $17::text[], $18::text[], $19::text[], $20::timestamptz[], $21::timestamptz[])
     AS n(id, iteration_number, step_number, step_type, action, description, status, duration_ms,
          element_selector, element_name, element_type, input_value, expected_value, actual_value,
          error_message, error_type, stack_trace, screenshot_path, started_at, completed_at)
ON CONFLICT ON CONSTRAINT unique_step_per_test DO UPDATE SET
    step_type = EXCLUDED.step_type, action = EXCLUDED.action, description = EXCLUDED.description,
    status = EXCLUDED.status, duration_ms = EXCLUDED.duration_ms, element_selector = EXCLUDED.element_selector,
    element_name = EXCLUDED.element_name, element_type = EXCLUDED.element_type, input_value = EXCLUDED.input_value,
    expected_value = EXCLUDED.expected_value, actual_value = EXCLUDED.actual_value,
    error_message = EXCLUDED.error_message, error_type = EXCLUDED.error_type, stack_trace = EXCLUDED.stack_trace,
    screenshot_path = EXCLUDED.screenshot_path, started_at = EXCLUDED.started_at,
    completed_at = EXCLUDED.completed_at, updated_at = CURRENT_TIMESTAMP
RETURNING id, iteration_number, step_number

-- name: prune
-- The steps that were not sent, of the iterations that were.
DELETE FROM test_step_results s
WHERE s.test_case_result_id = $1
  AND s.iteration_number = ANY($2::int[])
  AND NOT EXISTS (SELECT FROM unnest($2::int[], $3::int[]) AS sent(iteration_number, step_number)
                  WHERE sent.iteration_number = s.iteration_number AND sent.step_number = s.step_number)
RETURNING s.id, s.iteration_number

-- name: link
-- Decides every screenshot of a test case anew; see migrations/0009.
SELECT link_screenshots($1)

-- name: counts
-- One row when the test case exists and the caller may see it, else none. Follows the iteration, never the status.
SELECT count(s.id) AS total_steps,
       count(s.id) FILTER (WHERE s.status = 'Passed') AS passed_steps,
       count(s.id) FILTER (WHERE s.status = 'Failed') AS failed_steps,
       count(s.id) FILTER (WHERE s.status = 'Skipped') AS skipped_steps,
       count(s.id) FILTER (WHERE s.status = 'Pending') AS pending_steps,
       count(s.id) FILTER (WHERE $4::text IS NULL OR s.status = $4) AS matching
FROM test_case_results c
LEFT JOIN test_step_results s ON s.test_case_result_id = c.id AND ($3::int IS NULL OR s.iteration_number = $3)
WHERE c.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)
GROUP BY c.id

-- name: illustrated
-- The same, and the steps with what they show and own as JSON; see migrations/0010.
SELECT count(s.id) AS total_steps,
       count(s.id) FILTER (WHERE s.status = 'Passed') AS passed_steps,
       count(s.id) FILTER (WHERE s.status = 'Failed') AS failed_steps,
       count(s.id) FILTER (WHERE s.status = 'Skipped') AS skipped_steps,
       count(s.id) FILTER (WHERE s.status = 'Pending') AS pending_steps,
       count(s.id) FILTER (WHERE $4::text IS NULL OR s.status = $4) AS matching,
       illustrated_steps($1, $3, $4, $5, $6) AS steps
FROM test_case_results c
LEFT JOIN test_step_results s ON s.test_case_result_id = c.id AND ($3::int IS NULL OR s.iteration_number = $3)
WHERE c.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)
GROUP BY c.id

-- name: for_case
SELECT id, test_case_result_id, iteration_number, step_number, step_type, action, description, status, duration_ms,
       element_selector, element_name, element_type, input_value, expected_value, actual_value,
       error_message, error_type, stack_trace, screenshot_path, screenshot_artifact_id,
       started_at, completed_at, created_at, updated_at
FROM test_step_results
WHERE test_case_result_id = $1
  AND ($2::int IS NULL OR iteration_number = $2)
  AND ($3::text IS NULL OR status = $3)
ORDER BY iteration_number, step_number
LIMIT $4 OFFSET $5

-- name: case_of
-- Which test case a step belongs to, if the caller may see it.
SELECT s.test_case_result_id
FROM test_step_results s JOIN test_case_results c ON c.id = s.test_case_result_id
WHERE s.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: pin
-- Pinned to an artifact, or to none: from now on linking leaves this step's screenshot alone.
UPDATE test_step_results
SET screenshot_artifact_id = $2, screenshot_pinned = true, updated_at = CURRENT_TIMESTAMP
WHERE id = $1
RETURNING id, step_number, screenshot_artifact_id

-- name: shown
SELECT id, step_number, screenshot_artifact_id FROM test_step_results WHERE id = $1

-- name: unpin
-- Before its artifact is deleted; the foreign key then clears the reference itself.
UPDATE test_step_results SET screenshot_pinned = false
WHERE test_case_result_id = $1 AND screenshot_artifact_id = $2 AND screenshot_pinned
