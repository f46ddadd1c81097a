-- name: project_of
-- No row when the run does not exist or is not in the caller's project ($2; NULL is every project).
SELECT project_id FROM suite_runs WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2)

-- name: create
-- No row when the project already has this run_key: parallel CI shards share one run, which by_key then finds.
INSERT INTO suite_runs (id, project_id, run_key, name, status, environment, branch, commit_sha, build_url,
                        browser, platform, triggered_by, tags, metadata, started_at)
SELECT $1, $2, n.run_key, n.name, coalesce(n.status, 'Running'), n.environment, n.branch, n.commit_sha, n.build_url,
       n.browser, n.platform, n.triggered_by, coalesce(n.tags, '{}'), coalesce(n.metadata, '{}'),
       coalesce(n.started_at, CURRENT_TIMESTAMP)
FROM json_to_record($3::json) AS n(
    run_key text, name text, status text, environment text, branch text, commit_sha text, build_url text,
    browser text, platform text, triggered_by text, tags text[], metadata jsonb, started_at timestamptz)
ON CONFLICT (project_id, run_key) DO NOTHING
RETURNING id

-- name: by_key
-- Locked, so that the run cannot be deleted before this transaction ends.
SELECT id FROM suite_runs WHERE project_id = $1 AND run_key = $2 FOR KEY SHARE

-- name: by_id
SELECT r.id, p.name AS project, r.run_key, r.name, r.status, r.environment, r.branch, r.commit_sha, r.build_url,
       r.browser, r.platform, r.triggered_by, r.tags, r.metadata, r.started_at, r.finished_at,
       r.created_at, r.updated_at
FROM suite_runs r JOIN projects p ON p.id = r.project_id
WHERE r.id = $1 AND ($2::uuid IS NULL OR r.project_id = $2)

-- name: by_ids
SELECT r.id, p.name AS project, r.run_key, r.name, r.status, r.environment, r.branch, r.commit_sha, r.build_url,
       r.browser, r.platform, r.triggered_by, r.tags, r.metadata, r.started_at, r.finished_at,
       r.created_at, r.updated_at
FROM suite_runs r JOIN projects p ON p.id = r.project_id
WHERE r.id = ANY($1::uuid[]) AND ($2::uuid[] IS NULL OR r.project_id = ANY($2))

-- name: page
-- Newest first. Ids sort by time (UUIDv7), so the last id of a page is the cursor ($2) of the next page.
SELECT r.id, p.name AS project, r.run_key, r.name, r.status, r.environment, r.branch, r.commit_sha, r.build_url,
       r.browser, r.platform, r.triggered_by, r.tags, r.metadata, r.started_at, r.finished_at,
       r.created_at, r.updated_at
FROM suite_runs r JOIN projects p ON p.id = r.project_id
WHERE ($1::uuid IS NULL OR r.project_id = $1)
  AND ($2::uuid IS NULL OR r.id < $2)
  AND ($3::text IS NULL OR r.status = $3)
  AND ($4::text IS NULL OR r.name = $4)
  AND ($5::text IS NULL OR r.branch = $5)
  AND ($6::text IS NULL OR r.environment = $6)
  AND ($7::text IS NULL OR r.tags @> ARRAY[$7::text])
  AND ($8::timestamptz IS NULL OR r.started_at >= $8)
  AND ($9::timestamptz IS NULL OR r.started_at < $9)
  AND ($10::text IS NULL OR r.run_key = $10)
ORDER BY r.id DESC
LIMIT $11

-- name: counts
-- Counted per request, for all runs of a page at once: with a counter column, parallel shards would wait for its row
-- lock. A sub-select as in artifacts.lock.
SELECT suite_run_id,
       count(*) AS total,
       count(*) FILTER (WHERE status = 'Passed') AS passed,
       count(*) FILTER (WHERE status = 'Failed') AS failed,
       count(*) FILTER (WHERE status = 'Skipped') AS skipped,
       count(*) FILTER (WHERE status = 'Pending') AS pending,
       COALESCE(sum(duration_ms), 0)::bigint AS total_duration_ms
FROM test_case_results WHERE suite_run_id = ANY((SELECT $1::uuid[])::uuid[])
GROUP BY suite_run_id

-- name: known
-- What runs can be filtered by: the values in the newest 500 runs of a project ($1; NULL: of all).
WITH newest AS MATERIALIZED (
    SELECT name, branch, environment, tags FROM suite_runs
    WHERE $1::uuid IS NULL OR project_id = $1
    ORDER BY id DESC LIMIT 500)
SELECT array_agg(DISTINCT name::text) AS names,
       array_agg(DISTINCT branch::text) AS branches,
       array_agg(DISTINCT environment::text) AS environments,
       (SELECT array_agg(DISTINCT tag) FROM newest, unnest(tags) AS tag) AS tags
FROM newest

