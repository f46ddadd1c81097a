-- name: by_name
SELECT id FROM projects WHERE name = $1

-- name: ensure
-- Concurrent calls with the same name get the same project. DO NOTHING would return no row for a name that exists; DO
-- UPDATE always returns one.
INSERT INTO projects (id, name) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name
RETURNING id

-- name: all
SELECT id, name, main_branch, created_at FROM projects ORDER BY name

-- name: set_main_branch
-- No row when no project has this name.
UPDATE projects SET main_branch = $2 WHERE name = $1 RETURNING id

-- name: visible
-- The projects ($1; NULL: all), by name.
SELECT id, name FROM projects WHERE $1::uuid[] IS NULL OR id = ANY($1) ORDER BY name LIMIT 500

-- name: named
-- These projects ($1; NULL: all) and their names.
SELECT id, name FROM projects WHERE $1::uuid[] IS NULL OR id = ANY($1) ORDER BY name

-- name: by_id
SELECT name, main_branch FROM projects WHERE id = $1
