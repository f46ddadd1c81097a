-- name: project_of
-- No row when the step does not exist or is not in the caller's project ($2; NULL is every project).
SELECT c.project_id FROM test_step_results s JOIN test_case_results c ON c.id = s.test_case_result_id
WHERE s.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: insert_many
-- Locks the test case, checks and inserts in one statement. $3: iterations that must not have steps yet, which no
-- constraint can express. $4: whether the test case may have artifacts, and an error that is not in `errors` yet; if
-- so, `link` and grouping.add must follow. $7: return the new rows, else one empty row. No row at all when the test case
-- does not exist, a check fails, or another writer committed while this waited.
-- $9: the error of the first step that says why it failed, whose iteration and number are $10 and $11; else NULL. It is
-- the result's error if neither the result nor an earlier step has a message: the order of group_of in
-- server/compare/failures.py.
-- Sub-selects hide $3, $7 and $9 from the planner. With their values it would expect less than from a plan for any
-- values, and in many states of the database plan this anew each time: that takes as long as to execute it.
WITH seen AS (
    SELECT id, project_id, xmin AS version,
           (SELECT $9::bytea) IS NOT NULL AND status = 'Failed' AND coalesce(error_message, '') = '' AND NOT EXISTS (
               SELECT FROM test_step_results s
               WHERE s.test_case_result_id = $1 AND s.status = 'Failed' AND s.error_message <> ''
                 AND (s.iteration_number, s.step_number) < ($10::int, $11::int)) AS explained
    FROM test_case_results WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2)
), target AS (
    -- Usually changes no value, but locks the row and creates a new version of it (xmin). A statement that waited for
    -- another writer finds another version than in its snapshot, and does nothing. Otherwise it would miss that writer's
    -- rows.
    UPDATE test_case_results c
    SET updated_at = c.updated_at, error_fingerprint = CASE WHEN explained THEN $9 ELSE c.error_fingerprint END
    FROM seen
    WHERE c.id = seen.id AND c.xmin = seen.version
      AND NOT EXISTS (SELECT FROM test_step_results s
                      WHERE s.test_case_result_id = $1 AND s.iteration_number = ANY((SELECT $3::int[])::int[]))
      AND ($4::bool OR NOT EXISTS (SELECT FROM test_artifacts a WHERE a.test_case_result_id = $1))
      AND ($4 OR NOT explained
           OR EXISTS (SELECT FROM errors e WHERE e.project_id = seen.project_id AND e.fingerprint = $9))
    RETURNING c.id
), new AS (
    INSERT INTO test_step_results (
        id, test_case_result_id, iteration_number, step_number, parent_step_number, step_type, action, description,
        status, duration_ms,
        element_selector, element_name, element_type, input_value, expected_value, actual_value,
        error_message, error_type, stack_trace, screenshot_path, link_name, started_at, completed_at)
    SELECT n.id, target.id, coalesce(n.iteration_number, 1), n.step_number, n.parent_step_number, n.step_type,
           n.action, n.description,
           coalesce(n.status, 'Pending'), n.duration_ms, n.element_selector, n.element_name, n.element_type,
           n.input_value, n.expected_value, n.actual_value, n.error_message, n.error_type, n.stack_trace,
           n.screenshot_path, CASE WHEN n.link_name IS NOT NULL THEN ARRAY[n.screenshot_path, n.link_name] END,
           n.started_at, n.completed_at
    FROM target, ROWS FROM (unnest($5::uuid[], $8::text[]), json_to_recordset($6::json) AS (
        iteration_number int, step_number int, parent_step_number int, step_type text, action text, description text,
        status text,
        duration_ms int, element_selector text, element_name text, element_type text, input_value text,
        expected_value text, actual_value text, error_message text, error_type text, stack_trace text,
        screenshot_path text, started_at timestamptz, completed_at timestamptz)) AS n(id, link_name)
    RETURNING id, test_case_result_id, iteration_number, step_number, parent_step_number, step_type, action,
              description, status,
              duration_ms, element_selector, element_name, element_type, input_value, expected_value, actual_value,
              error_message, error_type, stack_trace, screenshot_path, screenshot_artifact_id,
              started_at, completed_at, created_at, updated_at
)
SELECT new.* FROM target LEFT JOIN new ON (SELECT $7::bool) ORDER BY new.id

