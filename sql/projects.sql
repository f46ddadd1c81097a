-- name: by_name
SELECT id FROM projects WHERE name = $1

-- name: ensure
-- The same project for the same name, however many ask at once; DO UPDATE so that a row always comes back.
INSERT INTO projects (id, name) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name
RETURNING id
