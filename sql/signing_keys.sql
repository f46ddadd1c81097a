-- name: by_purpose
SELECT key FROM signing_keys WHERE purpose = $1

-- name: make
-- When several servers create the key at once, the first insert wins, and all of them use it.
INSERT INTO signing_keys (purpose, key) VALUES ($1, $2) ON CONFLICT DO NOTHING
