-- name: sources
-- What the results ($1) say about their failures, cut to $2 characters of a message and $3 of a stack trace, each with
-- the first failed step that has a message; see group_of in server/compare/failures.py. Only a result without a message
-- needs it, or one that may lose it ($4). The sub-selects of this file are as in artifacts.lock.
SELECT c.id, c.status, c.error_fingerprint, c.error_type, left(c.error_message, $2::int) AS error_message,
       left(c.stack_trace, $3::int) AS stack_trace, s.error_type AS step_error_type,
       left(s.error_message, $2::int) AS step_error_message
FROM test_case_results c
LEFT JOIN LATERAL (
    SELECT error_type, error_message FROM test_step_results
    WHERE test_case_result_id = c.id AND ($4::bool OR coalesce(c.error_message, '') = '')
      AND status = 'Failed' AND error_message <> ''
    ORDER BY iteration_number, step_number LIMIT 1
) AS s ON true
WHERE c.id = ANY((SELECT $1::uuid[])::uuid[])
ORDER BY c.id

-- name: assign
-- Also when nothing changes: the new version of the row is that of `touch`, see sql/test_cases.sql.
UPDATE test_case_results c SET updated_at = c.updated_at, error_fingerprint = n.fingerprint
FROM unnest((SELECT $1::uuid[]), (SELECT $2::bytea[])) AS n(id, fingerprint)
WHERE c.id = n.id

-- name: add
-- Those of the errors that the results ($1) have. The last statement of its transaction that can wait: another one that
-- adds the same error waits for the commit. Sorted, so that two of them cannot deadlock. MATERIALIZED: otherwise the plan
-- reads all results that have one of the errors.
WITH written AS MATERIALIZED (
    SELECT project_id, error_fingerprint FROM test_case_results WHERE id = ANY((SELECT $1::uuid[])::uuid[])
)
INSERT INTO errors (project_id, fingerprint, error_type, stable_text, sample)
SELECT DISTINCT c.project_id, n.fingerprint, n.error_type, n.stable_text, n.sample
FROM written c
JOIN unnest((SELECT $2::bytea[]), (SELECT $3::text[]), (SELECT $4::text[]), (SELECT $5::text[]))
    AS n(fingerprint, error_type, stable_text, sample)
    ON n.fingerprint = c.error_fingerprint
ORDER BY c.project_id, n.fingerprint
ON CONFLICT DO NOTHING

-- name: sweep
-- For `reportd regroup`: the next results after $1, at most $2, by id. Servers from before fingerprints may also have
-- left the fingerprint of a result that does not fail any more.
SELECT id, status = 'Failed' OR error_fingerprint IS NOT NULL AS failed
FROM test_case_results WHERE id > $1 ORDER BY id LIMIT $2

-- name: lock
-- In the order of ids, as a DELETE of a run locks them, so that the two cannot deadlock.
SELECT id FROM test_case_results WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE

-- name: page
-- The errors of a project ($1; NULL: of all projects) by their last result, which is `id`. $2: before this id, $3: since
-- this id. One look into the index for each error: a project has some thousands.
SELECT l.id, e.project_id, e.fingerprint
FROM errors e
CROSS JOIN LATERAL (
    SELECT c.id FROM test_case_results c WHERE c.project_id = e.project_id AND c.error_fingerprint = e.fingerprint
    ORDER BY c.id DESC LIMIT 1
) AS l
WHERE ($1::uuid IS NULL OR e.project_id = $1) AND ($2::uuid IS NULL OR l.id < $2) AND ($3::uuid IS NULL OR l.id >= $3)
ORDER BY l.id DESC
LIMIT $4

