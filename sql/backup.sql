-- `reportd backup` and `reportd restore`. The number in the first two queries is `backup` in ASCII.

-- name: hold_removals
-- No server unlinks a file until this transaction ends. Waits for those that are unlinking now. DELETE requests go on:
-- they delete rows, and their files wait in removed_files.
SELECT pg_advisory_xact_lock(108170419336560)

-- name: may_unlink
-- False while a backup runs: its dump may have the rows of these files. Held until the files are unlinked.
SELECT pg_try_advisory_xact_lock_shared(108170419336560)

-- name: snapshot
-- Read in the snapshot that the dump then uses. `backend`: differs from the connection's own when a pooler is between.
SELECT pg_export_snapshot() AS id, pg_backend_pid() AS backend, date_trunc('second', now()) AS taken_at,
       (SELECT id FROM storage_folder) AS storage_id,
       ARRAY(SELECT migration_id::text FROM _yoyo_migration ORDER BY 1) AS migrations,
       (SELECT count(*) FROM suite_runs) AS suite_runs,
       (SELECT count(*) FROM test_case_results) AS test_case_results,
       (SELECT count(*) FROM test_step_results) AS test_step_results,
       (SELECT count(*) FROM test_artifacts) AS test_artifacts

-- name: files
-- Equal contents together, as in the folder of the backup, and those of a project, which share their disk space.
SELECT a.checksum, a.file_size, c.project_id, a.storage_path
FROM test_artifacts a JOIN test_case_results c ON c.id = a.test_case_result_id
ORDER BY a.checksum COLLATE "C", c.project_id, a.storage_path COLLATE "C"

-- name: still_there
-- Which of these artifacts, by path and checksum, the database has.
SELECT a.storage_path FROM unnest($1::text[], $2::text[]) AS listed (storage_path, checksum)
JOIN test_artifacts a ON a.storage_path = listed.storage_path AND a.checksum = listed.checksum

-- name: target
-- What a restore would replace, and who else uses the database.
SELECT pg_backend_pid() AS backend,
       (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND n.nspname = 'public') AS tables,
       (SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
          AND coalesce(backend_type, 'client backend') = 'client backend') AS others

-- name: drop_schema
DROP SCHEMA public CASCADE

-- name: create_schema
CREATE SCHEMA public

-- name: open_schema
-- As PostgreSQL creates it.
GRANT USAGE ON SCHEMA public TO PUBLIC

-- name: analyze
-- A dump has no statistics: without them, the first hours would have slow plans.
ANALYZE