-- name: insert_new
-- The steps ($3) of results that this transaction has inserted: nobody else can see these yet, so nothing is locked or
-- checked. $1 and $2: the id and the result of each step; $4: its link_name.
INSERT INTO test_step_results (
    id, test_case_result_id, iteration_number, step_number, parent_step_number, step_type, action, description, status,
    duration_ms, element_selector, element_name, element_type, input_value, expected_value, actual_value,
    error_message, error_type, stack_trace, screenshot_path, link_name, started_at, completed_at)
SELECT n.id, n.case_id, coalesce(n.iteration_number, 1), n.step_number, n.parent_step_number, n.step_type, n.action,
       n.description, coalesce(n.status, 'Pending'), n.duration_ms, n.element_selector, n.element_name,
       n.element_type, n.input_value, n.expected_value, n.actual_value, n.error_message, n.error_type, n.stack_trace,
       n.screenshot_path, CASE WHEN n.link_name IS NOT NULL THEN ARRAY[n.screenshot_path, n.link_name] END,
       n.started_at, n.completed_at
FROM ROWS FROM (unnest($1::uuid[], $2::uuid[], $4::text[]), json_to_recordset($3::json) AS (
    iteration_number int, step_number int, parent_step_number int, step_type text, action text, description text,
    status text, duration_ms int, element_selector text, element_name text, element_type text, input_value text,
    expected_value text, actual_value text, error_message text, error_type text, stack_trace text,
    screenshot_path text, started_at timestamptz, completed_at timestamptz)) AS n(id, case_id, link_name)

-- name: at_positions
-- Which steps the results ($1) have at these iterations ($2) and numbers ($3).
SELECT s.test_case_result_id, s.iteration_number, s.step_number, s.id
FROM unnest($1::uuid[], $2::int[], $3::int[]) AS sent(case_id, iteration_number, step_number)
JOIN test_step_results s ON s.test_case_result_id = sent.case_id AND s.iteration_number = sent.iteration_number
    AND s.step_number = sent.step_number

-- name: matching
-- The steps of these results ($1) with a number in $2 or a name in $3, and what they show: see reports/linking.py.
-- Sub-selects and OFFSET 0 as in artifacts.lock.
SELECT step.test_case_result_id, step.id, step.iteration_number, step.step_number, step.name, step.screenshot_pinned,
       shot.id AS shown, shot.iteration_number AS shown_iteration, shot.step_number AS shown_number,
       coalesce(shot.link_name, shot.file_name) AS shown_name, shot.artifact_category AS shown_category
FROM (SELECT *, CASE WHEN link_name[1] = screenshot_path THEN link_name[2]
                     ELSE regexp_replace(screenshot_path, '^.*[/\\]', '') END AS name
      FROM test_step_results WHERE test_case_result_id = ANY((SELECT $1::uuid[])::uuid[])) AS step
LEFT JOIN LATERAL (SELECT * FROM test_artifacts WHERE id = step.screenshot_artifact_id OFFSET 0) AS shot ON true
WHERE step.step_number = ANY((SELECT $2::int[])::int[]) OR step.name = ANY((SELECT $3::text[])::text[])

-- name: replace_many
-- An existing step keeps its id, creation time and pinned screenshot. All other columns get the values that were sent.
INSERT INTO test_step_results AS old (
    id, test_case_result_id, iteration_number, step_number, parent_step_number, step_type, action, description,
    status, duration_ms,
    element_selector, element_name, element_type, input_value, expected_value, actual_value,
    error_message, error_type, stack_trace, screenshot_path, link_name, started_at, completed_at)
SELECT n.id, $1, coalesce(n.iteration_number, 1), n.step_number, n.parent_step_number, n.step_type, n.action,
       n.description,
       coalesce(n.status, 'Pending'), n.duration_ms, n.element_selector, n.element_name, n.element_type,
       n.input_value, n.expected_value, n.actual_value, n.error_message, n.error_type, n.stack_trace,
       n.screenshot_path, CASE WHEN n.link_name IS NOT NULL THEN ARRAY[n.screenshot_path, n.link_name] END,
       n.started_at, n.completed_at
