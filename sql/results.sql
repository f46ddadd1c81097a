-- The page of one test case result. It reads what is in view: a result may have thousands of steps, each with a stack
-- trace of a megabyte.

-- name: head
-- The result with its run. $3: the characters to read of a long text; one more shows that the text was cut.
SELECT c.id, c.name, c.test_id, c.status, c.duration_ms, c.attempt, left(c.error_message, $3 + 1) AS error_message,
       c.error_type, left(c.stack_trace, $3 + 1) AS stack_trace, c.browser, c.tags, c.metadata::text AS metadata,
       c.started_at, c.completed_at, c.created_at, c.project_id, p.name AS project, r.id AS run_id,
       r.name AS run_name, r.run_key, r.status AS run_status, r.branch, r.commit_sha, r.environment, r.build_url,
       r.platform, r.triggered_by, r.started_at AS run_started_at,
       encode(c.error_fingerprint, 'hex') AS error_fingerprint
FROM test_case_results c JOIN suite_runs r ON r.id = c.suite_run_id JOIN projects p ON p.id = c.project_id
WHERE c.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: step_count
SELECT count(*) FROM test_step_results WHERE test_case_result_id = $1

-- name: iterations
-- `opens`: the step that a tab leads to.
SELECT iteration_number, count(*) AS steps,
       CASE WHEN bool_or(status = 'Failed') THEN 'Failed' WHEN bool_or(status = 'Pending') THEN 'Pending'
            WHEN bool_or(status = 'Passed') THEN 'Passed' ELSE 'Skipped' END AS status,
       coalesce(min(step_number) FILTER (WHERE status = 'Failed'), max(step_number) FILTER (WHERE status = 'Passed'),
                max(step_number)) AS opens
FROM test_step_results WHERE test_case_result_id = $1
GROUP BY iteration_number ORDER BY iteration_number LIMIT $2

-- name: first
-- The step that the page opens with: the first one that failed, else the last one that ran, else the last one.
SELECT iteration_number, step_number FROM (
    (SELECT 0 AS rank, iteration_number, step_number FROM test_step_results
     WHERE test_case_result_id = $1 AND status = 'Failed' ORDER BY iteration_number, step_number LIMIT 1)
    UNION ALL
    (SELECT 1, iteration_number, step_number FROM test_step_results
     WHERE test_case_result_id = $1 AND status = 'Passed' ORDER BY iteration_number DESC, step_number DESC LIMIT 1)
    UNION ALL
    (SELECT 2, iteration_number, step_number FROM test_step_results
     WHERE test_case_result_id = $1 ORDER BY iteration_number DESC, step_number DESC LIMIT 1)
) AS found ORDER BY rank LIMIT 1

-- name: position
-- How many steps the iteration has, and how many of them come before this one.
SELECT count(*) AS total, count(*) FILTER (WHERE step_number < $3) AS before
FROM test_step_results WHERE test_case_result_id = $1 AND iteration_number = $2

-- name: rows
-- The steps of an iteration as rows: no long text is read whole. Without a description, a step is called by its action
-- and its element, unless the action names the element already.
SELECT step_number, status, duration_ms,
       left(coalesce(nullif(description, ''), CASE WHEN strpos(lower(action), lower(element_name)) > 0 THEN action END,
                     concat_ws(' ', coalesce(nullif(action, ''), step_type), element_name)), 200) AS title,
       screenshot_artifact_id, error_message IS NOT NULL AS has_error, started_at, completed_at, parent_step_number
FROM test_step_results WHERE test_case_result_id = $1 AND iteration_number = $2
ORDER BY step_number LIMIT $3 OFFSET $4

-- name: outline
-- What shows that something is missing: of all steps, without their texts.
SELECT iteration_number, step_number, status,
       CASE WHEN screenshot_artifact_id IS NULL THEN screenshot_path END AS named,
       screenshot_artifact_id IS NOT NULL AS shown, started_at, completed_at
FROM test_step_results WHERE test_case_result_id = $1
ORDER BY iteration_number, step_number LIMIT $2

