-- name: project_of
-- None when there is no such thing, or the caller may not see it.
SELECT c.project_id FROM test_artifacts a JOIN test_case_results c ON c.id = a.test_case_result_id
WHERE a.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: duplicates
-- What is already there of what is sent now.
SELECT dedupe_key, id, test_case_result_id, step_result_id, artifact_type, artifact_category, step_number,
       iteration_number, file_name, file_size, mime_type, checksum, 'artifacts/' || storage_path AS storage_path,
       description, '/api/v1/reports/artifacts/' || id || '/download' AS download_url,
       captured_at, uploaded_at, created_at
FROM test_artifacts
WHERE test_case_result_id = $1 AND dedupe_key = ANY($2::bytea[])

-- name: lock
-- Takes the test case, as steps.insert_many does, and gives what must be known before files get their names: which files
-- are there already, and which names a row has, or had until lately (a new file of such a name could be unlinked in its
-- place). A path holds its test case's id, so only that one's rows can have it. Nothing when another writer came between.
WITH seen AS (
    SELECT id, xmin AS version FROM test_case_results WHERE id = $1 AND ($2::uuid IS NULL OR project_id = $2)
), target AS (
    UPDATE test_case_results c SET updated_at = c.updated_at FROM seen
    WHERE c.id = seen.id AND c.xmin = seen.version
    RETURNING c.project_id
)
SELECT project_id,
       ARRAY(SELECT dedupe_key FROM test_artifacts
             WHERE test_case_result_id = $1 AND dedupe_key = ANY($3::bytea[])) AS known,
       ARRAY(SELECT storage_path FROM test_artifacts WHERE test_case_result_id = $1 AND storage_path = ANY($4::text[])
             UNION ALL
             SELECT storage_path FROM removed_files WHERE storage_path = ANY($4::text[])) AS taken,
       EXISTS (SELECT FROM test_step_results WHERE test_case_result_id = $1) AS has_steps
FROM target

-- name: insert_many
-- Each belongs to the step of its number at once; what else that changes is decided by steps.link.
INSERT INTO test_artifacts (
    id, test_case_result_id, step_result_id, artifact_type, artifact_category, step_number, iteration_number,
    file_name, file_size, mime_type, checksum, storage_path, description, dedupe_key, captured_at)
SELECT n.id, $1, s.id, n.artifact_type, n.artifact_category, n.step_number, n.iteration_number,
       n.file_name, n.file_size, n.mime_type, n.checksum, n.storage_path, n.description,
       decode(n.dedupe_key, 'hex'), n.captured_at
FROM json_to_recordset($2::json) AS n(
    id uuid, artifact_type text, artifact_category text, step_number int, iteration_number int, file_name text,
    file_size bigint, mime_type text, checksum text, storage_path text, description text, dedupe_key text,
    captured_at timestamptz)
LEFT JOIN test_step_results s ON s.test_case_result_id = $1
    AND s.iteration_number = n.iteration_number AND s.step_number = n.step_number
ORDER BY n.id
RETURNING dedupe_key, id, test_case_result_id, step_result_id, artifact_type, artifact_category, step_number,
          iteration_number, file_name, file_size, mime_type, checksum, 'artifacts/' || storage_path AS storage_path,
          description, '/api/v1/reports/artifacts/' || id || '/download' AS download_url,
          captured_at, uploaded_at, created_at

-- name: by_id
SELECT a.id, a.test_case_result_id, a.step_result_id, a.artifact_type, a.artifact_category, a.step_number,
       a.iteration_number, a.file_name, a.file_size, a.mime_type, a.checksum,
       'artifacts/' || a.storage_path AS storage_path, a.description,
       '/api/v1/reports/artifacts/' || a.id || '/download' AS download_url,
       a.captured_at, a.uploaded_at, a.created_at
