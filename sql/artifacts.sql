-- name: project_of
-- No row when the artifact does not exist or is not in the caller's project ($2; NULL is every project).
SELECT c.project_id FROM test_artifacts a JOIN test_case_results c ON c.id = a.test_case_result_id
WHERE a.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: duplicates
-- text_encoding: rows of older versions have none, and all their text is UTF-8.
-- The artifacts of the test case that were uploaded before: the same dedupe key as a file of this request.
SELECT dedupe_key, id, test_case_result_id, step_result_id, artifact_type, artifact_category, step_number,
       iteration_number, file_name, file_size, mime_type,
       coalesce(text_encoding, CASE WHEN mime_type ~ '^text/|/json$' THEN 'utf-8' END) AS text_encoding,
       checksum, 'artifacts/' || storage_path AS storage_path,
       description, '/api/v1/reports/artifacts/' || id || '/download' AS download_url,
       captured_at, uploaded_at, created_at
FROM test_artifacts
WHERE test_case_result_id = $1 AND dedupe_key = ANY($2::bytea[])

-- name: lock
-- Locks the test case like steps.insert_many. Returns which dedupe keys exist, and which paths are in use. A path in
-- removed_files is in use, too: a delayed unlink would delete the new file. Paths contain the test case's id, so only
-- its own rows can have them. `expected`: whether expected_artifacts.delete_arrived must follow. One row for each step
-- with a number in $5 or a name in $6, as in steps.matching; one without a step when there is none. No row when another
-- writer committed while this waited: then the caller locks with test_cases.lock and runs this again.
-- The sub-selects around $5 and $6 hide their lengths: for short arrays, PostgreSQL would expect less than from a plan
-- for any values, and plan this anew each time. OFFSET 0: while there are few artifacts, it would read all for a hash
-- join, and keep that plan while they become many.
WITH seen AS (
    SELECT id, xmin AS version FROM test_case_results WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2)
), target AS (
    UPDATE test_case_results c SET updated_at = c.updated_at FROM seen
    WHERE c.id = seen.id AND c.xmin = seen.version
    RETURNING c.project_id
)
SELECT target.project_id,
       ARRAY(SELECT dedupe_key FROM test_artifacts
             WHERE test_case_result_id = $1 AND dedupe_key = ANY($3::bytea[])) AS known,
       ARRAY(SELECT storage_path FROM test_artifacts WHERE test_case_result_id = $1 AND storage_path = ANY($4::text[])
             UNION ALL
             SELECT storage_path FROM removed_files WHERE storage_path = ANY($4::text[])) AS taken,
       EXISTS (SELECT FROM expected_artifacts WHERE test_case_result_id = $1) AS expected,
       step.test_case_result_id, step.id, step.iteration_number, step.step_number, step.name, step.screenshot_pinned,
       shot.id AS shown, shot.iteration_number AS shown_iteration, shot.step_number AS shown_number,
       coalesce(shot.link_name, shot.file_name) AS shown_name, shot.artifact_category AS shown_category
FROM target
LEFT JOIN (SELECT *, CASE WHEN link_name[1] = screenshot_path THEN link_name[2]
                          ELSE regexp_replace(screenshot_path, '^.*[/\\]', '') END AS name
           FROM test_step_results WHERE test_case_result_id = $1) AS step
    ON step.step_number = ANY((SELECT $5::int[])::int[]) OR step.name = ANY((SELECT $6::text[])::text[])
LEFT JOIN LATERAL (SELECT * FROM test_artifacts WHERE id = step.screenshot_artifact_id OFFSET 0) AS shot ON true

