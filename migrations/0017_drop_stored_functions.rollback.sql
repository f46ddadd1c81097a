-- The writes of several statements under a test case's row lock, in one round trip each: a request holds the lock and
-- its connection for one exchange where it would be five, and costs a third less processor time (bench/README.md).
-- They are VOLATILE, so each statement in them sees what was committed before it, all that came before the lock included.
-- All they look at is found by key. Without statistics, as in the first minutes of a new database, the planner takes
-- the tables for tiny and reads them whole, and a function keeps that plan: so it is told not to.

CREATE FUNCTION lock_test_case(case_id UUID, callers_project UUID) RETURNS UUID LANGUAGE plpgsql AS $$
DECLARE
    its_project UUID;
BEGIN
    UPDATE test_case_results SET updated_at = updated_at
    WHERE id = $1 AND ($2 IS NULL OR project_id = $2)
    RETURNING project_id INTO its_project;
    IF its_project IS NULL THEN
        RAISE foreign_key_violation USING CONSTRAINT = 'test_case_exists';
    END IF;
    RETURN its_project;
END $$;

-- Decides every screenshot of a test case anew, whatever order things arrived in: a step that no PATCH has pinned
-- shows the best screenshot of its iteration, by the name in screenshot_path, else by step number. An artifact
-- belongs to the step of its number, else to the first step that shows it.
-- Steps and artifacts meet in windows over their common key, not in joins: a planner that takes a large test case
-- for a small one would join each of the ones with each of the others.
CREATE FUNCTION link_screenshots(case_id UUID) RETURNS VOID LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    -- The usual case while a test is still being sent: one of the two sides is not there yet.
    IF NOT EXISTS (SELECT FROM test_artifacts WHERE test_case_result_id = $1)
       OR NOT EXISTS (SELECT FROM test_step_results WHERE test_case_result_id = $1) THEN
        RETURN;
    END IF;
    WITH step AS (
        SELECT id, iteration_number, step_number, screenshot_artifact_id AS present, screenshot_pinned AS pinned,
               regexp_replace(screenshot_path, '^.*[/\\]', '') AS file_name
        FROM test_step_results WHERE test_case_result_id = $1
    ), artifact AS (
        SELECT id, iteration_number, step_number, file_name, step_result_id AS present,
               artifact_type = 'screenshot' AS is_screenshot,
               CASE WHEN artifact_category = 'error' THEN 0 WHEN artifact_category = 'after' THEN 1
                    WHEN artifact_category IS NULL THEN 2 ELSE 3 END AS rank
        FROM test_artifacts WHERE test_case_result_id = $1
    ), named AS (
        SELECT step_id, first_value(artifact_id) OVER best AS artifact_id
        FROM (
            SELECT iteration_number, file_name, rank, id AS artifact_id, NULL::uuid AS step_id
            FROM artifact WHERE is_screenshot
            UNION ALL
            SELECT iteration_number, file_name, NULL, NULL, id FROM step WHERE file_name IS NOT NULL AND NOT pinned
        ) AS either
        WINDOW best AS (PARTITION BY iteration_number, file_name ORDER BY rank NULLS LAST, artifact_id)
    ), numbered AS (
        SELECT step_id, first_value(artifact_id) OVER best AS artifact_id
        FROM (
            SELECT iteration_number, step_number, rank, id AS artifact_id, NULL::uuid AS step_id
            FROM artifact WHERE is_screenshot AND step_number IS NOT NULL
            UNION ALL
            SELECT iteration_number, step_number, NULL, NULL, id FROM step WHERE NOT pinned
        ) AS either
        WINDOW best AS (PARTITION BY iteration_number, step_number ORDER BY rank NULLS LAST, artifact_id)
    ), choice AS (
        SELECT step_id, artifact_id, 0 AS tier, NULL::uuid AS present FROM named WHERE step_id IS NOT NULL
        UNION ALL
        SELECT step_id, artifact_id, 1, NULL FROM numbered WHERE step_id IS NOT NULL
        UNION ALL
        SELECT id, CASE WHEN pinned THEN present END, 2, present FROM step
    ), wanted AS (
        SELECT step_id, tier, present,
               first_value(artifact_id) OVER (PARTITION BY step_id ORDER BY artifact_id IS NULL, tier) AS artifact_id
        FROM choice
    ), shown AS (
        UPDATE test_step_results s SET screenshot_artifact_id = w.artifact_id, updated_at = CURRENT_TIMESTAMP
        FROM wanted w
        WHERE s.id = w.step_id AND w.tier = 2 AND w.artifact_id IS DISTINCT FROM w.present
    ), of_number AS (
        SELECT artifact_id, first_value(step_id) OVER (
                   PARTITION BY iteration_number, step_number ORDER BY step_id NULLS LAST) AS step_id
        FROM (
            SELECT iteration_number, step_number, id AS artifact_id, NULL::uuid AS step_id
            FROM artifact WHERE step_number IS NOT NULL
            UNION ALL
            SELECT iteration_number, step_number, NULL, id FROM step
        ) AS either
    ), claim AS (
        SELECT artifact_id, step_id, 0 AS tier, NULL::uuid AS present FROM of_number WHERE artifact_id IS NOT NULL
        UNION ALL
        SELECT artifact_id, step_id, 1, NULL FROM wanted WHERE tier = 2 AND artifact_id IS NOT NULL
        UNION ALL
        SELECT id, NULL, 2, present FROM artifact
    ), owner AS (
        SELECT artifact_id, tier, present, first_value(step_id) OVER (
                   PARTITION BY artifact_id ORDER BY step_id IS NULL, tier, step_id) AS step_id
        FROM claim
    )
    UPDATE test_artifacts a SET step_result_id = o.step_id
    FROM owner o
    WHERE a.id = o.artifact_id AND o.tier = 2 AND o.step_id IS DISTINCT FROM o.present;
