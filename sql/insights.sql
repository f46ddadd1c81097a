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
-- the index alone; `read` is how many they were. A median takes as long as reading 20 results: none is computed of a test
-- whose longest result is shorter than all results of $3 other tests, and all else only of the tests that are shown.
WITH tests AS MATERIALIZED (
    SELECT test_id, array_agg(duration_ms) AS durations, array_agg(place) AS places,
           min(duration_ms) AS shortest, max(duration_ms) AS longest
    FROM (SELECT run.place, c.test_id, c.duration_ms
          FROM unnest($1::uuid[]) WITH ORDINALITY AS run(id, place)
          CROSS JOIN LATERAL (SELECT test_id, status, duration_ms FROM test_case_results
                              WHERE suite_run_id = run.id LIMIT $2) AS c
          WHERE c.status = 'Passed' AND c.duration_ms IS NOT NULL
          ORDER BY run.place LIMIT $2) AS result
    GROUP BY test_id
), slowest AS (
    SELECT t.*, m.median_ms
    FROM tests t CROSS JOIN LATERAL (
        SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms))::bigint AS median_ms
        FROM unnest(t.durations) AS ms) AS m
    WHERE t.longest >= (SELECT min(shortest) FROM (SELECT shortest FROM tests ORDER BY shortest DESC LIMIT $3) AS s)
    ORDER BY median_ms DESC, test_id LIMIT $3
)
SELECT s.test_id, o.results, s.median_ms, o.p95_ms, o.total_ms, o.now_ms, o.before_ms,
       (SELECT sum(cardinality(durations))::bigint FROM tests) AS read
FROM slowest s CROSS JOIN LATERAL (
    SELECT count(*) AS results, round(percentile_cont(0.95) WITHIN GROUP (ORDER BY ms))::bigint AS p95_ms,
           sum(ms)::bigint AS total_ms,
           round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE age <= 5))::bigint AS now_ms,
           round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FILTER (WHERE age BETWEEN 6 AND 35))::bigint
               AS before_ms
    FROM (SELECT ms, row_number() OVER (ORDER BY place) AS age
          FROM unnest(s.durations, s.places) AS passed(ms, place)) AS result) AS o
ORDER BY s.median_ms DESC, s.test_id

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
-- most tests. `now_ms` and `before_ms`: the mean of a use in the newest 10 runs, and in the others. Added up by their
-- hashes, so that a text is compared once for each selector and not for each run: that took four times as long. Without
-- a text, only the selectors that failed are added up.
WITH run AS MATERIALIZED (
    SELECT id, place FROM unnest($1::uuid[]) WITH ORDINALITY AS given(id, place)
), used AS (
    SELECT run.id AS run_id, run.place, u.hash, u.used, u.failed, u.total_ms
    FROM (SELECT DISTINCT f.hash FROM run JOIN selector_uses f ON f.suite_run_id = run.id
          WHERE $2::text IS NULL AND f.hash <> '' AND f.failed > 0) AS wanted
    CROSS JOIN run CROSS JOIN LATERAL (
        SELECT * FROM selector_uses s WHERE s.suite_run_id = run.id AND s.hash = wanted.hash LIMIT 1) AS u
    UNION ALL
    SELECT run.id, run.place, u.hash, u.used, u.failed, u.total_ms
    FROM run JOIN selector_uses u ON u.suite_run_id = run.id
    WHERE $2::text IS NOT NULL AND u.hash <> ''
), counted AS MATERIALIZED (
    SELECT hash, sum(used)::bigint AS used, sum(failed)::bigint AS failed,
           (sum(total_ms) FILTER (WHERE place <= 10) / sum(used) FILTER (WHERE place <= 10))::bigint AS now_ms,
           (sum(total_ms) FILTER (WHERE place > 10) / sum(used) FILTER (WHERE place > 10))::bigint AS before_ms,
           coalesce(min(place) FILTER (WHERE failed > 0), min(place)) AS place,
           array_agg(run_id) FILTER (WHERE failed > 0) AS failed_in
    FROM used GROUP BY hash
), named AS (
    SELECT c.*, t.selector, t.element_name, t.sample_result_id
    FROM counted c JOIN run ON run.place = c.place
    CROSS JOIN LATERAL (
        SELECT * FROM selector_uses s WHERE s.suite_run_id = run.id AND s.hash = c.hash LIMIT 1) AS t
    WHERE $2::text IS NULL OR strpos(lower(concat_ws(' ', t.selector, t.element_name)), lower($2)) > 0
)
SELECT selector, element_name, used, failed, (
           SELECT count(DISTINCT test) FROM unnest(n.failed_in) AS f(run_id)
           JOIN selector_uses u ON u.suite_run_id = f.run_id AND u.hash = n.hash
           CROSS JOIN LATERAL unnest(u.hurt) AS test
       ) AS tests, now_ms, before_ms, sample_result_id AS test_case_result_id