-- name: insert_many
-- New artifacts ($1), and the steps that show them now ($2), each with its screenshot ($3). Returns when. Sub-selects as
-- in `lock`.
WITH shown AS (
    UPDATE test_step_results s SET screenshot_artifact_id = now.screenshot_id, updated_at = CURRENT_TIMESTAMP
    FROM unnest((SELECT $2::uuid[]), (SELECT $3::uuid[])) AS now(id, screenshot_id)
    WHERE s.id = now.id
)
INSERT INTO test_artifacts (
    id, test_case_result_id, step_result_id, artifact_type, artifact_category, step_number, iteration_number,
    file_name, file_size, mime_type, text_encoding, checksum, storage_path, description, dedupe_key, captured_at,
    link_name)
SELECT id, test_case_result_id, step_result_id, artifact_type, artifact_category, step_number, iteration_number,
       file_name, file_size, mime_type, text_encoding, checksum, storage_path, description, decode(dedupe_key, 'hex'),
       captured_at, link_name
FROM json_to_recordset($1::json) AS n(
    id uuid, test_case_result_id uuid, step_result_id uuid, artifact_type text, artifact_category text, step_number int,
    iteration_number int, file_name text, file_size bigint, mime_type text, text_encoding text, checksum text,
    storage_path text, description text, dedupe_key text, captured_at timestamptz, link_name text)
RETURNING created_at

-- name: by_id
SELECT a.id, a.test_case_result_id, a.step_result_id, a.artifact_type, a.artifact_category, a.step_number,
       a.iteration_number, a.file_name, a.file_size, a.mime_type,
       coalesce(a.text_encoding, CASE WHEN a.mime_type ~ '^text/|/json$' THEN 'utf-8' END) AS text_encoding, a.checksum,
       'artifacts/' || a.storage_path AS storage_path, a.description,
       '/api/v1/reports/artifacts/' || a.id || '/download' AS download_url,
       a.captured_at, a.uploaded_at, a.created_at
FROM test_artifacts a JOIN test_case_results c ON c.id = a.test_case_result_id
WHERE a.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: count_for_case
-- One row if the test case exists and the caller may see it, even when the count is 0. Otherwise no row: a 404.
SELECT (SELECT count(*) FROM test_artifacts a
        WHERE a.test_case_result_id = c.id
          AND ($3::text IS NULL OR a.artifact_type = $3)
          AND ($4::int IS NULL OR a.step_number = $4)
          AND ($5::int IS NULL OR a.iteration_number = $5)
          AND ($6::text IS NULL OR a.artifact_category = $6)) AS total
FROM test_case_results c WHERE c.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: for_case
-- A portion of the artifacts after iteration $7, step number $8 (-1: none) and id $9, as in logs.console_for_case. $6:
-- how their type must begin.
SELECT id, test_case_result_id, step_result_id, artifact_type, artifact_category, step_number,
       iteration_number, file_name, file_size, mime_type,
       coalesce(text_encoding, CASE WHEN mime_type ~ '^text/|/json$' THEN 'utf-8' END) AS text_encoding,
       checksum, 'artifacts/' || storage_path AS storage_path,
       description, '/api/v1/reports/artifacts/' || id || '/download' AS download_url,
       captured_at, uploaded_at, created_at, iteration_number AS last_iteration, of_step AS last_step, id AS last, bytes
FROM (SELECT *, row_number() OVER portion AS number,
             sum(1000 + coalesce(octet_length(description), 0)) OVER portion AS bytes
      FROM (SELECT *, coalesce(step_number, -1) AS of_step FROM test_artifacts
            WHERE test_case_result_id = $1
              AND ($2::text IS NULL OR artifact_type = $2)
              AND ($3::int IS NULL OR step_number = $3)
              AND ($4::int IS NULL OR iteration_number = $4)
              AND ($5::text IS NULL OR artifact_category = $5)
              AND ($6::text IS NULL OR starts_with(mime_type, $6))
              AND (iteration_number, coalesce(step_number, -1), id) > ($7, $8, $9)
            ORDER BY iteration_number, of_step, id LIMIT $10 OFFSET $11) AS page
      WINDOW portion AS (ORDER BY iteration_number, of_step, id ROWS UNBOUNDED PRECEDING)) AS artifact