-- name: image_of_step
-- The screenshot of a step of another result: of the last green.
SELECT a.id, a.artifact_type, a.artifact_category, a.step_number, a.iteration_number, a.file_name, a.file_size,
       a.mime_type, a.checksum, NULL AS description, a.captured_at, a.uploaded_at
FROM test_step_results s JOIN test_artifacts a ON a.id = s.screenshot_artifact_id
WHERE s.id = $1

-- name: step
-- One step, whole up to $4 characters of each text.
SELECT id, iteration_number, step_number, step_type, action,
       left(coalesce(nullif(description, ''), CASE WHEN strpos(lower(action), lower(element_name)) > 0 THEN action END,
                     concat_ws(' ', coalesce(nullif(action, ''), step_type), element_name)), $4 + 1) AS title,
       status, duration_ms, left(element_selector, $4 + 1) AS element_selector, element_name, element_type,
       left(input_value, $4 + 1) AS input_value, left(expected_value, $4 + 1) AS expected_value,
       left(actual_value, $4 + 1) AS actual_value, left(error_message, $4 + 1) AS error_message, error_type,
       left(stack_trace, $4 + 1) AS stack_trace, screenshot_path, screenshot_artifact_id, started_at, completed_at
FROM test_step_results WHERE test_case_result_id = $1 AND iteration_number = $2 AND step_number = $3

-- name: around
-- The steps before and after this one, and those that failed. `failed`: how many failed in all, and `rank`: which of
-- them this step is, or would be.
SELECT (SELECT ARRAY[iteration_number, step_number] FROM test_step_results
        WHERE test_case_result_id = $1 AND (iteration_number, step_number) < ($2::int, $3::int)
        ORDER BY iteration_number DESC, step_number DESC LIMIT 1) AS previous,
       (SELECT ARRAY[iteration_number, step_number] FROM test_step_results
        WHERE test_case_result_id = $1 AND (iteration_number, step_number) > ($2::int, $3::int)
        ORDER BY iteration_number, step_number LIMIT 1) AS next,
       (SELECT ARRAY[iteration_number, step_number] FROM test_step_results
        WHERE test_case_result_id = $1 AND status = 'Failed'
          AND (iteration_number, step_number) < ($2::int, $3::int)
        ORDER BY iteration_number DESC, step_number DESC LIMIT 1) AS previous_failed,
       (SELECT ARRAY[iteration_number, step_number] FROM test_step_results
        WHERE test_case_result_id = $1 AND status = 'Failed'
          AND (iteration_number, step_number) > ($2::int, $3::int)
        ORDER BY iteration_number, step_number LIMIT 1) AS next_failed,
       (SELECT count(*) FROM test_step_results WHERE test_case_result_id = $1 AND status = 'Failed') AS failed,
       (SELECT count(*) FROM test_step_results
        WHERE test_case_result_id = $1 AND status = 'Failed'
          AND (iteration_number, step_number) <= ($2::int, $3::int)) AS rank,
       (SELECT min(iteration_number) <> max(iteration_number) FROM test_step_results
        WHERE test_case_result_id = $1) AS iterated,
       (SELECT screenshot_artifact_id FROM test_step_results
        WHERE test_case_result_id = $1 AND iteration_number = $2 AND step_number < $3
        ORDER BY step_number DESC LIMIT 1) AS image_before

-- name: nearest_image
-- The nearest steps with a screenshot, an earlier one first.
SELECT iteration_number, step_number FROM (
    (SELECT 0 AS rank, iteration_number, step_number FROM test_step_results
     WHERE test_case_result_id = $1 AND iteration_number = $2 AND step_number < $3
       AND screenshot_artifact_id IS NOT NULL ORDER BY step_number DESC LIMIT 1)
    UNION ALL
    (SELECT 1, iteration_number, step_number FROM test_step_results
     WHERE test_case_result_id = $1 AND iteration_number = $2 AND step_number > $3
       AND screenshot_artifact_id IS NOT NULL ORDER BY step_number LIMIT 1)
) AS found ORDER BY abs(step_number - $3), rank LIMIT 1

