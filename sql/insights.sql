-- What the results of a project show together: read from indexes, over a bounded number of runs. Ids ascend in time.

-- name: runs
-- The newest finished runs of a project that started since $2, newest first, among its newest $3.
SELECT id, name, branch, commit_sha, started_at
FROM (SELECT * FROM suite_runs WHERE project_id = $1 ORDER BY id DESC LIMIT $3) AS run
WHERE status <> 'Running' AND started_at >= $2
ORDER BY id DESC

-- name: newest_of_tests
-- The newest result of each of these tests ($2). A sub-select as in artifacts.lock.
SELECT newest.test_id, newest.name, newest.id, newest.status
FROM unnest((SELECT $2::text[])) AS wanted(test_id)
CROSS JOIN LATERAL (
    SELECT test_id, name, id, status FROM test_case_results c
    WHERE c.project_id = $1 AND c.test_id = wanted.test_id ORDER BY c.id DESC LIMIT 1) AS newest

-- name: slow
-- The $3 tests whose results that passed in these runs ($1, newest first) took longest, by their median. `now`: the
-- median of the newest 5, `before`: of the up to 30 before them. At most $2 results are read, of the newest runs, from
-- the index alone; `read` is how many they were.
WITH passed AS (
    SELECT test_id, duration_ms, row_number() OVER (PARTITION BY test_id ORDER BY place) AS age
    FROM (SELECT run.place, c.test_id, c.duration_ms
          FROM unnest($1::uuid[]) WITH ORDINALITY AS run(id, place)
          CROSS JOIN LATERAL (SELECT test_id, status, duration_ms FROM test_case_results
                              WHERE suite_run_id = run.id LIMIT $2) AS c
          WHERE c.status = 'Passed' AND c.duration_ms IS NOT NULL
          ORDER BY run.place LIMIT $2) AS result
)
SELECT test_id, count(*) AS results,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms))::bigint AS median_ms,
       round(percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ms))::bigint AS p95_ms,
       sum(duration_ms)::bigint AS total_ms,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) FILTER (WHERE age <= 5))::bigint AS now_ms,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) FILTER (WHERE age BETWEEN 6 AND 35))::bigint
           AS before_ms,
       (SELECT count(*) FROM passed) AS read
FROM passed GROUP BY test_id
ORDER BY median_ms DESC, test_id LIMIT $3

-- name: counted
-- Which of these runs have their selectors counted.
SELECT suite_run_id FROM selector_uses WHERE suite_run_id = ANY($1::uuid[]) AND hash = ''

-- name: count_selectors
-- Counts the selectors of one run, of at most $2 steps. Of those with more than $3 selectors, as when each has an id in
-- it, only the ones that failed or were used most are kept. Twice changes nothing.
INSERT INTO selector_uses (suite_run_id, hash, selector, element_name, used, failed, total_ms, hurt, sample_result_id)
(SELECT $1, decode(md5(concat_ws(E'\x1f', selector, element_name)), 'hex'), selector, element_name, count(*),
       count(*) FILTER (WHERE failed), coalesce(sum(duration_ms), 0),
       coalesce((array_agg(DISTINCT test) FILTER (WHERE failed))[1:1000], '{}'),
       (array_agg(id ORDER BY failed DESC, id DESC))[1]
FROM (SELECT c.id, hashtextextended(c.test_id, 0) AS test, left(s.element_selector, 500) AS selector,
             nullif(left(s.element_name, 500), '') AS element_name, s.status = 'Failed' AS failed, s.duration_ms
      FROM test_case_results c CROSS JOIN LATERAL (
          SELECT element_selector, element_name, status, duration_ms FROM test_step_results
          WHERE test_case_result_id = c.id AND element_selector <> '' AND status IN ('Passed', 'Failed')
          LIMIT $2) AS s  -- the limit also keeps the planner from reading the steps of all runs for a join
      WHERE c.suite_run_id = $1
      LIMIT $2) AS step
GROUP BY selector, element_name
ORDER BY count(*) FILTER (WHERE failed) DESC, count(*) DESC, 2 LIMIT $3)
UNION ALL
SELECT $1, '', '', NULL, 0, 0, 0, '{}', NULL
ON CONFLICT DO NOTHING