WHERE bytes <= 1048576 OR number = 1
ORDER BY iteration_number, of_step, id

-- name: for_download
SELECT a.storage_path, a.file_name, a.file_size, a.mime_type,
       coalesce(a.text_encoding, CASE WHEN a.mime_type ~ '^text/|/json$' THEN 'utf-8' END) AS text_encoding, a.checksum,
       c.project_id
FROM test_artifacts a JOIN test_case_results c ON c.id = a.test_case_result_id
WHERE a.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: imported_at
-- When the run of an artifact was imported here, in Unix time. Its rows have the times of the server that it was on.
SELECT extract(epoch FROM max(e.created_at))::float8
FROM test_artifacts a
JOIN test_case_results c ON c.id = a.test_case_result_id
JOIN audit_entries e ON e.subject_id = c.suite_run_id AND e.action = 'suite_run.imported'
WHERE a.id = $1

-- name: case_of
-- The artifact's test case, if the caller may see it. Name and project are for the audit entry of its deletion.
SELECT a.test_case_result_id, a.file_name, c.project_id
FROM test_artifacts a JOIN test_case_results c ON c.id = a.test_case_result_id
WHERE a.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: delete
-- Deletes the row and queues its file for unlinking in one statement, so that a crash cannot lose track of the file.
WITH gone AS (
    DELETE FROM test_artifacts WHERE id = $1 RETURNING storage_path, checksum, test_case_result_id
)
INSERT INTO removed_files (storage_path, checksum, project_id)
SELECT g.storage_path, g.checksum, c.project_id
FROM gone g JOIN test_case_results c ON c.id = g.test_case_result_id
RETURNING storage_path, project_id, checksum

-- name: remove_of_run
-- Queues every file of a run for unlinking, before the run's rows are deleted. Returns the first $2 of them, which the
-- DELETE request unlinks itself.
WITH noted AS (
    INSERT INTO removed_files (storage_path, checksum, project_id)
    SELECT a.storage_path, a.checksum, c.project_id
    FROM test_artifacts a JOIN test_case_results c ON c.id = a.test_case_result_id
    WHERE c.suite_run_id = $1
    RETURNING storage_path, project_id, checksum
)
SELECT storage_path, project_id, checksum FROM noted ORDER BY storage_path LIMIT $2

-- name: queued
-- The next $2 files of the queue, after the path $1.
SELECT storage_path FROM removed_files WHERE unlinked_at IS NULL AND storage_path > $1 ORDER BY storage_path LIMIT $2

-- name: removed
-- Those of the files $1 that are still in the queue. Locked with SKIP LOCKED, so that two processes rarely work on the
-- same files.
SELECT storage_path, project_id, checksum FROM removed_files
WHERE unlinked_at IS NULL AND storage_path = ANY($1::text[]) ORDER BY storage_path FOR UPDATE SKIP LOCKED

-- name: mark_unlinked
-- The row stays for a day, so that no new file gets this path: a delayed process may still unlink it.
UPDATE removed_files SET unlinked_at = CURRENT_TIMESTAMP WHERE storage_path = ANY($1::text[])

-- name: sweep_removed
-- Deletes rows a day after their file was unlinked. LIMIT: otherwise one sweep could lock many rows at once.
DELETE FROM removed_files WHERE storage_path IN (
    SELECT storage_path FROM removed_files
    WHERE unlinked_at < CURRENT_TIMESTAMP - INTERVAL '1 day' LIMIT 1000)

-- name: of_result
-- A file of a result, for its page.
SELECT id, artifact_type, artifact_category, step_number, iteration_number, file_name, file_size, mime_type, checksum,
       left(description, 5001) AS description, captured_at, uploaded_at, storage_path,
       coalesce(text_encoding, CASE WHEN mime_type ~ '^text/|/json$' THEN 'utf-8' END) AS text_encoding
FROM test_artifacts WHERE id = $1 AND test_case_result_id = $2