-- name: files_of_step
-- The files of a step ($2) and the screenshots in $3, which may belong to the step before; or of these the images ($4).
SELECT id, artifact_type, artifact_category, step_number, iteration_number, file_name, file_size, mime_type, checksum,
       left(description, 500) AS description, captured_at, uploaded_at
FROM test_artifacts
WHERE test_case_result_id = $1 AND (step_result_id = $2::uuid OR id = ANY($3::uuid[]))
  AND (NOT $4::bool OR starts_with(mime_type, 'image/'))
ORDER BY id LIMIT $5

-- name: files
-- All files, or only the images ($2), a page at a time; what no step shows comes first.
SELECT id, artifact_type, artifact_category, step_number, iteration_number, file_name, file_size, mime_type, checksum,
       left(description, 500) AS description, captured_at, uploaded_at
FROM test_artifacts WHERE test_case_result_id = $1 AND (NOT $2::bool OR starts_with(mime_type, 'image/'))
ORDER BY artifact_type = 'screenshot', iteration_number, step_number NULLS FIRST, id
LIMIT $3 OFFSET $4

-- name: checkpoints
-- Of the result, or of one step ($2, $3).
SELECT iteration_number, checkpoint_number, step_number, name, checkpoint_type, status,
       left(expected_value, 2001) AS expected_value, left(actual_value, 2001) AS actual_value,
       left(message, 2001) AS message, screenshot_artifact_id, captured_at
FROM test_checkpoints
WHERE test_case_result_id = $1 AND ($2::int IS NULL OR (iteration_number = $2 AND step_number = $3::int))
ORDER BY seq LIMIT $4

-- name: console_of_step
-- The entries of a step: those with its number, and those without a number that were logged while it ran.
SELECT level, left(message, 2001) AS message, left(source_url, 500) AS source_url, line_number, step_number, logged_at
FROM test_console_logs
WHERE test_case_result_id = $1
  AND ((iteration_number = $2 AND step_number = $3)
       OR (step_number IS NULL AND logged_at BETWEEN $4::timestamptz AND $5::timestamptz))
ORDER BY seq LIMIT $6

-- name: network_of_step
-- Like console_of_step: also requests that began earlier, or that ended later.
SELECT method, left(url, 2001) AS url, status_code, resource_type, response_size, duration_ms,
       left(error_text, 500) AS error_text, step_number, started_at
FROM test_network_logs
WHERE test_case_result_id = $1
  AND ((iteration_number = $2 AND step_number = $3)
       OR (step_number IS NULL AND started_at <= $5::timestamptz
           AND started_at + coalesce(duration_ms, 0) * INTERVAL '1 ms' >= $4::timestamptz))
ORDER BY seq LIMIT $6

-- name: console
-- The entries of a time window; without one ($2 is NULL) all of them. `number`: the page of one entry that the API has.
SELECT level, message, source_url, line_number, step_number, logged_at, number FROM (
    SELECT row_number() OVER (ORDER BY seq) AS number, level, left(message, 2001) AS message,
           left(source_url, 500) AS source_url, line_number, step_number, logged_at
    FROM test_console_logs WHERE test_case_result_id = $1) AS entry
WHERE $2::timestamptz IS NULL OR logged_at BETWEEN $2 AND $3::timestamptz
ORDER BY number LIMIT $4 OFFSET $5

-- name: network
-- Likewise, the requests that overlap a time window.
SELECT method, url, status_code, resource_type, response_size, duration_ms, error_text, step_number, started_at, number
FROM (
    SELECT row_number() OVER (ORDER BY seq) AS number, method, left(url, 2001) AS url, status_code, resource_type,
           response_size, duration_ms, left(error_text, 500) AS error_text, step_number, started_at
    FROM test_network_logs WHERE test_case_result_id = $1) AS entry
WHERE $2::timestamptz IS NULL
   OR (started_at <= $3::timestamptz AND started_at + coalesce(duration_ms, 0) * INTERVAL '1 ms' >= $2)
ORDER BY number LIMIT $4 OFFSET $5