FROM named n
ORDER BY tests DESC, n.failed::float8 / n.used DESC, hash LIMIT $3

-- name: changed
-- Elements that have another selector than before in these runs ($1, newest first): the newest selector, the one before
-- it, which was no longer used after `place`, and the place of the first run with the new one. Names with more than 10
-- selectors are no names of one element. The index alone has the runs of a selector.
WITH run AS MATERIALIZED (
    SELECT id, place FROM unnest($1::uuid[]) WITH ORDINALITY AS given(id, place)
), counted AS MATERIALIZED (
    SELECT u.hash, min(run.place) AS newest, max(run.place) AS oldest
    FROM run JOIN selector_uses u ON u.suite_run_id = run.id
    WHERE u.hash <> ''
    GROUP BY u.hash
), spans AS (
    SELECT t.element_name, t.selector, c.newest, c.oldest, count(*) OVER (PARTITION BY t.element_name) AS selectors
    FROM counted c JOIN run ON run.place = c.newest
    CROSS JOIN LATERAL (
        SELECT * FROM selector_uses s WHERE s.suite_run_id = run.id AND s.hash = c.hash LIMIT 1) AS t
    WHERE t.element_name IS NOT NULL
)
SELECT element_name, selector, before, place FROM (
    SELECT DISTINCT ON (n.element_name) n.element_name, n.selector, o.selector AS before, n.oldest AS place
    FROM spans n JOIN spans o ON o.element_name = n.element_name AND o.newest > n.oldest
    WHERE n.selectors <= 10
    ORDER BY n.element_name, n.newest, o.newest) AS found
ORDER BY place, element_name LIMIT $2

-- name: selectors_with
-- Selectors with a text ($2) in the counted ones of the newest 50 runs of each of these projects ($1; NULL: all); those
-- first that failed most often. Added up by their hashes, as in `fragile`. `place`: of a run, from the newest on.
WITH run AS MATERIALIZED (
    SELECT p.id AS project_id, p.name AS project, r.id, r.place
    FROM projects p CROSS JOIN LATERAL (
        SELECT id, row_number() OVER (ORDER BY id DESC) AS place FROM suite_runs
        WHERE project_id = p.id ORDER BY id DESC LIMIT 50) AS r
    WHERE $1::uuid[] IS NULL OR p.id = ANY($1)
), counted AS MATERIALIZED (
    SELECT run.project_id, u.hash, sum(u.used)::bigint AS used, sum(u.failed)::bigint AS failed,
           min(run.place) AS newest, min(run.place) FILTER (WHERE u.failed > 0) AS newest_failed
    FROM run JOIN selector_uses u ON u.suite_run_id = run.id
    WHERE u.hash <> ''
    GROUP BY run.project_id, u.hash
), best AS (
    SELECT run.project_id, run.project, t.selector, max(t.element_name) AS element_name, sum(c.used)::bigint AS used,
           sum(c.failed)::bigint AS failed, coalesce(min(c.newest_failed), min(c.newest)) AS place,
           (array_agg(c.hash ORDER BY c.newest_failed NULLS LAST, c.newest))[1] AS hash
    FROM counted c JOIN run ON run.project_id = c.project_id AND run.place = c.newest
    CROSS JOIN LATERAL (
        SELECT selector, element_name FROM selector_uses s
        WHERE s.suite_run_id = run.id AND s.hash = c.hash LIMIT 1) AS t
    WHERE strpos(lower(concat_ws(' ', t.selector, t.element_name)), lower($2)) > 0
    GROUP BY run.project_id, run.project, t.selector
    ORDER BY failed DESC, used DESC, t.selector LIMIT $3
)
SELECT b.project, b.selector, b.element_name, b.used, b.failed, (
           SELECT u.sample_result_id FROM run JOIN selector_uses u ON u.suite_run_id = run.id AND u.hash = b.hash
           WHERE run.project_id = b.project_id AND run.place = b.place) AS test_case_result_id
FROM best b ORDER BY failed DESC, used DESC, selector
