-- name: of_case
-- A result with what is shown of its run. No row when the caller ($2; NULL is every project) may not see it.
SELECT c.id, c.project_id, c.suite_run_id, c.name, c.test_id, c.status, c.browser, c.attempt, c.duration_ms,
       r.name AS run_name, r.branch, r.commit_sha, r.started_at
FROM test_case_results c JOIN suite_runs r ON r.id = c.suite_run_id
WHERE c.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: last_green
-- The newest result that passed, of the 500 results of the test ($2) before result $3: with the same browser ($4) if
-- there is one, and then on the same branch ($5), on the main branch, or on any. Without the limit, a test that never
-- passed would read its whole history.
SELECT g.id, r.project_id, g.suite_run_id, g.name, $2::text AS test_id, g.status, g.browser, g.attempt, g.duration_ms,
       r.name AS run_name, r.branch, r.commit_sha, r.started_at
FROM (SELECT id, suite_run_id, name, status, browser, attempt, duration_ms FROM test_case_results
      WHERE project_id = $1 AND test_id = $2 AND id < $3 ORDER BY id DESC LIMIT 500) AS g
JOIN suite_runs r ON r.id = g.suite_run_id JOIN projects p ON p.id = r.project_id
WHERE g.status = 'Passed'
ORDER BY g.browser IS NOT DISTINCT FROM $4::text DESC, r.branch IS NOT DISTINCT FROM $5::text DESC,
         (r.branch = p.main_branch) DESC NULLS LAST, g.id DESC
LIMIT 1

-- name: greens
-- The last 10 results that passed, with the same browser, of the 500 results of the test before result $3.
SELECT g.id FROM (SELECT id, status, browser FROM test_case_results
                  WHERE project_id = $1 AND test_id = $2 AND id < $3 ORDER BY id DESC LIMIT 500) AS g
WHERE g.status = 'Passed' AND g.browser IS NOT DISTINCT FROM $4::text
ORDER BY g.id DESC LIMIT 10

-- name: steps
-- Texts are cut: a comparison needs their beginnings, and all of them may be a gigabyte. A subquery, not a join: a planner
-- that expects few steps compares each of them with each artifact, or reads all artifacts.
SELECT s.iteration_number, s.step_number, s.step_type, s.status, s.action, left(s.description, 500) AS description,
       left(s.element_selector, 500) AS selector, s.element_name, left(s.input_value, 1000) AS input_value,
       left(s.expected_value, 1000) AS expected_value, left(s.actual_value, 1000) AS actual_value, s.error_type,
       left(s.error_message, 4000) AS error_message, s.duration_ms,
       (SELECT checksum FROM test_artifacts WHERE id = s.screenshot_artifact_id) AS picture, s.started_at, s.id
FROM test_step_results s
WHERE s.test_case_result_id = $1
ORDER BY s.iteration_number, s.step_number LIMIT $2

-- name: console_errors
SELECT left(message, 1000) AS message, iteration_number, step_number, logged_at
FROM test_console_logs WHERE test_case_result_id = $1 AND level = 'error' ORDER BY seq LIMIT $2

-- name: failed_requests
-- Without the query of the URL, which often has an id of the session.
SELECT method, left(split_part(split_part(url, '#', 1), '?', 1), 1000) AS url, status_code,
       left(error_text, 500) AS error_text, resource_type, iteration_number, step_number, started_at
FROM test_network_logs
WHERE test_case_result_id = $1 AND (status_code >= 400 OR error_text <> '') ORDER BY seq LIMIT $2

-- name: durations
-- How long steps took in these results ($1), of some iterations ($2) and types ($3). All steps with the key of a wanted
-- step are among them, so that its place among them can be counted.
SELECT test_case_result_id, iteration_number, step_number, step_type, status, action,
       left(description, 500) AS description, left(element_selector, 500) AS selector, element_name, duration_ms
FROM test_step_results
WHERE test_case_result_id = ANY($1::uuid[]) AND iteration_number = ANY($2::int[]) AND step_type = ANY($3::text[])
ORDER BY test_case_result_id, iteration_number, step_number LIMIT $4

-- name: run
-- No row when the run does not exist or is not in the caller's project ($2; NULL is every project).
SELECT id, project_id, name, status, branch, commit_sha, started_at
FROM suite_runs WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2)

-- name: previous_run
-- The newest run of the same name and branch before run $2.
SELECT id, project_id, name, status, branch, commit_sha, started_at
FROM suite_runs
WHERE project_id = $1 AND name = $3 AND branch IS NOT DISTINCT FROM $4::text AND id < $2
ORDER BY id DESC LIMIT 1

-- name: main_run
-- The newest finished run of the same name on the project's main branch, other than run $2.
SELECT r.id, r.project_id, r.name, r.status, r.branch, r.commit_sha, r.started_at
FROM suite_runs r JOIN projects p ON p.id = r.project_id
WHERE r.project_id = $1 AND r.name = $3 AND r.branch = p.main_branch AND r.id <> $2
  AND r.status NOT IN ('Running', 'Pending')
ORDER BY r.id DESC LIMIT 1

-- name: tests_of_run
-- The last attempt of each test and browser, how many attempts there were, and whether one before it failed.
SELECT DISTINCT ON (test_id, browser) id, test_id, browser, name, status, duration_ms, error_type,
       CASE WHEN status = 'Failed' THEN left(error_message, 1000) END AS error_message, error_fingerprint,
       count(*) OVER same AS attempts, status = 'Passed' AND bool_or(status = 'Failed') OVER same AS flaky_here
FROM test_case_results WHERE suite_run_id = $1
WINDOW same AS (PARTITION BY test_id, browser)
ORDER BY test_id, browser, attempt DESC, id DESC
LIMIT $2

-- name: pictures
-- The picture of each of these steps ($1) that has one: its screenshot, else its newest image.
SELECT s.id, coalesce(p.id, n.id) AS picture, coalesce(p.checksum, n.checksum) AS checksum
FROM test_step_results s
LEFT JOIN test_artifacts p ON p.id = s.screenshot_artifact_id AND p.mime_type LIKE 'image/%'
LEFT JOIN LATERAL (
    SELECT a.id, a.checksum FROM test_artifacts a
    WHERE p.id IS NULL AND a.step_result_id = s.id AND a.mime_type LIKE 'image/%'
    ORDER BY a.id DESC LIMIT 1
) AS n ON true
WHERE s.id = ANY($1::uuid[]) AND coalesce(p.id, n.id) IS NOT NULL
