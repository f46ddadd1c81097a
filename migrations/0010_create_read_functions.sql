-- depends: 0009_create_write_functions

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
