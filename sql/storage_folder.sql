-- name: id
SELECT id FROM storage_folder

-- name: adopt
-- When several servers start for the first time at once, the first insert wins, and all of them use its id.
INSERT INTO storage_folder (id) VALUES ($1) ON CONFLICT DO NOTHING

-- name: in_use
-- If there are artifacts, a folder without a marker is the wrong one or not mounted: no marker may be written then.
SELECT EXISTS (SELECT 1 FROM test_artifacts)
