-- name: project_of
-- None when there is no such step, or the caller may not see it.
SELECT c.project_id FROM test_step_results s JOIN test_case_results c ON c.id = s.test_case_result_id
WHERE s.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: insert_many
-- Lock, check and insert in one statement. $3 are the iterations that must have no steps yet (no constraint can say
-- that), $4 whether the test case may have artifacts: then `link` must follow. With $7 the new rows come back, else one
-- that is empty; none when the test case is not there, a check fails, or another writer came in between.
WITH seen AS (
    SELECT id, xmin AS version FROM test_case_results WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2)
), target AS (
    -- Changes nothing, but makes a new version of the row: a statement that has waited for another writer finds a
    -- version here that it has not seen, and does nothing, instead of missing that writer's steps and artifacts.
    UPDATE test_case_results c SET updated_at = c.updated_at FROM seen
    WHERE c.id = seen.id AND c.xmin = seen.version
      AND NOT EXISTS (SELECT FROM test_step_results s
                      WHERE s.test_case_result_id = $1 AND s.iteration_number = ANY($3::int[]))
      AND ($4::bool OR NOT EXISTS (SELECT FROM test_artifacts a WHERE a.test_case_result_id = $1))
    RETURNING c.id
), new AS (
    INSERT INTO test_step_results (
        id, test_case_result_id, iteration_number, step_number, step_type, action, description, status, duration_ms,
        element_selector, element_name, element_type, input_value, expected_value, actual_value,
        error_message, error_type, stack_trace, screenshot_path, started_at, completed_at)
    SELECT n.id, target.id, coalesce(n.iteration_number, 1), n.step_number, n.step_type, n.action, n.description,
           coalesce(n.status, 'Pending'), n.duration_ms, n.element_selector, n.element_name, n.element_type,
           n.input_value, n.expected_value, n.actual_value, n.error_message, n.error_type, n.stack_trace,
           n.screenshot_path, n.started_at, n.completed_at
    FROM target, ROWS FROM (unnest($5::uuid[]), json_to_recordset($6::json) AS (
        iteration_number int, step_number int, step_type text, action text, description text, status text,
        duration_ms int, element_selector text, element_name text, element_type text, input_value text,
        expected_value text, actual_value text, error_message text, error_type text, stack_trace text,
        screenshot_path text, started_at timestamptz, completed_at timestamptz)) AS n(id)
    RETURNING id, test_case_result_id, iteration_number, step_number, step_type, action, description, status,
              duration_ms, element_selector, element_name, element_type, input_value, expected_value, actual_value,
              error_message, error_type, stack_trace, screenshot_path, screenshot_artifact_id,
              started_at, completed_at, created_at, updated_at
)
SELECT new.* FROM target LEFT JOIN new ON $7::bool ORDER BY new.id

-- name: replace_many
-- Ids, creation times and pinned screenshots stay; everything else is as sent now.
INSERT INTO test_step_results AS old (
    id, test_case_result_id, iteration_number, step_number, step_type, action, description, status, duration_ms,
    element_selector, element_name, element_type, input_value, expected_value, actual_value,
    error_message, error_type, stack_trace, screenshot_path, started_at, completed_at)
SELECT n.id, $1, coalesce(n.iteration_number, 1), n.step_number, n.step_type, n.action, n.description,
       coalesce(n.status, 'Pending'), n.duration_ms, n.element_selector, n.element_name, n.element_type,
       n.input_value, n.expected_value, n.actual_value, n.error_message, n.error_type, n.stack_trace,
       n.screenshot_path, n.started_at, n.completed_at
FROM ROWS FROM (unnest($2::uuid[]), json_to_recordset($3::json) AS (
    iteration_number int, step_number int, step_type text, action text, description text, status text,
    duration_ms int, element_selector text, element_name text, element_type text, input_value text,
    expected_value text, actual_value text, error_message text, error_type text, stack_trace text,
    screenshot_path text, started_at timestamptz, completed_at timestamptz)) AS n(id)
