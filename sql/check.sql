-- name: state
-- Read first: the applied migrations, and an estimate of the number of artifacts for the progress display.
SELECT (SELECT array_agg(migration_id::text) FROM _yoyo_migration) AS versions,
       (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'test_artifacts'::regclass) AS estimate

-- name: lock
-- Whether no other check removes files, on any host. The lock ends with the transaction.
SELECT pg_try_advisory_xact_lock($1)

-- name: portion
-- Artifacts in the order of their paths, so that the check reads one folder after the other.
SELECT id, test_case_result_id, storage_path, file_size, checksum FROM test_artifacts
WHERE storage_path > $1 ORDER BY storage_path LIMIT $2

-- name: projects
SELECT id, project_id FROM test_case_results WHERE id = ANY($1::uuid[])

-- name: still_there
-- Run after a file looked wrong: a DELETE may have removed the artifact and its file meanwhile.
SELECT id FROM test_artifacts WHERE id = ANY($1::uuid[])

-- name: referenced
-- Which of these paths an artifact has, or a DELETE has queued for unlinking. One statement, so one snapshot: a DELETE
-- moves a path from one table to the other, and two statements could miss it in both.
SELECT storage_path FROM test_artifacts WHERE storage_path = ANY($1::text[])
UNION ALL
SELECT storage_path FROM removed_files WHERE storage_path = ANY($1::text[]) AND unlinked_at IS NULL

-- name: removals
-- The queue of files to unlink, in portions; is_held_up: the DELETE was committed more than $3 seconds ago, and no
-- backup runs, for whose end they wait (the lock of backup.hold_removals, whose key pg_locks shows in two halves).
SELECT storage_path, removed_at < CURRENT_TIMESTAMP - make_interval(secs => $3) AND NOT EXISTS (
           SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
           WHERE l.locktype = 'advisory' AND l.classid = 25185 AND l.objid = 1667986800 AND l.mode = 'ExclusiveLock'
       ) AS is_held_up
FROM removed_files
WHERE unlinked_at IS NULL AND storage_path > $1
ORDER BY storage_path LIMIT $2

-- name: locked_cases
-- Which of these test cases another transaction has locked. An upload locks its test case before it links a file to its
-- final path, and until its rows are committed. FOR SHARE conflicts with the lock of every writer of the test case; the
-- locks taken here end with this statement.
WITH unlocked AS (
    SELECT id FROM test_case_results WHERE id = ANY($1::uuid[]) FOR SHARE SKIP LOCKED
)
SELECT id FROM test_case_results WHERE id = ANY($1::uuid[]) EXCEPT SELECT id FROM unlocked

-- name: save
-- The result, for the pages. Only of the last check.
INSERT INTO storage_checks (exit_code, summary) VALUES ($1, $2::text::jsonb)
ON CONFLICT (one) DO UPDATE SET finished_at = CURRENT_TIMESTAMP, exit_code = EXCLUDED.exit_code,
                                summary = EXCLUDED.summary

-- name: last
SELECT finished_at, exit_code, summary FROM storage_checks
