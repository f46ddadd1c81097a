-- name: bound
-- For the statements below, within a transaction: a text that fits everything must not keep a connection.
SET LOCAL statement_timeout = 150

-- name: errors_by_words
-- Errors of these projects ($1; NULL: all) with all words of a text ($2), the last one as the beginning of a word; those
-- that contain the text itself first, then those seen last. Signs become spaces, as in the column `words`. At most 2,000
-- are compared, because each needs a look into the index of results.
WITH found AS (
    SELECT e.project_id, e.fingerprint,
           strpos(lower(concat_ws(' ', e.error_type, e.stable_text, e.sample)), lower($2)) > 0 AS literal
    FROM errors e
    WHERE e.words @@ to_tsquery('simple', replace(
              nullif(btrim(regexp_replace(lower($2), '[^[:alnum:]]+', ' ', 'g')), ''), ' ', ' & ') || ':*')
      AND ($1::uuid[] IS NULL OR e.project_id = ANY($1))
    LIMIT 2000
)
SELECT f.project_id, f.fingerprint
FROM found f CROSS JOIN LATERAL (
    SELECT c.id FROM test_case_results c WHERE c.project_id = f.project_id AND c.error_fingerprint = f.fingerprint
    ORDER BY c.id DESC LIMIT 1
) AS l
ORDER BY f.literal DESC, l.id DESC LIMIT $3

-- name: errors_by_text
-- Reads all errors, for a part of a word: only when no word fits. Stops at 200.
WITH found AS (
    SELECT e.project_id, e.fingerprint FROM errors e
    WHERE ($1::uuid[] IS NULL OR e.project_id = ANY($1))
      AND strpos(lower(concat_ws(' ', e.error_type, e.stable_text, e.sample)), lower($2)) > 0
    LIMIT 200
)
SELECT f.project_id, f.fingerprint
FROM found f CROSS JOIN LATERAL (
    SELECT c.id FROM test_case_results c WHERE c.project_id = f.project_id AND c.error_fingerprint = f.fingerprint
    ORDER BY c.id DESC LIMIT 1
) AS l
ORDER BY l.id DESC LIMIT $3

-- name: tests
-- The next $3 tests of a project from $2 on (NULL: from the last), by test_id backwards, each with its newest result,
-- and whether its test_id and name contain all words ($4), and the text itself ($5). Only those that do, and the last
-- one: the start of the next page. Jumps from test to test in the index of histories, 10 µs each: a table of tests would
-- need a look for every result that is written.
WITH RECURSIVE each AS (
    (SELECT test_id, name, id, suite_run_id, status, 1 AS number FROM test_case_results
     WHERE project_id = $1 AND test_id <= coalesce($2::text, (
         SELECT last.test_id FROM test_case_results last WHERE last.project_id = $1 ORDER BY last.test_id DESC LIMIT 1))
     ORDER BY test_id DESC, id DESC LIMIT 1)
    UNION ALL
    SELECT next.*, each.number + 1
    FROM each CROSS JOIN LATERAL (
        SELECT test_id, name, id, suite_run_id, status FROM test_case_results
        WHERE project_id = $1 AND test_id < each.test_id ORDER BY test_id DESC, id DESC LIMIT 1
    ) AS next
    WHERE each.number < $3
), compared AS (
    SELECT *, strpos(lower(test_id || ' ' || name), lower($5)) > 0 AS literal,
           NOT EXISTS (SELECT FROM unnest($4::text[]) AS word
                       WHERE strpos(lower(test_id || ' ' || name), lower(word)) = 0) AS found
    FROM each
)
SELECT test_id, name, id, suite_run_id, status, literal, found, number = $3 AS last
FROM compared WHERE found OR number = $3
ORDER BY number