FROM test_artifacts a JOIN test_case_results c ON c.id = a.test_case_result_id
WHERE a.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: count_for_case
-- One row when the test case exists and the caller may see it, else none.
SELECT (SELECT count(*) FROM test_artifacts a
        WHERE a.test_case_result_id = c.id
          AND ($3::text IS NULL OR a.artifact_type = $3)
          AND ($4::int IS NULL OR a.step_number = $4)
          AND ($5::int IS NULL OR a.iteration_number = $5)
          AND ($6::text IS NULL OR a.artifact_category = $6)) AS total
FROM test_case_results c WHERE c.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: for_case
SELECT id, test_case_result_id, step_result_id, artifact_type, artifact_category, step_number,
       iteration_number, file_name, file_size, mime_type, checksum, 'artifacts/' || storage_path AS storage_path,
       description, '/api/v1/reports/artifacts/' || id || '/download' AS download_url,
       captured_at, uploaded_at, created_at
FROM test_artifacts
WHERE test_case_result_id = $1
  AND ($2::text IS NULL OR artifact_type = $2)
  AND ($3::int IS NULL OR step_number = $3)
  AND ($4::int IS NULL OR iteration_number = $4)
  AND ($5::text IS NULL OR artifact_category = $5)
  AND ($6::text IS NULL OR starts_with(mime_type, $6))
ORDER BY iteration_number, step_number NULLS FIRST, id
LIMIT $7 OFFSET $8

-- name: for_download
SELECT a.storage_path, a.file_name, a.file_size, a.mime_type, a.checksum
FROM test_artifacts a JOIN test_case_results c ON c.id = a.test_case_result_id
WHERE a.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: bytes_since
-- Ids begin with their time: one range of the primary key.
SELECT coalesce(sum(file_size), 0)::bigint AS bytes FROM test_artifacts WHERE id >= $1

-- name: case_of
-- Which test case an artifact belongs to, if the caller may see it, and what is noted of its end.
SELECT a.test_case_result_id, a.file_name, c.project_id
FROM test_artifacts a JOIN test_case_results c ON c.id = a.test_case_result_id
WHERE a.id = $1 AND ($2::uuid IS NULL OR c.project_id = $2)

-- name: delete
-- The row goes, its file is noted for removal, in one statement.
WITH gone AS (
    DELETE FROM test_artifacts WHERE id = $1 RETURNING storage_path, checksum, test_case_result_id
)
INSERT INTO removed_files (storage_path, checksum, project_id)
SELECT g.storage_path, g.checksum, c.project_id
FROM gone g JOIN test_case_results c ON c.id = g.test_case_result_id
RETURNING storage_path, project_id, checksum

-- name: remove_of_run
-- Notes every file of a run for removal, before the run's rows go, and gives the first $2 of them.
WITH noted AS (
    INSERT INTO removed_files (storage_path, checksum, project_id)
    SELECT a.storage_path, a.checksum, c.project_id
    FROM test_artifacts a JOIN test_case_results c ON c.id = a.test_case_result_id
    WHERE c.suite_run_id = $1
    RETURNING storage_path, project_id, checksum
)
SELECT storage_path, project_id, checksum FROM noted ORDER BY storage_path LIMIT $2

-- name: removed
-- A portion of the files to unlink, those after a name. Locked, so that two processes rarely work on the same.
SELECT storage_path, project_id, checksum FROM removed_files
WHERE unlinked_at IS NULL AND storage_path > $1
ORDER BY storage_path LIMIT $2 FOR UPDATE SKIP LOCKED

-- name: mark_unlinked
UPDATE removed_files SET unlinked_at = CURRENT_TIMESTAMP WHERE storage_path = ANY($1::text[])

-- name: sweep_removed
-- Bounded, so that no sweep holds many rows at once.
DELETE FROM removed_files WHERE storage_path IN (
    SELECT storage_path FROM removed_files
    WHERE unlinked_at < CURRENT_TIMESTAMP - INTERVAL '1 day' LIMIT 1000)