END $$;

-- With `whole`, none of the iterations sent may have steps (S1's rule, which no constraint can say), and nothing comes
-- back; without it, only a step that is sent may not be there, and the new rows come back.
CREATE FUNCTION insert_steps(
    case_id UUID, callers_project UUID, whole BOOLEAN, ids UUID[], iteration_numbers INT[], step_numbers INT[],
    step_types TEXT[], actions TEXT[], descriptions TEXT[], statuses TEXT[], durations INT[],
    element_selectors TEXT[], element_names TEXT[], element_types TEXT[], input_values TEXT[], expected_values TEXT[],
    actual_values TEXT[], error_messages TEXT[], error_types TEXT[], stack_traces TEXT[], screenshot_paths TEXT[],
    starts TIMESTAMPTZ[], ends TIMESTAMPTZ[]
) RETURNS SETOF test_step_results LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM lock_test_case($1, $2);
    IF whole AND EXISTS (SELECT FROM test_step_results
                         WHERE test_case_result_id = $1 AND iteration_number = ANY($5)) THEN
        RAISE unique_violation USING CONSTRAINT = 'unique_step_per_test';
    END IF;
    INSERT INTO test_step_results (
        id, test_case_result_id, iteration_number, step_number, step_type, action, description, status, duration_ms,
        element_selector, element_name, element_type, input_value, expected_value, actual_value,
        error_message, error_type, stack_trace, screenshot_path, started_at, completed_at)
    SELECT n.id, $1, n.iteration_number, n.step_number, n.step_type, n.action, n.description, n.status, n.duration_ms,
           n.element_selector, n.element_name, n.element_type, n.input_value, n.expected_value, n.actual_value,
           n.error_message, n.error_type, n.stack_trace, n.screenshot_path, n.started_at, n.completed_at
    FROM unnest($4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)
         AS n(id, iteration_number, step_number, step_type, action, description, status, duration_ms,
              element_selector, element_name, element_type, input_value, expected_value, actual_value,
              error_message, error_type, stack_trace, screenshot_path, started_at, completed_at);
    PERFORM link_screenshots($1);
    IF NOT whole THEN
        RETURN QUERY SELECT s.* FROM test_step_results s WHERE s.id = ANY($4) ORDER BY s.id;
    END IF;
END $$;

-- What must be known before files get their names: the project, which of the files are there already, and which of
-- their names a row has, or had until lately: a new file under one of those could be unlinked in its place.
-- A path holds its test case's id: only that one's rows can have it, and only those are looked at.
CREATE FUNCTION lock_for_artifacts(case_id UUID, callers_project UUID, dedupe_keys BYTEA[], paths TEXT[])
RETURNS TABLE (project_id UUID, known BYTEA[], taken TEXT[]) LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    project_id := lock_test_case($1, $2);
    known := ARRAY(SELECT dedupe_key FROM test_artifacts WHERE test_case_result_id = $1 AND dedupe_key = ANY($3));
    taken := ARRAY(SELECT storage_path FROM test_artifacts WHERE test_case_result_id = $1 AND storage_path = ANY($4)
                   UNION ALL
                   SELECT storage_path FROM removed_files WHERE storage_path = ANY($4));
    RETURN NEXT;
END $$;

CREATE FUNCTION insert_artifacts(
    case_id UUID, ids UUID[], artifact_types TEXT[], artifact_categories TEXT[], step_numbers INT[],
    iteration_numbers INT[], file_names TEXT[], file_sizes BIGINT[], mime_types TEXT[], checksums TEXT[],
    storage_paths TEXT[], descriptions TEXT[], dedupe_keys BYTEA[], capture_times TIMESTAMPTZ[]
) RETURNS SETOF test_artifacts LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO test_artifacts (
        id, test_case_result_id, step_result_id, artifact_type, artifact_category, step_number, iteration_number,
        file_name, file_size, mime_type, checksum, storage_path, description, dedupe_key, captured_at)
    SELECT n.id, $1, s.id, n.artifact_type, n.artifact_category, n.step_number, n.iteration_number,
           n.file_name, n.file_size, n.mime_type, n.checksum, n.storage_path, n.description, n.dedupe_key, n.captured_at
    FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         AS n(id, artifact_type, artifact_category, step_number, iteration_number, file_name, file_size, mime_type,
              checksum, storage_path, description, dedupe_key, captured_at)
    LEFT JOIN test_step_results s ON s.test_case_result_id = $1
        AND s.iteration_number = n.iteration_number AND s.step_number = n.step_number
    ORDER BY n.id;
    PERFORM link_screenshots($1);
    RETURN QUERY SELECT a.* FROM test_artifacts a WHERE a.id = ANY($2) ORDER BY a.id;
END $$;

-- A time as every reply shows it: UTC, three digits, Z.
CREATE FUNCTION instant(moment TIMESTAMPTZ) RETURNS TEXT LANGUAGE sql STABLE
RETURN to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

-- Steps of a test case with what they show and own, as the JSON array of a reply: rows that only become JSON are made
-- into it here, at a quarter of what it costs the server to carry them to Python first (bench/README.md). Steps and
-- artifacts of one test case are hashed: without statistics the planner would look them up one by one, each time by
-- reading the whole table.
CREATE FUNCTION illustrated_steps(
    case_id UUID, of_iteration INT, of_status TEXT, at_most BIGINT, skipped BIGINT
) RETURNS JSON LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_nestloop = off AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        WITH step AS (
            SELECT * FROM test_step_results
            WHERE test_case_result_id = $1
              AND ($2 IS NULL OR iteration_number = $2)
              AND ($3 IS NULL OR status = $3)
            ORDER BY iteration_number, step_number
            LIMIT $4 OFFSET $5
        ), artifact AS (
            SELECT id, step_result_id, artifact_type, artifact_category, file_name, file_size, mime_type,
                   instant(captured_at) AS captured_at,
                   '/api/v1/reports/artifacts/' || id || '/download' AS download_url
            FROM test_artifacts
            WHERE test_case_result_id = $1
              AND (step_result_id IN (SELECT id FROM step) OR id IN (SELECT screenshot_artifact_id FROM step))
        ), owned AS (
            SELECT step_result_id,
                   json_agg(json_build_object(
                       'id', id, 'artifact_type', artifact_type, 'artifact_category', artifact_category,
                       'file_name', file_name, 'file_size', file_size, 'mime_type', mime_type,
                       'captured_at', captured_at, 'download_url', download_url) ORDER BY id) AS artifacts
            FROM artifact WHERE step_result_id IS NOT NULL
            GROUP BY step_result_id
        )
        SELECT coalesce(json_agg(row_to_json(shown) ORDER BY iteration_number, step_number), '[]')
        FROM (
            SELECT s.id, s.test_case_result_id, s.iteration_number, s.step_number, s.step_type, s.action,
                   s.description, s.status, s.duration_ms, s.element_selector, s.element_name, s.element_type,
                   s.input_value, s.expected_value, s.actual_value, s.error_message, s.error_type, s.stack_trace,
                   s.screenshot_path, s.screenshot_artifact_id, instant(s.started_at) AS started_at,
                   instant(s.completed_at) AS completed_at, instant(s.created_at) AS created_at,
                   instant(s.updated_at) AS updated_at,
                   CASE WHEN a.id IS NOT NULL THEN json_build_object(
                       'id', a.id, 'url', a.download_url, 'download_url', a.download_url,
                       'file_name', a.file_name, 'file_size', a.file_size) END AS screenshot,
                   coalesce(o.artifacts, '[]') AS artifacts
            FROM step s
            LEFT JOIN artifact a ON a.id = s.screenshot_artifact_id
            LEFT JOIN owned o ON o.step_result_id = s.id
        ) AS shown
    );
END $$;
