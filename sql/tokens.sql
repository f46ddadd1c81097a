-- name: by_hash
-- Who is calling. The names travel along, so that replies, checks and the log need no second look.
SELECT t.id, t.name, t.project_id, p.name AS project, t.collection_shape, t.expires_at
FROM tokens t LEFT JOIN projects p ON p.id = t.project_id
WHERE t.token_hash = $1 AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > CURRENT_TIMESTAMP)

-- name: by_session
-- The same, for the cookie of a browser: it lives no longer than its token.
SELECT t.id, t.name, t.project_id, p.name AS project, t.collection_shape,
       LEAST(t.expires_at, s.expires_at) AS expires_at
FROM sessions s JOIN tokens t ON t.id = s.token_id LEFT JOIN projects p ON p.id = t.project_id
WHERE s.session_hash = $1 AND s.expires_at > CURRENT_TIMESTAMP
  AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > CURRENT_TIMESTAMP)

-- name: touch
-- At most one write a minute and token, whatever the traffic.
UPDATE tokens SET last_used_at = CURRENT_TIMESTAMP
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < CURRENT_TIMESTAMP - INTERVAL '1 minute')

-- name: create
INSERT INTO tokens (id, name, token_hash, project_id, collection_shape, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)

-- name: all
SELECT t.id, t.name, p.name AS project, t.collection_shape, t.created_at, t.last_used_at, t.expires_at, t.revoked_at
FROM tokens t LEFT JOIN projects p ON p.id = t.project_id
ORDER BY t.created_at, t.id

-- name: revoke
-- By id or by name; the row stays, so that old entries can still be told apart.
UPDATE tokens SET revoked_at = CURRENT_TIMESTAMP
WHERE revoked_at IS NULL AND (id::text = $1 OR name = $1)
RETURNING id, name

-- name: create_session
INSERT INTO sessions (session_hash, token_id, expires_at) VALUES ($1, $2, $3)

-- name: sweep_sessions
DELETE FROM sessions WHERE session_hash IN (
    SELECT session_hash FROM sessions WHERE expires_at < CURRENT_TIMESTAMP LIMIT 1000)

-- name: known
-- Also a revoked one: what was revoked is not made again.
SELECT 1 FROM tokens WHERE token_hash = $1
