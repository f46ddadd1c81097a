-- name: state
-- Whether the database can be asked at all: its migrations, and about how many artifacts there are to go through.
SELECT (SELECT array_agg(migration_id::text) FROM _yoyo_migration) AS versions,
       (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'test_artifacts'::regclass) AS estimate

-- name: portion
-- Artifacts in the order of their files, so that one folder is looked at after the other.
SELECT id, test_case_result_id, storage_path, file_size, checksum FROM test_artifacts
WHERE storage_path > $1 ORDER BY storage_path LIMIT $2

-- name: projects
SELECT id, project_id FROM test_case_results WHERE id = ANY($1::uuid[])

-- name: still_there
SELECT id FROM test_artifacts WHERE id = ANY($1::uuid[])

-- name: referenced
-- Which of these files a row is for, or a DELETE has noted for removal; one snapshot, as a DELETE moves it from one
-- to the other.
SELECT storage_path, FALSE AS pending FROM test_artifacts WHERE storage_path = ANY($1::text[])
UNION ALL
SELECT storage_path, TRUE FROM removed_files WHERE storage_path = ANY($1::text[]) AND unlinked_at IS NULL

-- name: oldest_writer
-- For how many seconds the oldest transaction runs that may still commit rows of files that are there already. An
-- upload locks its test case, which takes a transaction id, before it names a file; a backup that only reads has none.
SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::float8 FROM pg_stat_activity
WHERE datname = current_database() AND backend_xid IS NOT NULL