ON CONFLICT ON CONSTRAINT unique_step_per_test DO UPDATE SET
    step_type = EXCLUDED.step_type, action = EXCLUDED.action, description = EXCLUDED.description,
    status = EXCLUDED.status, duration_ms = EXCLUDED.duration_ms, element_selector = EXCLUDED.element_selector,
    element_name = EXCLUDED.element_name, element_type = EXCLUDED.element_type, input_value = EXCLUDED.input_value,
    expected_value = EXCLUDED.expected_value, actual_value = EXCLUDED.actual_value,
    error_message = EXCLUDED.error_message, error_type = EXCLUDED.error_type, stack_trace = EXCLUDED.stack_trace,
    screenshot_path = EXCLUDED.screenshot_path, started_at = EXCLUDED.started_at,
    completed_at = EXCLUDED.completed_at, updated_at = CURRENT_TIMESTAMP
RETURNING id, iteration_number, step_number

-- name: by_ids
SELECT id, test_case_result_id, iteration_number, step_number, step_type, action, description, status, duration_ms,
       element_selector, element_name, element_type, input_value, expected_value, actual_value,
       error_message, error_type, stack_trace, screenshot_path, screenshot_artifact_id,
       started_at, completed_at, created_at, updated_at
FROM test_step_results WHERE test_case_result_id = $1 AND id = ANY($2::uuid[]) ORDER BY id

-- name: prune
-- The steps that were not sent, of the iterations that were; each with the artifacts that it had, for own_artifacts.
WITH gone AS (
    DELETE FROM test_step_results s
    WHERE s.test_case_result_id = $1
      AND s.iteration_number = ANY($2::int[])
      AND NOT EXISTS (SELECT FROM unnest($2::int[], $3::int[]) AS sent(iteration_number, step_number)
                      WHERE sent.iteration_number = s.iteration_number AND sent.step_number = s.step_number)
    RETURNING s.id, s.iteration_number
)
SELECT iteration_number, ARRAY(SELECT a.id FROM test_artifacts a WHERE a.step_result_id = gone.id) AS artifact_ids
FROM gone

-- name: link
-- A step that no PATCH has pinned shows the best screenshot of its iteration: the one of the name in screenshot_path,
-- else of its number; of several the error's, the one after it, one without a category, then the oldest. Decided for
-- the steps in $2, which were written, and those that the artifacts in $3, which were written, are for. Under the test
-- case's lock, or another writer's rows are missed. Gives those steps, each with what it has shown until now.
WITH sent AS (
    SELECT iteration_number, step_number, file_name FROM test_artifacts
    WHERE test_case_result_id = $1 AND id = ANY($3::uuid[]) AND artifact_type = 'screenshot'
), step AS (
    SELECT id, iteration_number, step_number, file_name, screenshot_artifact_id, screenshot_pinned
    FROM (SELECT *, regexp_replace(screenshot_path, '^.*[/\\]', '') AS file_name
          FROM test_step_results WHERE test_case_result_id = $1) AS s
    WHERE id IN (SELECT unnest($2::uuid[]))
       OR (iteration_number, step_number) IN (SELECT iteration_number, step_number FROM sent)
       OR (iteration_number, file_name) IN (SELECT iteration_number, file_name FROM sent)
), shot AS (
    SELECT id, iteration_number, step_number, file_name,
           CASE WHEN artifact_category = 'error' THEN 0 WHEN artifact_category = 'after' THEN 1
                WHEN artifact_category IS NULL THEN 2 ELSE 3 END AS rank
    FROM test_artifacts
    WHERE test_case_result_id = $1 AND artifact_type = 'screenshot'
      AND (file_name IN (SELECT file_name FROM step) OR step_number IN (SELECT step_number FROM step))
), named AS (
    SELECT DISTINCT ON (iteration_number, file_name) * FROM shot ORDER BY iteration_number, file_name, rank, id
), numbered AS (
    SELECT DISTINCT ON (iteration_number, step_number) * FROM shot WHERE step_number IS NOT NULL
    ORDER BY iteration_number, step_number, rank, id
), best AS MATERIALIZED (
    -- FULL JOIN, since PostgreSQL can only hash or sort for it: where it takes a large test case for a small one, it
    -- would compare each step with each screenshot.
    SELECT step.id, coalesce(named.id, numbered.id) AS artifact_id
    FROM step
    FULL JOIN named ON named.iteration_number = step.iteration_number AND named.file_name = step.file_name
    FULL JOIN numbered ON numbered.iteration_number = step.iteration_number AND numbered.step_number = step.step_number
), shown AS (
    UPDATE test_step_results s SET screenshot_artifact_id = best.artifact_id, updated_at = CURRENT_TIMESTAMP
    FROM best
    WHERE s.id = best.id AND NOT s.screenshot_pinned AND s.screenshot_artifact_id IS DISTINCT FROM best.artifact_id
)
SELECT id, screenshot_artifact_id AS former FROM step

