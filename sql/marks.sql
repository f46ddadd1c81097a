-- name: flaky_tests
-- The tests that passed and failed on one commit (or in one run, when it names none) with one browser, since result $2
-- and up to $3: the first $6 in the order of code points, of these tests ($5; NULL: all). Found from the failures of the
-- newest runs, which are few: each looks for a result that passed, by index, until $6 tests are found. The inner LIMITs
-- keep this order: otherwise the planner may read all results of all projects since $2, or all results of each test.
WITH failed AS (
    SELECT DISTINCT c.test_id COLLATE "C" AS place, c.test_id, c.browser, c.commit_sha,
           CASE WHEN c.commit_sha <> '' THEN NULL ELSE c.run_id END AS run_id
    FROM (SELECT f.test_id, f.browser, r.commit_sha, r.id AS run_id
          FROM suite_runs r CROSS JOIN LATERAL (
              SELECT test_id, browser FROM test_case_results
              WHERE suite_run_id = r.id AND status = 'Failed' AND id BETWEEN $2 AND $3 LIMIT $4) AS f
          WHERE r.project_id = $1 AND r.id BETWEEN $2 AND $3
          ORDER BY r.id DESC LIMIT $4) AS c
    WHERE $5::text[] IS NULL OR c.test_id IN (SELECT unnest($5))
    ORDER BY 1
)
SELECT DISTINCT f.place AS test_id FROM failed f
WHERE EXISTS (
    SELECT FROM (SELECT o.id FROM suite_runs o
                 WHERE o.project_id = $1 AND o.commit_sha = f.commit_sha AND f.run_id IS NULL
                 UNION ALL
                 SELECT f.run_id WHERE f.run_id IS NOT NULL) AS same
    CROSS JOIN LATERAL (
        SELECT FROM test_case_results p
        WHERE p.suite_run_id = same.id AND p.test_id = f.test_id AND p.status = 'Passed'
          AND p.browser IS NOT DISTINCT FROM f.browser AND p.id BETWEEN $2 AND $3 LIMIT 1) AS passed)
ORDER BY f.place LIMIT $6

-- name: histories
-- The newest $4 results of each of these tests ($2), up to result $3: one index scan for each test. `number`: the place
-- of the test in $2. Thousands of rows: what they share is in `runs`. The sub-selects here are as in artifacts.lock.
SELECT wanted.number, h.id, h.suite_run_id, h.status, h.attempt, h.browser, h.duration_ms
FROM unnest((SELECT $2::text[])) WITH ORDINALITY AS wanted(test_id, number)
CROSS JOIN LATERAL (
    SELECT c.id, c.suite_run_id, c.status, c.attempt, c.browser, c.duration_ms FROM test_case_results c
    WHERE c.project_id = $1 AND c.test_id = wanted.test_id AND c.id <= $3 ORDER BY c.id DESC LIMIT $4) AS h

-- name: runs
SELECT id, name, branch, commit_sha FROM suite_runs WHERE id = ANY((SELECT $1::uuid[])::uuid[])
