-- name: id
SELECT id FROM storage_folder

-- name: adopt
-- Of several servers that start first, one decides.
INSERT INTO storage_folder (id) VALUES ($1) ON CONFLICT DO NOTHING

-- name: in_use
SELECT EXISTS (SELECT 1 FROM test_artifacts)