-- name: console_marks
-- The console in the $4 milliseconds from $3, as milliseconds: at most one entry of a level in each of 1,000 slots. An
-- entry without a time stands at the start of its step.
SELECT min((extract(epoch FROM at - $3::timestamptz) * 1000)::bigint) AS at, level
FROM (SELECT l.level, coalesce(l.logged_at, s.started_at) AS at
      FROM test_console_logs l
      LEFT JOIN test_step_results s ON s.test_case_result_id = l.test_case_result_id AND l.logged_at IS NULL
          AND s.iteration_number = l.iteration_number AND s.step_number = l.step_number
          AND s.iteration_number = $2::int
      WHERE l.test_case_result_id = $1) AS entry
WHERE at BETWEEN $3 AND $3::timestamptz + $4::float8 * INTERVAL '1 ms'
GROUP BY level, floor(extract(epoch FROM at - $3) * 1000000 / $4::float8)

-- name: network_marks
-- The requests in the $3 milliseconds from $2: start and end in milliseconds, and whether they failed.
SELECT (extract(epoch FROM started_at - $2::timestamptz) * 1000)::bigint AS first,
       (extract(epoch FROM started_at - $2) * 1000)::bigint + coalesce(duration_ms, 0) AS last,
       coalesce(status_code >= 400, false) OR error_text IS NOT NULL AS failed
FROM test_network_logs
WHERE test_case_result_id = $1 AND started_at <= $2 + $3::float8 * INTERVAL '1 ms'
  AND started_at + coalesce(duration_ms, 0) * INTERVAL '1 ms' >= $2
ORDER BY seq LIMIT $4

-- name: totals
-- `left_out`: files that are no images, when only these are shown ($2).
SELECT (SELECT count(*) FROM test_artifacts
        WHERE test_case_result_id = $1 AND (NOT $2::bool OR starts_with(mime_type, 'image/'))) AS files,
       (SELECT count(*) FROM test_artifacts
        WHERE test_case_result_id = $1 AND $2::bool AND NOT starts_with(mime_type, 'image/')) AS left_out,
       (SELECT count(*) FROM test_checkpoints WHERE test_case_result_id = $1) AS checkpoints,
       (SELECT count(*) FROM test_console_logs WHERE test_case_result_id = $1) AS console,
       (SELECT count(*) FROM test_network_logs WHERE test_case_result_id = $1) AS network

-- name: attempts
-- The results of the same test in the same run, of the same browser.
SELECT id, attempt, status FROM test_case_results
WHERE project_id = $1 AND test_id = $2 AND suite_run_id = $3 AND browser IS NOT DISTINCT FROM $4::text
ORDER BY attempt, id LIMIT $5

-- name: failed_tests
-- The failed results of other tests before and after this one in its run. MATERIALIZED: otherwise the planner may look
-- for them among all failures in the order of ids, which are those of all runs.
WITH failed AS MATERIALIZED (
    SELECT id FROM test_case_results WHERE suite_run_id = $1 AND status = 'Failed' AND test_id <> $3)
SELECT (SELECT id FROM failed WHERE id < $2 ORDER BY id DESC LIMIT 1) AS previous,
       (SELECT id FROM failed WHERE id > $2 ORDER BY id LIMIT 1) AS next

-- name: tests_failed_at
-- In how many tests of the run a step failed with the selector of this one ($2), among the first $3 results that failed.
-- The inner LIMITs keep this order: otherwise the planner may read the failed steps of all results.
SELECT count(DISTINCT failed.test_id)
FROM (SELECT element_selector FROM test_step_results WHERE id = $2 LIMIT 1) AS this
CROSS JOIN LATERAL (
    SELECT id, test_id FROM test_case_results
    WHERE suite_run_id = (SELECT suite_run_id FROM test_case_results WHERE id = $1) AND status = 'Failed'
    ORDER BY id LIMIT $3) AS failed
CROSS JOIN LATERAL (
    SELECT FROM test_step_results s
    WHERE s.test_case_result_id = failed.id AND s.status = 'Failed' AND s.element_selector = this.element_selector
    LIMIT 1) AS at
