-- name: schema_versions
SELECT migration_id FROM _yoyo_migration
