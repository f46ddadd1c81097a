-- name: by_purpose
SELECT key FROM signing_keys WHERE purpose = $1

-- name: make
-- Of several servers that need it first, one decides.
INSERT INTO signing_keys (purpose, key) VALUES ($1, $2) ON CONFLICT DO NOTHING