-- name: of_main_branches
-- The newest run of each name, of the projects ($1; NULL: all): on the main branch, or on any when none of that name is
-- there. Only of the last 100 runs on the main branch and the last 30 on any, and made since $2 (an id). A run that is
-- running counts once it has a failure: otherwise the first minutes of a run would hide the failures of the last one.
SELECT r.id, r.project_id, r.name, r.status, r.branch, r.commit_sha, r.started_at, p.name AS project
FROM projects p CROSS JOIN LATERAL (
    SELECT DISTINCT ON (b.name) b.*
    FROM ((SELECT * FROM suite_runs WHERE project_id = p.id AND branch = p.main_branch AND id > $2
           ORDER BY id DESC LIMIT 100)
          UNION ALL
          (SELECT * FROM suite_runs WHERE project_id = p.id AND id > $2 ORDER BY id DESC LIMIT 30)) AS b
    WHERE b.status <> 'Running'
       OR EXISTS (SELECT FROM test_case_results c WHERE c.suite_run_id = b.id AND c.status = 'Failed')
    ORDER BY b.name, b.branch = p.main_branch DESC NULLS LAST, b.id DESC) AS r
WHERE $1::uuid[] IS NULL OR p.id = ANY($1)
ORDER BY r.id DESC LIMIT 30

-- name: against
-- How many tests fail in run $1 and did not in run $2, and how many failed in $2 and passed in $1, each by its last
-- attempt. As in compare/runs.py, but read from the failures alone. EXCEPT, which hashes and takes NULLs as equal: an
-- anti-join on a browser that may be NULL compares each failure with each.
WITH failed AS MATERIALIZED (
    SELECT f.suite_run_id, f.test_id, f.browser FROM test_case_results f
    WHERE f.suite_run_id IN ($1::uuid, $2::uuid) AND f.status = 'Failed' AND NOT EXISTS (
        SELECT FROM test_case_results l
        WHERE l.suite_run_id = f.suite_run_id AND l.test_id = f.test_id AND l.browser IS NOT DISTINCT FROM f.browser
          AND (l.attempt, l.id) > (f.attempt, f.id))
)
SELECT (SELECT count(*) FROM (
            SELECT test_id, browser FROM failed WHERE suite_run_id = $1
            EXCEPT SELECT test_id, browser FROM failed WHERE suite_run_id = $2) AS n) AS new_failures,
       (SELECT count(*) FROM (
            SELECT test_id, browser FROM failed WHERE suite_run_id = $2
            EXCEPT SELECT test_id, browser FROM failed WHERE suite_run_id = $1) AS b
        WHERE (
            SELECT c.status FROM test_case_results c
            WHERE c.suite_run_id = $1 AND c.test_id = b.test_id AND c.browser IS NOT DISTINCT FROM b.browser
            ORDER BY c.attempt DESC, c.id DESC LIMIT 1) = 'Passed') AS fixed

-- name: last_sent
-- When something was last sent to each of the runs ($1): to the run, its newest result, or the newest step of that.
SELECT r.id, greatest(r.updated_at, c.updated_at, s.created_at) AS at
FROM suite_runs r
LEFT JOIN LATERAL (
    SELECT id, updated_at FROM test_case_results WHERE suite_run_id = r.id ORDER BY id DESC LIMIT 1) AS c ON true
LEFT JOIN LATERAL (
    SELECT created_at FROM test_step_results WHERE test_case_result_id = c.id ORDER BY id DESC LIMIT 1) AS s ON true
WHERE r.id = ANY($1::uuid[])

-- name: update
-- $3 is the patch as sent: absent fields stay, null clears a field. Metadata merges by key; $4 are the keys to remove.
-- A status or an end that is sent is not changed by shards any more (shards.follow).
UPDATE suite_runs c SET (name, status, environment, branch, commit_sha, build_url, browser, platform, triggered_by, tags,
    metadata, started_at, finished_at) = (
    SELECT p.name, p.status, p.environment, p.branch, p.commit_sha, p.build_url, p.browser, p.platform,
           p.triggered_by, p.tags, p.metadata, p.started_at, p.finished_at
    FROM jsonb_populate_record(c, CASE WHEN $3::jsonb ? 'metadata' THEN $3::jsonb || jsonb_build_object(
        'metadata', (c.metadata || ($3::jsonb->'metadata')) - $4::text[]) ELSE $3::jsonb END) AS p),
    by_shards = by_shards AND NOT $3::jsonb ?| ARRAY['status', 'finished_at'],
    updated_at = CURRENT_TIMESTAMP
WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2)
RETURNING metadata::text AS metadata

-- name: lock
-- Before a delete. No test case can be added to the run any more: its foreign key check waits for this row lock.
SELECT name, project_id FROM suite_runs WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2) FOR UPDATE

-- name: lock_cases
-- Before a delete. Waits for uploads in progress, so that the list of files to unlink is complete. Always in the order
-- of ids, so that two deletes cannot deadlock.
SELECT id FROM test_case_results WHERE suite_run_id = $1 ORDER BY id FOR UPDATE

-- name: delete
DELETE FROM suite_runs WHERE id = $1