-- name: own_artifacts
-- An artifact belongs to the step of its number, else to the first step that shows it. Decided for the artifacts in $3,
-- which were written, and for those that the steps in $2 have, had or show. After `link`, whose choice counts here.
WITH step AS (
    SELECT id, iteration_number, step_number, screenshot_artifact_id FROM test_step_results
    WHERE test_case_result_id = $1 AND id IN (SELECT unnest($2::uuid[]))
), touched AS (
    SELECT id, iteration_number, step_number, step_result_id FROM test_artifacts
    WHERE test_case_result_id = $1
      AND (id IN (SELECT unnest($3::uuid[]))
           OR step_result_id IN (SELECT id FROM step)
           OR id IN (SELECT screenshot_artifact_id FROM step WHERE screenshot_artifact_id IS NOT NULL)
           OR (iteration_number, step_number) IN (SELECT iteration_number, step_number FROM step))
), owner AS MATERIALIZED (
    -- FULL JOIN, as in `link`.
    SELECT a.id, a.step_result_id AS present, coalesce(
               s.id, (SELECT shows.id FROM test_step_results shows
                      WHERE shows.screenshot_artifact_id = a.id ORDER BY shows.id LIMIT 1)) AS step_id
    FROM touched a
    FULL JOIN (SELECT id, iteration_number, step_number FROM test_step_results WHERE test_case_result_id = $1) AS s
        ON s.iteration_number = a.iteration_number AND s.step_number = a.step_number
)
UPDATE test_artifacts a SET step_result_id = owner.step_id
FROM owner
WHERE a.id = owner.id AND owner.step_id IS DISTINCT FROM owner.present

-- name: counts
-- One row when the test case exists and the caller may see it, else none. Follows the iteration, never the status.
SELECT count(s.id) AS total_steps,
       count(s.id) FILTER (WHERE s.status = 'Passed') AS passed_steps,
       count(s.id) FILTER (WHERE s.status = 'Failed') AS failed_steps,
       count(s.id) FILTER (WHERE s.status = 'Skipped') AS skipped_steps,
       count(s.id) FILTER (WHERE s.status = 'Pending') AS pending_steps,
       count(s.id) FILTER (WHERE $4::text IS NULL OR s.status = $4) AS matching
FROM test_case_results c
LEFT JOIN test_step_results s ON s.test_case_result_id = c.id AND ($3::int IS NULL OR s.iteration_number = $3)
WHERE c.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)
GROUP BY c.id