FROM ROWS FROM (unnest($2::uuid[], $4::text[]), json_to_recordset($3::json) AS (
    iteration_number int, step_number int, parent_step_number int, step_type text, action text, description text,
    status text,
    duration_ms int, element_selector text, element_name text, element_type text, input_value text,
    expected_value text, actual_value text, error_message text, error_type text, stack_trace text,
    screenshot_path text, started_at timestamptz, completed_at timestamptz)) AS n(id, link_name)
ON CONFLICT ON CONSTRAINT unique_step_per_test DO UPDATE SET
    parent_step_number = EXCLUDED.parent_step_number, step_type = EXCLUDED.step_type, action = EXCLUDED.action,
    description = EXCLUDED.description,
    status = EXCLUDED.status, duration_ms = EXCLUDED.duration_ms, element_selector = EXCLUDED.element_selector,
    element_name = EXCLUDED.element_name, element_type = EXCLUDED.element_type, input_value = EXCLUDED.input_value,
    expected_value = EXCLUDED.expected_value, actual_value = EXCLUDED.actual_value,
    error_message = EXCLUDED.error_message, error_type = EXCLUDED.error_type, stack_trace = EXCLUDED.stack_trace,
    screenshot_path = EXCLUDED.screenshot_path, link_name = EXCLUDED.link_name,
    started_at = EXCLUDED.started_at, completed_at = EXCLUDED.completed_at, updated_at = CURRENT_TIMESTAMP
RETURNING id, iteration_number, step_number

-- name: by_ids
-- OFFSET 0, so that each step is looked up by its id. Otherwise the plan for any values may read all steps of the
-- result, and PostgreSQL plans this anew each time, which takes several times as long as to execute it.
SELECT id, test_case_result_id, iteration_number, step_number, parent_step_number, step_type, action, description,
       status, duration_ms,
       element_selector, element_name, element_type, input_value, expected_value, actual_value,
       error_message, error_type, stack_trace, screenshot_path, screenshot_artifact_id,
       started_at, completed_at, created_at, updated_at
FROM unnest((SELECT $2::uuid[])) AS wanted(wanted_id)
CROSS JOIN LATERAL (SELECT * FROM test_step_results WHERE id = wanted_id OFFSET 0) AS step
WHERE test_case_result_id = $1 ORDER BY id

-- name: prune
-- Deletes the steps that were not sent, in the iterations that were. Returns the artifacts of each deleted step:
-- own_artifacts must assign them to other steps.
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
-- Chooses the screenshot of each unpinned step: the one in its iteration with the file name in screenshot_path, else
-- with its step number. If several match, the category decides (error, after, none, others), then age (oldest first).
-- File names are equal when they are in Unicode form C and without percent-encoding, which link_name has (NULL: it is
-- the same). The link_name of a step has the path that it belongs to: older servers change only the path.
-- Updates the written steps ($2). reports/linking.py decides the same for new artifacts. Needs the test case's lock:
-- otherwise it misses the rows of a concurrent writer.
WITH step AS (
    SELECT id, iteration_number, step_number,
           CASE WHEN link_name[1] = screenshot_path THEN link_name[2]
                ELSE regexp_replace(screenshot_path, '^.*[/\\]', '') END AS file_name
    FROM test_step_results WHERE test_case_result_id = $1 AND id IN (SELECT unnest($2::uuid[]))
), shot AS (
    SELECT id, iteration_number, step_number, coalesce(link_name, file_name) AS file_name,
           CASE WHEN artifact_category = 'error' THEN 0 WHEN artifact_category = 'after' THEN 1
                WHEN artifact_category IS NULL THEN 2 ELSE 3 END AS rank
    FROM test_artifacts
    WHERE test_case_result_id = $1 AND artifact_type = 'screenshot'
      AND (coalesce(link_name, file_name) IN (SELECT file_name FROM step)
           OR step_number IN (SELECT step_number FROM step))
), named AS (
    SELECT DISTINCT ON (iteration_number, file_name) * FROM shot ORDER BY iteration_number, file_name, rank, id
), numbered AS (
    SELECT DISTINCT ON (iteration_number, step_number) * FROM shot WHERE step_number IS NOT NULL
    ORDER BY iteration_number, step_number, rank, id
), best AS MATERIALIZED (
    -- FULL JOIN, because PostgreSQL executes it only as a hash or merge join. For another join, a planner that
    -- underestimates the size of the test case chooses a nested loop, which compares each step with each screenshot.
    SELECT step.id, coalesce(named.id, numbered.id) AS artifact_id
    FROM step
    FULL JOIN named ON named.iteration_number = step.iteration_number AND named.file_name = step.file_name
    FULL JOIN numbered ON numbered.iteration_number = step.iteration_number AND numbered.step_number = step.step_number
)
UPDATE test_step_results s SET screenshot_artifact_id = best.artifact_id, updated_at = CURRENT_TIMESTAMP
FROM best
WHERE s.id = best.id AND NOT s.screenshot_pinned AND s.screenshot_artifact_id IS DISTINCT FROM best.artifact_id

