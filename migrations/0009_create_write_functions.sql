-- depends: 0008_create_idempotency_keys

-- The writes of several statements under a test case's row lock, in one round trip each: a request holds the lock and
-- its connection for one exchange where it would be five, and costs a third less processor time (bench/README.md).
-- They are VOLATILE, so each statement in them sees what was committed before it, all that came before the lock included.
-- All they look at is found by key. Without statistics, as in the first minutes of a new database, the planner takes
-- the tables for tiny and reads them whole, and a function keeps that plan: so it is told not to.

CREATE FUNCTION lock_test_case(case_id UUID, callers_project UUID) RETURNS UUID LANGUAGE plpgsql AS $$
DECLARE
    its_project UUID;
BEGIN
    SELECT project_id INTO its_project FROM test_case_results
    WHERE id = $1 AND ($2 IS NULL OR project_id = $2)
    FOR NO KEY UPDATE;
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