-- name: illustrated
-- The same, and the steps with what they show and own as the JSON array of a reply: rows that only become JSON are made
-- into it here, at a quarter of what it costs the server to carry them to Python first (bench/README.md). Subqueries,
-- not joins: each step's artifacts are found by an index, however few the planner thinks there are.
SELECT count(s.id) AS total_steps,
       count(s.id) FILTER (WHERE s.status = 'Passed') AS passed_steps,
       count(s.id) FILTER (WHERE s.status = 'Failed') AS failed_steps,
       count(s.id) FILTER (WHERE s.status = 'Skipped') AS skipped_steps,
       count(s.id) FILTER (WHERE s.status = 'Pending') AS pending_steps,
       count(s.id) FILTER (WHERE $4::text IS NULL OR s.status = $4) AS matching,
       (SELECT coalesce(json_agg(row_to_json(shown)), '[]')
        FROM (
            SELECT p.id, p.test_case_result_id, p.iteration_number, p.step_number, p.step_type, p.action,
                   p.description, p.status, p.duration_ms, p.element_selector, p.element_name, p.element_type,
                   p.input_value, p.expected_value, p.actual_value, p.error_message, p.error_type, p.stack_trace,
                   p.screenshot_path, p.screenshot_artifact_id,
                   to_char(p.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS started_at,
                   to_char(p.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS completed_at,
                   to_char(p.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS created_at,
                   to_char(p.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS updated_at,
                   (SELECT json_build_object(
                        'id', a.id, 'url', '/api/v1/reports/artifacts/' || a.id || '/download',
                        'download_url', '/api/v1/reports/artifacts/' || a.id || '/download',
                        'file_name', a.file_name, 'file_size', a.file_size)
                    FROM test_artifacts a WHERE a.id = p.screenshot_artifact_id) AS screenshot,
                   (SELECT coalesce(json_agg(json_build_object(
                        'id', a.id, 'artifact_type', a.artifact_type, 'artifact_category', a.artifact_category,
                        'file_name', a.file_name, 'file_size', a.file_size, 'mime_type', a.mime_type,
                        'captured_at', to_char(a.captured_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
                        'download_url', '/api/v1/reports/artifacts/' || a.id || '/download') ORDER BY a.id), '[]')
                    FROM test_artifacts a WHERE a.step_result_id = p.id) AS artifacts
            FROM test_step_results p
            WHERE p.test_case_result_id = $1
              AND ($3::int IS NULL OR p.iteration_number = $3)
              AND ($4::text IS NULL OR p.status = $4)
            ORDER BY p.iteration_number, p.step_number
            LIMIT $5 OFFSET $6
        ) AS shown) AS steps
FROM test_case_results c
LEFT JOIN test_step_results s ON s.test_case_result_id = c.id AND ($3::int IS NULL OR s.iteration_number = $3)
WHERE c.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)
GROUP BY c.id

-- name: for_case
SELECT id, test_case_result_id, iteration_number, step_number, step_type, action, description, status, duration_ms,
       element_selector, element_name, element_type, input_value, expected_value, actual_value,
       error_message, error_type, stack_trace, screenshot_path, screenshot_artifact_id,
       started_at, completed_at, created_at, updated_at
FROM test_step_results
WHERE test_case_result_id = $1
  AND ($2::int IS NULL OR iteration_number = $2)
  AND ($3::text IS NULL OR status = $3)
ORDER BY iteration_number, step_number
LIMIT $4 OFFSET $5

-- name: case_of
-- Which test case a step belongs to, if the caller may see it.
SELECT s.test_case_result_id
FROM test_step_results s JOIN test_case_results c ON c.id = s.test_case_result_id
WHERE s.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: pin
-- Pinned to an artifact, or to none: from now on linking leaves this step's screenshot alone.
UPDATE test_step_results
SET screenshot_artifact_id = $2, screenshot_pinned = true, updated_at = CURRENT_TIMESTAMP
WHERE id = $1
RETURNING id, step_number, screenshot_artifact_id

-- name: shown
SELECT id, step_number, screenshot_artifact_id FROM test_step_results WHERE id = $1

-- name: unpin
-- Before its artifact is deleted, which clears the reference itself (the foreign key): the steps to be linked anew.
UPDATE test_step_results SET screenshot_pinned = false
WHERE test_case_result_id = $1 AND screenshot_artifact_id = $2
RETURNING id