-- name: facts
-- Of these errors, in this order. An error without results, whose runs were deleted, has no row. Ids ascend in time, so
-- the index has the first and the last result.
SELECT p.name AS project, encode(e.fingerprint, 'hex') AS fingerprint, e.error_type, e.stable_text, e.sample,
       (SELECT count(*) FROM test_case_results c
        WHERE c.project_id = e.project_id AND c.error_fingerprint = e.fingerprint) AS results,
       f.id AS first_id, f.suite_run_id AS first_run, fr.branch AS first_branch, fr.commit_sha AS first_commit,
       fr.started_at AS first_started,
       l.id AS last_id, l.suite_run_id AS last_run, lr.branch AS last_branch, lr.commit_sha AS last_commit,
       lr.started_at AS last_started
FROM unnest($1::uuid[], $2::bytea[]) WITH ORDINALITY AS k(project_id, fingerprint, n)
JOIN errors e ON e.project_id = k.project_id AND e.fingerprint = k.fingerprint
JOIN projects p ON p.id = e.project_id
CROSS JOIN LATERAL (
    SELECT c.id, c.suite_run_id FROM test_case_results c
    WHERE c.project_id = e.project_id AND c.error_fingerprint = e.fingerprint ORDER BY c.id LIMIT 1
) AS f
CROSS JOIN LATERAL (
    SELECT c.id, c.suite_run_id FROM test_case_results c
    WHERE c.project_id = e.project_id AND c.error_fingerprint = e.fingerprint ORDER BY c.id DESC LIMIT 1
) AS l
JOIN suite_runs fr ON fr.id = f.suite_run_id
JOIN suite_runs lr ON lr.id = l.suite_run_id
ORDER BY k.n

-- name: days
-- Results per day in UTC on which they (or else their runs) started, of those made since $3, at most the newest $4.
-- Those are counted in `tests`, too.
SELECT to_char(coalesce(c.started_at, r.started_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS day, count(*) AS results
FROM (SELECT started_at, suite_run_id FROM test_case_results
      WHERE project_id = $1 AND error_fingerprint = $2 AND id >= $3 ORDER BY id DESC LIMIT $4) AS c
JOIN suite_runs r ON r.id = c.suite_run_id
GROUP BY 1 ORDER BY 1

-- name: tests
-- Most results first.
SELECT c.test_id, (array_agg(c.name ORDER BY c.id DESC))[1] AS name, count(*) AS results
FROM (SELECT id, test_id, name FROM test_case_results WHERE project_id = $1 AND error_fingerprint = $2 AND id >= $3
      ORDER BY id DESC LIMIT $4) AS c
GROUP BY c.test_id ORDER BY count(*) DESC, c.test_id LIMIT $5

-- name: results
-- The newest results of an error, with the columns of tests.history.
SELECT c.id, c.suite_run_id, r.name AS suite_run_name, c.test_id, c.name, c.status, c.duration_ms, c.attempt, c.browser,
       encode(c.error_fingerprint, 'hex') AS error_fingerprint, r.branch, r.commit_sha, r.environment, r.build_url,
       r.started_at
FROM test_case_results c JOIN suite_runs r ON r.id = c.suite_run_id
WHERE c.project_id = $1 AND c.error_fingerprint = $2
ORDER BY c.id DESC LIMIT $3

-- name: of_run
-- The failed tests of a run by error, the error of most tests first; $3 tests of each error, $4 rows. A test that is
-- repeated counts by its last attempt.
WITH last AS (
    SELECT DISTINCT ON (test_id, browser) id, project_id, test_id, name, status, duration_ms, attempt, browser,
           error_fingerprint
    FROM test_case_results WHERE suite_run_id = $1 AND ($2::uuid IS NULL OR project_id = $2)
    ORDER BY test_id, browser, attempt DESC, id DESC
), failed AS (
    SELECT *, count(*) OVER same AS tests, row_number() OVER (same ORDER BY id) AS number,
           first_value(id) OVER (same ORDER BY id) AS first_id
    FROM last WHERE status = 'Failed' WINDOW same AS (PARTITION BY error_fingerprint)
)
SELECT project_id, error_fingerprint, tests, (SELECT count(*) FROM failed) AS failed_tests,
       id, test_id, name, duration_ms, attempt, browser
FROM failed WHERE number <= $3
ORDER BY tests DESC, first_id, number
LIMIT $4
