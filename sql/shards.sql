-- name: lock
-- Before a shard is stored. Two shards that finish at once take turns, so that the second one sees both.
SELECT status FROM suite_runs WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2) FOR NO KEY UPDATE

-- name: put
-- The shard $2 of run $1. One that has finished is Running again only if it began at another time: otherwise a request
-- that is late, or is sent again from the beginning, would undo its end. It does not expect fewer tests than before: a
-- job whose tests were killed may send the report of those that ran.
INSERT INTO suite_run_shards AS s (
    suite_run_id, shard_index, total, tests_expected, status, started_at, finished_at, errors)
SELECT $1, $2, n.total, n.tests_expected, n.status, n.started_at,
       CASE WHEN n.status <> 'Running' THEN coalesce(n.finished_at, CURRENT_TIMESTAMP) END, coalesce(n.errors, '{}')
FROM json_to_record($3::json) AS n(
    total int, tests_expected int, status text, started_at timestamptz, finished_at timestamptz, errors text[])
ON CONFLICT (suite_run_id, shard_index) DO UPDATE SET
    tests_expected = CASE WHEN EXCLUDED.tests_expected IS NOT NULL OR EXCLUDED.started_at IS DISTINCT FROM s.started_at
                          THEN greatest(EXCLUDED.tests_expected, s.tests_expected) END,
    status = EXCLUDED.status, started_at = EXCLUDED.started_at, finished_at = EXCLUDED.finished_at,
    errors = EXCLUDED.errors
WHERE NOT (EXCLUDED.status = 'Running' AND s.status <> 'Running' AND EXCLUDED.started_at = s.started_at) IS TRUE

-- name: total
SELECT max(total) FROM suite_run_shards WHERE suite_run_id = $1

-- name: follow
-- The run gets the status of its shards: Running until all have finished, then Failed if one of them failed. No row when
-- a client has set the status of the run: a PATCH wins. An end that a client has set stays.
UPDATE suite_runs r SET
    status = s.status,
    finished_at = CASE WHEN r.by_shards OR r.finished_at IS NULL THEN s.finished_at ELSE r.finished_at END,
    by_shards = r.by_shards OR r.finished_at IS NULL,
    updated_at = CURRENT_TIMESTAMP
FROM (SELECT CASE WHEN NOT done THEN 'Running' WHEN failed THEN 'Failed' ELSE 'Passed' END AS status,
             CASE WHEN done THEN finished_at END AS finished_at
      FROM (SELECT count(*) FILTER (WHERE status <> 'Running') = max(total) AS done,
                   bool_or(status = 'Failed') AS failed, max(finished_at) AS finished_at
            FROM suite_run_shards WHERE suite_run_id = $1) AS shards) AS s
WHERE r.id = $1 AND (r.by_shards OR r.status = 'Running')
RETURNING r.status

-- name: of_run
-- total is NULL for a run without shards. finished, running: the indexes of its shards.
SELECT r.status, s.total, s.tests_expected, s.finished, s.running
FROM suite_runs r CROSS JOIN LATERAL (
    SELECT max(total) AS total, sum(tests_expected) AS tests_expected,
           coalesce(array_agg(shard_index ORDER BY shard_index) FILTER (WHERE status <> 'Running'), '{}') AS finished,
           coalesce(array_agg(shard_index ORDER BY shard_index) FILTER (WHERE status = 'Running'), '{}') AS running
    FROM suite_run_shards WHERE suite_run_id = r.id) AS s
WHERE r.id = $1 AND ($2::uuid IS NULL OR r.project_id = $2)

-- name: errors
-- The first $2 errors of the shards of a run.
SELECT s.shard_index AS index, e.error
FROM suite_run_shards s CROSS JOIN LATERAL unnest(s.errors) WITH ORDINALITY AS e(error, number)
WHERE s.suite_run_id = $1 ORDER BY s.shard_index, e.number LIMIT $2