-- name: own_artifacts
-- An artifact belongs to the step with its iteration and step number, else to the first step that shows it. Decides
-- this for the written artifacts ($3), and for those that the steps in $2 own, show, or match by number. Runs after
-- `link`, which chooses what each step shows.
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
    -- FULL JOIN for the same reason as in `link`.
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
-- One row if the test case exists and the caller may see it, otherwise none: a 404. All counts follow the iteration
-- filter; only `matching` follows the status filter.
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
-- Like `counts`, plus the steps with their screenshots and artifacts as the JSON array of the reply. JSON built here
-- costs the server a quarter of loading the rows into Python and encoding them there (bench/README.md). Subqueries, not
-- joins: they find each step's artifacts by an index, even if the planner expects few. They return records, so that one
-- call of array_to_json makes the JSON of all: JSON in JSON would be copied at each level. array_to_json adds no spaces,
-- as the rest of every reply has none; json_agg and json_build_object would.
-- Steps of more than $11 bytes (500 stands for the names and the short values of a step, or of an artifact) are NULL:
-- they are read in portions, by `portion`, and then by this query with $11 NULL and the bounds of the portion: after
-- iteration $7 and step number $8, up to $9 and $10. The counts are those within the bounds, too.
SELECT count(s.id) AS total_steps,
       count(s.id) FILTER (WHERE s.status = 'Passed') AS passed_steps,
       count(s.id) FILTER (WHERE s.status = 'Failed') AS failed_steps,
       count(s.id) FILTER (WHERE s.status = 'Skipped') AS skipped_steps,
       count(s.id) FILTER (WHERE s.status = 'Pending') AS pending_steps,
       count(s.id) FILTER (WHERE $4::text IS NULL OR s.status = $4) AS matching,
       CASE WHEN $11::int IS NULL OR $11 >=
                 500 * (SELECT count(*) FROM test_artifacts a WHERE a.test_case_result_id = $1)
                 + coalesce(sum(500 + coalesce(octet_length(s.description), 0)
                     + coalesce(octet_length(s.element_selector), 0) + coalesce(octet_length(s.input_value), 0)
                     + coalesce(octet_length(s.expected_value), 0) + coalesce(octet_length(s.actual_value), 0)
                     + coalesce(octet_length(s.error_message), 0) + coalesce(octet_length(s.stack_trace), 0)), 0)
       THEN array_to_json(ARRAY(SELECT shown FROM (
            SELECT p.id, p.test_case_result_id, p.iteration_number, p.step_number, p.parent_step_number, p.step_type,
                   p.action,
                   p.description, p.status, p.duration_ms, p.element_selector, p.element_name, p.element_type,
                   p.input_value, p.expected_value, p.actual_value, p.error_message, p.error_type, p.stack_trace,
                   p.screenshot_path, p.screenshot_artifact_id,
                   to_char(p.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS started_at,
                   to_char(p.completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS completed_at,
                   to_char(p.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS created_at,
                   to_char(p.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS updated_at,
                   (SELECT shot FROM (
                        SELECT a.id, '/api/v1/reports/artifacts/' || a.id || '/download' AS url,
                               '/api/v1/reports/artifacts/' || a.id || '/download' AS download_url,
                               a.file_name, a.file_size
                        FROM test_artifacts a WHERE a.id = p.screenshot_artifact_id) AS shot) AS screenshot,
                   ARRAY(SELECT owned FROM (
                        SELECT a.id, a.artifact_type, a.artifact_category, a.file_name, a.file_size, a.mime_type,
                               to_char(a.captured_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
                                   AS captured_at,
                               '/api/v1/reports/artifacts/' || a.id || '/download' AS download_url
                        FROM test_artifacts a WHERE a.step_result_id = p.id ORDER BY a.id) AS owned) AS artifacts
            FROM test_step_results p
            WHERE p.test_case_result_id = $1
              AND ($3::int IS NULL OR p.iteration_number = $3)
              AND ($4::text IS NULL OR p.status = $4)
              AND (p.iteration_number, p.step_number) > ($7, $8)
              AND (p.iteration_number, p.step_number) <= ($9, $10)
            ORDER BY p.iteration_number, p.step_number
            LIMIT $5 OFFSET $6
        ) AS shown)) END AS steps
FROM test_case_results c
LEFT JOIN test_step_results s ON s.test_case_result_id = c.id AND ($3::int IS NULL OR s.iteration_number = $3)
    AND (s.iteration_number, s.step_number) > ($7, $8) AND (s.iteration_number, s.step_number) <= ($9, $10)
WHERE c.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)
GROUP BY c.id

-- name: for_case
-- A portion of the steps after iteration $4 and step number $5, as in logs.console_for_case.
SELECT id, test_case_result_id, iteration_number, step_number, parent_step_number, step_type, action, description,
       status, duration_ms,
       element_selector, element_name, element_type, input_value, expected_value, actual_value,
       error_message, error_type, stack_trace, screenshot_path, screenshot_artifact_id,
       started_at, completed_at, created_at, updated_at,
       iteration_number AS last_iteration, step_number AS last_number, bytes
FROM (SELECT *, row_number() OVER portion AS number,
             sum(500 + coalesce(octet_length(description), 0) + coalesce(octet_length(element_selector), 0)
                 + coalesce(octet_length(input_value), 0) + coalesce(octet_length(expected_value), 0)
                 + coalesce(octet_length(actual_value), 0) + coalesce(octet_length(error_message), 0)
                 + coalesce(octet_length(stack_trace), 0)) OVER portion AS bytes
      FROM (SELECT * FROM test_step_results
            WHERE test_case_result_id = $1
              AND ($2::int IS NULL OR iteration_number = $2)
              AND ($3::text IS NULL OR status = $3)
              AND (iteration_number, step_number) > ($4, $5)
            ORDER BY iteration_number, step_number LIMIT $6 OFFSET $7) AS page
      WINDOW portion AS (ORDER BY iteration_number, step_number ROWS UNBOUNDED PRECEDING)) AS step
WHERE bytes <= 1048576 OR number = 1
ORDER BY iteration_number, step_number

-- name: portion
-- The next portion of illustrated steps after iteration $4 and step number $5, as in logs.console_for_case: how many
-- they are, their size, and the last one. `illustrated` then reads them. Each artifact of a step also counts 500 bytes.
SELECT count(*) AS shown, max(bytes) AS bytes, (array_agg(iteration_number ORDER BY number DESC))[1] AS iteration_number,
       (array_agg(step_number ORDER BY number DESC))[1] AS step_number
FROM (SELECT iteration_number, step_number, row_number() OVER portion AS number,
             sum(500 + coalesce(octet_length(description), 0) + coalesce(octet_length(element_selector), 0)
                 + coalesce(octet_length(input_value), 0) + coalesce(octet_length(expected_value), 0)
                 + coalesce(octet_length(actual_value), 0) + coalesce(octet_length(error_message), 0)
                 + coalesce(octet_length(stack_trace), 0)
                 + 500 * (SELECT count(*) FROM test_artifacts a WHERE a.step_result_id = page.id)::int)
             OVER portion AS bytes
      FROM (SELECT * FROM test_step_results
            WHERE test_case_result_id = $1
              AND ($2::int IS NULL OR iteration_number = $2)
              AND ($3::text IS NULL OR status = $3)
              AND (iteration_number, step_number) > ($4, $5)
            ORDER BY iteration_number, step_number LIMIT $6 OFFSET $7) AS page
      WINDOW portion AS (ORDER BY iteration_number, step_number ROWS UNBOUNDED PRECEDING)) AS step
WHERE bytes <= 1048576 OR number = 1

-- name: case_of
-- The step's test case, if the caller may see it.
SELECT s.test_case_result_id
FROM test_step_results s JOIN test_case_results c ON c.id = s.test_case_result_id
WHERE s.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: update
-- $2 is the patch as sent: absent fields stay, null clears a field. A sent screenshot, also null, is pinned: from then
-- on, `link` does not change it. $3 is the link_name of a sent screenshot_path; that of another path is ignored.
UPDATE test_step_results s SET (step_number, parent_step_number, iteration_number, step_type, action, description,
    status, duration_ms,
    element_selector, element_name, element_type, input_value, expected_value, actual_value, error_message, error_type,
    stack_trace, screenshot_path, screenshot_artifact_id, started_at, completed_at) = (
    SELECT p.step_number, p.parent_step_number, p.iteration_number, p.step_type, p.action, p.description, p.status,
           p.duration_ms,
           p.element_selector, p.element_name, p.element_type, p.input_value, p.expected_value, p.actual_value,
           p.error_message, p.error_type, p.stack_trace, p.screenshot_path, p.screenshot_artifact_id,
           p.started_at, p.completed_at
    FROM jsonb_populate_record(s, $2::jsonb) AS p),
    screenshot_pinned = s.screenshot_pinned OR $2::jsonb ? 'screenshot_artifact_id', updated_at = CURRENT_TIMESTAMP,
    link_name = CASE WHEN $3::text IS NULL THEN s.link_name ELSE ARRAY[$2::jsonb->>'screenshot_path', $3] END
WHERE s.id = $1
RETURNING id, step_number, screenshot_artifact_id

-- name: shown
SELECT id, step_number, screenshot_artifact_id FROM test_step_results WHERE id = $1

-- name: unpin
-- Runs before an artifact is deleted, whose foreign key then clears screenshot_artifact_id. Returns the steps that
-- showed it, for which `link` must choose a screenshot again.
UPDATE test_step_results SET screenshot_pinned = false
WHERE test_case_result_id = $1 AND screenshot_artifact_id = $2
RETURNING id

-- name: failed_first
-- The first failed step of each result ($1), and a picture of it: that of its error, else the one that the step has,
-- else the newest of the result. A sub-select as in artifacts.lock.
SELECT c.id, s.iteration_number, s.step_number,
       CASE WHEN s.id IS NOT NULL THEN left(coalesce(nullif(s.description, ''),
           concat_ws(' ', coalesce(nullif(s.action, ''), s.step_type),
               CASE WHEN strpos(s.action, s.element_name) > 0 THEN NULL ELSE s.element_name END)), 200) END AS title,
       coalesce(e.id, s.screenshot_artifact_id, n.id) AS picture
FROM unnest((SELECT $1::uuid[])) AS c(id)
LEFT JOIN LATERAL (
    SELECT * FROM test_step_results WHERE test_case_result_id = c.id AND status = 'Failed'
    ORDER BY iteration_number, step_number LIMIT 1) AS s ON true
LEFT JOIN LATERAL (
    SELECT id FROM test_artifacts
    WHERE test_case_result_id = c.id AND step_result_id = s.id AND artifact_category = 'error'
      AND mime_type LIKE 'image/%'
    ORDER BY id DESC LIMIT 1) AS e ON true
LEFT JOIN LATERAL (
    SELECT id FROM test_artifacts
    WHERE test_case_result_id = c.id AND e.id IS NULL AND s.screenshot_artifact_id IS NULL
      AND mime_type LIKE 'image/%'
    ORDER BY id DESC LIMIT 1) AS n ON true
