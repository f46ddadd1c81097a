-- name: latest
-- The newest result of a test: its name may have changed. No row when the project has no such test.
SELECT name FROM test_case_results WHERE project_id = $1 AND test_id = $2 ORDER BY id DESC LIMIT 1

-- name: history
SELECT c.id, c.suite_run_id, r.name AS suite_run_name, c.test_id, c.name, c.status, c.duration_ms, c.attempt, c.browser,
       encode(c.error_fingerprint, 'hex') AS error_fingerprint, r.branch, r.commit_sha, r.environment, r.build_url,
       r.started_at
FROM test_case_results c JOIN suite_runs r ON r.id = c.suite_run_id
WHERE c.project_id = $1 AND c.test_id = $2
  AND ($3::text IS NULL OR r.branch = $3)
  AND ($4::text IS NULL OR c.browser = $4)
  AND ($5::text IS NULL OR r.environment = $5)
  AND ($6::uuid IS NULL OR c.id < $6)
ORDER BY c.id DESC LIMIT $7

-- name: summary
-- Of the newest $6 results that match. percentile_disc: values that were measured, and nothing between them.
SELECT count(*) AS results,
       count(*) FILTER (WHERE status = 'Passed') AS passed,
       count(*) FILTER (WHERE status = 'Failed') AS failed,
       count(*) FILTER (WHERE status = 'Skipped') AS skipped,
       count(*) FILTER (WHERE status = 'Pending') AS pending,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY duration_ms) AS median_ms,
       percentile_disc(0.95) WITHIN GROUP (ORDER BY duration_ms) AS p95_ms
FROM (
    SELECT c.status, c.duration_ms
    FROM test_case_results c JOIN suite_runs r ON r.id = c.suite_run_id
    WHERE c.project_id = $1 AND c.test_id = $2
      AND ($3::text IS NULL OR r.branch = $3)
      AND ($4::text IS NULL OR c.browser = $4)
      AND ($5::text IS NULL OR r.environment = $5)
    ORDER BY c.id DESC LIMIT $6
) AS newest

-- name: errors
-- The errors of the newest $6 results that match, the most frequent first; a sample of each, and the newest result.
SELECT encode(e.fingerprint, 'hex') AS fingerprint, e.error_type, left(e.sample, 500) AS sample, count(*) AS results,
       (array_agg(newest.id ORDER BY newest.id DESC))[1] AS last_id
FROM (
    SELECT c.id, c.error_fingerprint
    FROM test_case_results c JOIN suite_runs r ON r.id = c.suite_run_id
    WHERE c.project_id = $1 AND c.test_id = $2
      AND ($3::text IS NULL OR r.branch = $3)
      AND ($4::text IS NULL OR c.browser = $4)
      AND ($5::text IS NULL OR r.environment = $5)
    ORDER BY c.id DESC LIMIT $6
) AS newest
JOIN errors e ON e.project_id = $1 AND e.fingerprint = newest.error_fingerprint
GROUP BY e.project_id, e.fingerprint
ORDER BY count(*) DESC, last_id DESC LIMIT $7

-- name: known
-- What a history can be filtered by: the values of the newest $3 results of a test.
SELECT array_agg(DISTINCT branch::text) AS branches, array_agg(DISTINCT browser::text) AS browsers,
       array_agg(DISTINCT environment::text) AS environments
FROM (
    SELECT r.branch, c.browser, r.environment
    FROM test_case_results c JOIN suite_runs r ON r.id = c.suite_run_id
    WHERE c.project_id = $1 AND c.test_id = $2 ORDER BY c.id DESC LIMIT $3
) AS newest