-- name: fragile
-- Selectors in these runs ($1, newest first) that failed, or with a text ($2) all that contain it: those first that hurt
-- most tests. `now_ms` and `before_ms`: the mean of a use in the newest 10 runs, and in the others. Only these selectors
-- are added up, and by their hashes: comparing the texts of all would take five times as long.
WITH run AS (
    SELECT id, place FROM unnest($1::uuid[]) WITH ORDINALITY AS given(id, place)
), wanted AS (
    SELECT DISTINCT u.hash FROM run JOIN selector_uses u ON u.suite_run_id = run.id
    WHERE u.hash <> '' AND CASE WHEN $2::text IS NULL THEN u.failed > 0
                           ELSE strpos(lower(concat_ws(' ', u.selector, u.element_name)), lower($2)) > 0 END
), used AS (
    SELECT u.suite_run_id, u.hash, u.used, u.failed, u.total_ms, u.hurt, u.sample_result_id, run.place
    FROM wanted CROSS JOIN run JOIN selector_uses u ON u.suite_run_id = run.id AND u.hash = wanted.hash
), hurt AS (
    SELECT hash, count(DISTINCT test) AS tests FROM used CROSS JOIN LATERAL unnest(used.hurt) AS test GROUP BY hash
), best AS (
    SELECT u.hash, sum(u.used)::bigint AS used, sum(u.failed)::bigint AS failed,
           coalesce(max(h.tests), 0) AS tests,
           (sum(u.total_ms) FILTER (WHERE place <= 10) / sum(u.used) FILTER (WHERE place <= 10))::bigint AS now_ms,
           (sum(u.total_ms) FILTER (WHERE place > 10) / sum(u.used) FILTER (WHERE place > 10))::bigint AS before_ms,
           (array_agg(u.sample_result_id ORDER BY u.failed > 0 DESC, place))[1] AS sample_result_id,
           (array_agg(u.suite_run_id))[1] AS run_id
    FROM used u LEFT JOIN hurt h ON h.hash = u.hash GROUP BY u.hash
    ORDER BY tests DESC, sum(u.failed)::float8 / sum(u.used) DESC, u.hash LIMIT $3
)
SELECT t.selector, t.element_name, b.used, b.failed, b.tests, b.now_ms, b.before_ms,
       b.sample_result_id AS test_case_result_id
FROM best b JOIN selector_uses t ON t.suite_run_id = b.run_id AND t.hash = b.hash
ORDER BY b.tests DESC, b.failed::float8 / b.used DESC, b.hash

-- name: changed
-- Elements that have another selector than before in these runs ($1, newest first): the newest selector, the one before
-- it, which was no longer used after `place`, and the place of the first run with the new one. Names with more than 10
-- selectors are no names of one element.
WITH spans AS (
    SELECT u.element_name, u.selector, min(run.place) AS newest, max(run.place) AS oldest,
           count(*) OVER (PARTITION BY u.element_name) AS selectors
    FROM unnest($1::uuid[]) WITH ORDINALITY AS run(id, place) JOIN selector_uses u ON u.suite_run_id = run.id
    WHERE u.hash <> '' AND u.element_name IS NOT NULL
    GROUP BY u.element_name, u.selector
)
SELECT element_name, selector, before, place FROM (
    SELECT DISTINCT ON (n.element_name) n.element_name, n.selector, o.selector AS before, n.oldest AS place
    FROM spans n JOIN spans o ON o.element_name = n.element_name AND o.newest > n.oldest
    WHERE n.selectors <= 10
    ORDER BY n.element_name, n.newest, o.newest) AS found
ORDER BY place, element_name LIMIT $2

-- name: selectors_with
-- Selectors with a text ($2) in the counted ones of the newest 50 runs of each of these projects ($1; NULL: all); those
-- first that failed most often.
SELECT p.name AS project, u.selector, max(u.element_name) AS element_name, sum(u.used)::bigint AS used,
       sum(u.failed)::bigint AS failed,
       (array_agg(u.sample_result_id ORDER BY u.failed > 0 DESC, u.suite_run_id DESC))[1]
           AS test_case_result_id
FROM projects p
CROSS JOIN LATERAL (SELECT id FROM suite_runs WHERE project_id = p.id ORDER BY id DESC LIMIT 50) AS run
JOIN selector_uses u ON u.suite_run_id = run.id
WHERE ($1::uuid[] IS NULL OR p.id = ANY($1)) AND u.hash <> ''
  AND strpos(lower(concat_ws(' ', u.selector, u.element_name)), lower($2)) > 0
GROUP BY p.name, u.selector
ORDER BY failed DESC, used DESC, u.selector LIMIT $3
