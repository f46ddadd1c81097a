-- name: add
-- One event: a row for each webhook that wants it. $1: ids, $2: names of the webhooks, $3: what is sent.
INSERT INTO webhook_deliveries (id, webhook, body, event, project_id, suite_run_id, last_result_id)
SELECT n.id, n.webhook, n.body, $4, $5, $6, $7
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS n(id, webhook, body)

-- name: status_before
-- Before the update of a run that may finish it. Locked: of two requests that finish it at once, one is the first.
SELECT status FROM suite_runs WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2) FOR NO KEY UPDATE

-- name: looked_at
-- The newest result of a run that an earlier tests.newly_failing looked at, and when; NULL when there was none.
SELECT max(last_result_id::text)::uuid, max(created_at)
FROM webhook_deliveries WHERE suite_run_id = $1 AND last_result_id IS NOT NULL

-- name: newly_failing
-- The tests of run $1 that fail, by their last attempt, and did not fail before: by the last result with the same
-- browser that passed or failed, in earlier runs of the same name and branch or, if there is none, of the main branch.
-- Skipped and pending results do not count, so an interrupted run makes nothing new. $2: only results after this one,
-- or that a PATCH has changed since $3: a shard may have them pending when another one ends. $4: of so many failing
-- tests, $5: of the last so many results of each. `last_id` is the newest result of the run. Two subqueries, each of
-- which ends at the first row that fits: mostly, the last result is the one.
SELECT c.id, c.test_id, c.browser, c.name, c.error_type,
       left(coalesce(nullif(c.error_message, ''), s.error_message, c.stack_trace), 1000) AS error,
       (SELECT n.id FROM test_case_results n WHERE n.suite_run_id = $1 ORDER BY n.id DESC LIMIT 1) AS last_id
FROM (SELECT * FROM test_case_results f
      WHERE f.suite_run_id = $1 AND f.status = 'Failed'
        AND ($2::uuid IS NULL OR f.id > $2 OR (f.updated_at > f.created_at AND f.updated_at > $3))
        AND NOT EXISTS (
          SELECT FROM test_case_results l
          WHERE l.suite_run_id = f.suite_run_id AND l.test_id = f.test_id AND l.browser IS NOT DISTINCT FROM f.browser
            AND (l.attempt, l.id) > (f.attempt, f.id))
      ORDER BY f.id LIMIT $4) AS c
JOIN suite_runs r ON r.id = c.suite_run_id JOIN projects p ON p.id = r.project_id
LEFT JOIN LATERAL (
    SELECT error_message FROM test_step_results
    WHERE test_case_result_id = c.id AND coalesce(c.error_message, '') = ''
      AND status = 'Failed' AND error_message <> ''
    ORDER BY iteration_number, step_number LIMIT 1) AS s ON true
WHERE coalesce(
    (SELECT b.status FROM (SELECT id, suite_run_id, status, browser FROM test_case_results
                           WHERE project_id = c.project_id AND test_id = c.test_id AND id < c.id
                           ORDER BY id DESC LIMIT $5) AS b
     JOIN suite_runs o ON o.id = b.suite_run_id
     WHERE o.id < r.id AND o.name = r.name AND o.branch IS NOT DISTINCT FROM r.branch
       AND b.browser IS NOT DISTINCT FROM c.browser AND b.status IN ('Passed', 'Failed')
     ORDER BY b.id DESC LIMIT 1),
    (SELECT b.status FROM (SELECT id, suite_run_id, status, browser FROM test_case_results
                           WHERE project_id = c.project_id AND test_id = c.test_id AND id < c.id
                           ORDER BY id DESC LIMIT $5) AS b
     JOIN suite_runs o ON o.id = b.suite_run_id
     WHERE o.id < r.id AND o.name = r.name AND o.branch = p.main_branch
       AND b.browser IS NOT DISTINCT FROM c.browser AND b.status IN ('Passed', 'Failed')
     ORDER BY b.id DESC LIMIT 1),
    'Passed') = 'Passed'
ORDER BY c.id

-- name: lead
-- One process at a time delivers, of all workers and hosts. A row when it is this one ($1), for the next $2 seconds.
INSERT INTO webhook_states (name, holder, until)
VALUES ('worker', $1, CURRENT_TIMESTAMP + make_interval(secs => $2))
ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until
WHERE webhook_states.holder = EXCLUDED.holder OR webhook_states.until < CURRENT_TIMESTAMP
RETURNING name

-- name: stop_leading
DELETE FROM webhook_states WHERE name = 'worker' AND holder = $1

-- name: due
-- For each of these webhooks ($1) the delivery that has been due for the longest.
SELECT d.id, d.webhook, d.event, d.body, d.attempts, d.created_at
FROM unnest($1::text[]) AS w(name) CROSS JOIN LATERAL (
    SELECT * FROM webhook_deliveries
    WHERE webhook = w.name AND due_at <= CURRENT_TIMESTAMP ORDER BY due_at, id LIMIT 1) AS d

-- name: attempted
-- After an attempt. $2: whether it was delivered; $3: the seconds until the next attempt, NULL when there is none.
UPDATE webhook_deliveries
SET attempts = attempts + 1, attempted_at = CURRENT_TIMESTAMP, status = $4, answer = $5,
    delivered_at = CASE WHEN $2::bool THEN CURRENT_TIMESTAMP END,
    due_at = CURRENT_TIMESTAMP + make_interval(secs => $3)
WHERE id = $1

-- name: try_again
-- The deliveries that wait for a webhook are due now; or this one ($2), also when it was given up.
UPDATE webhook_deliveries SET due_at = CURRENT_TIMESTAMP
WHERE webhook = $1 AND delivered_at IS NULL AND CASE WHEN $2::uuid IS NULL THEN due_at IS NOT NULL ELSE id = $2 END

-- name: counts
SELECT w.name,
       (SELECT count(*) FROM webhook_deliveries d WHERE d.webhook = w.name AND d.due_at IS NOT NULL) AS waiting
FROM unnest($1::text[]) AS w(name)

-- name: latest
-- The newest deliveries of each of these webhooks ($1).
SELECT d.id, d.webhook, d.event, p.name AS project, d.suite_run_id, d.created_at, d.due_at, d.attempts,
       d.attempted_at, d.status, d.answer, d.delivered_at
FROM unnest($1::text[]) AS w(name) CROSS JOIN LATERAL (
    SELECT * FROM webhook_deliveries WHERE webhook = w.name ORDER BY id DESC LIMIT $2) AS d
LEFT JOIN projects p ON p.id = d.project_id
ORDER BY d.id DESC

-- name: give_up_unknown
-- Those of webhooks that are not configured any more ($1 are), $2 days after the event.
UPDATE webhook_deliveries SET due_at = NULL, answer = 'This webhook is not configured any more.'
WHERE due_at IS NOT NULL AND webhook <> ALL($1::text[])
  AND created_at < CURRENT_TIMESTAMP - make_interval(days => $2)

-- name: sweep
-- Deliveries before $1 (an id) that are delivered or given up. LIMIT: otherwise one sweep could lock many rows at once.
DELETE FROM webhook_deliveries WHERE id IN (
    SELECT id FROM webhook_deliveries WHERE id < $1 AND due_at IS NULL ORDER BY id LIMIT 1000)

-- name: note
-- A row when this state was not noted yet: the one process that notes it also sends it.
INSERT INTO webhook_states (name) VALUES ($1) ON CONFLICT DO NOTHING RETURNING name

-- name: forget
DELETE FROM webhook_states WHERE name = $1
