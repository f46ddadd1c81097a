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

-- name: page
-- Newest first, of the projects $1 (NULL: all). The first project's id does not have its time, so that the page begins
-- after the time of the project $2.
SELECT id, name, main_branch, created_at FROM projects
WHERE ($1::uuid[] IS NULL OR id = ANY($1))
  AND ($2::uuid IS NULL OR (created_at, id) < (SELECT b.created_at, b.id FROM projects b WHERE b.id = $2))
ORDER BY created_at DESC, id DESC
LIMIT $3

-- name: create
INSERT INTO projects (id, name, main_branch) VALUES ($1, $2, $3)

-- name: rename
UPDATE projects SET name = $2 WHERE id = $1
