-- name: sources
-- What the results ($1) say about their failures, cut to $2 characters of a message and $3 of a stack trace, each with
-- the first failed step that has a message; see group_of in server/compare/failures.py. Only a result without a message
-- needs it, or one that may lose it ($4).
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
WHERE c.id = ANY($1::uuid[])
ORDER BY c.id

-- name: assign
-- Also when nothing changes: the new version of the row is that of `touch`, see sql/test_cases.sql.
UPDATE test_case_results c SET updated_at = c.updated_at, error_fingerprint = n.fingerprint
FROM unnest($1::uuid[], $2::bytea[]) AS n(id, fingerprint)
WHERE c.id = n.id

-- name: add
-- Those of the errors that the results ($1) have. The last statement of its transaction that can wait: another one that
-- adds the same error waits for the commit. Sorted, so that two of them cannot deadlock.
INSERT INTO errors (project_id, fingerprint, error_type, stable_text, sample)
SELECT DISTINCT c.project_id, n.fingerprint, n.error_type, n.stable_text, n.sample
FROM test_case_results c
JOIN unnest($2::bytea[], $3::text[], $4::text[], $5::text[]) AS n(fingerprint, error_type, stable_text, sample)
    ON n.fingerprint = c.error_fingerprint
WHERE c.id = ANY($1::uuid[])
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
