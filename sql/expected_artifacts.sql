-- name: insert_many
-- Files of results of run $1 that a bundle names and does not bring. Not those that have arrived before it. The caller
-- holds the locks of the results: otherwise a file could arrive between the look for it and the insert.
INSERT INTO expected_artifacts (test_case_result_id, checksum, file_name, suite_run_id, file_size, reason)
SELECT DISTINCT ON (n.test_case_result_id, n.checksum, n.file_name)
       n.test_case_result_id, n.checksum, n.file_name, $1::uuid, n.file_size, n.reason
FROM json_to_recordset($2::json) AS n(
    test_case_result_id uuid, checksum text, file_name text, file_size bigint, reason text)
WHERE NOT EXISTS (
    SELECT FROM test_artifacts a
    WHERE a.test_case_result_id = n.test_case_result_id
      AND (a.checksum = n.checksum OR (n.checksum = '' AND a.file_name = n.file_name)))
ORDER BY n.test_case_result_id, n.checksum, n.file_name
ON CONFLICT (test_case_result_id, checksum, file_name) DO UPDATE
SET reason = EXCLUDED.reason, file_size = EXCLUDED.file_size

-- name: delete_arrived
-- What has come to the result $1: the checksums $2 with the file names $3.
DELETE FROM expected_artifacts
WHERE test_case_result_id = $1 AND (checksum = ANY($2::text[]) OR (checksum = '' AND file_name = ANY($3::text[])))

-- name: of_run
-- At most $2 files. delete_arrived deletes the rows of what arrives; servers of older versions, which may still
-- run while this one is brought in, do not.
SELECT e.test_case_result_id, c.test_id, nullif(e.file_name, '') AS file_name, nullif(e.checksum, '') AS checksum,
       e.file_size, e.reason
FROM expected_artifacts e JOIN test_case_results c ON c.id = e.test_case_result_id
WHERE e.suite_run_id = $1 AND NOT EXISTS (
    SELECT FROM test_artifacts a
    WHERE a.test_case_result_id = e.test_case_result_id
      AND (a.checksum = e.checksum OR (e.checksum = '' AND a.file_name = e.file_name)))
ORDER BY e.test_case_result_id, e.file_name, e.checksum LIMIT $2
