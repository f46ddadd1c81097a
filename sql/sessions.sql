-- name: by_hash
-- The caller of a browser's session cookie, with the columns of tokens.by_hash. A token's session ends with the token.
-- A user who has no role any more gets no row.
SELECT 'token' AS kind, t.id, t.name, t.collection_shape, LEAST(t.expires_at, s.expires_at) AS expires_at,
       ARRAY[t.project_id::text] AS project_ids, ARRAY[p.name::text] AS projects, ARRAY[t.role::text] AS roles
FROM sessions s JOIN tokens t ON t.id = s.token_id LEFT JOIN projects p ON p.id = t.project_id
WHERE s.session_hash = $1 AND s.expires_at > CURRENT_TIMESTAMP
  AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > CURRENT_TIMESTAMP)
UNION ALL
SELECT 'person', u.id, u.name, NULL, s.expires_at,
       array_agg(r.project_id::text ORDER BY p.name), array_agg(p.name::text ORDER BY p.name),
       array_agg(r.role::text ORDER BY p.name)
FROM sessions s JOIN users u ON u.id = s.user_id
JOIN user_roles r ON r.user_id = u.id LEFT JOIN projects p ON p.id = r.project_id
WHERE s.session_hash = $1 AND s.expires_at > CURRENT_TIMESTAMP AND u.disabled_at IS NULL
GROUP BY u.id, s.session_hash

-- name: create_for_token
-- $4 is the hash of the secret that starts the session. The session must not outlive the token, nor a former secret of
-- a rotated token.
INSERT INTO sessions (session_hash, token_id, expires_at)
SELECT $1, t.id, LEAST($3, t.expires_at, (SELECT f.expires_at FROM former_secrets f WHERE f.secret_hash = $4))
FROM tokens t WHERE t.id = $2
RETURNING expires_at

-- name: create_for_user
-- Only if the user is enabled and still has the password hash that was checked ($4): both may have changed since. The
-- row lock keeps them as they are until the commit.
INSERT INTO sessions (session_hash, user_id, expires_at)
SELECT $1, u.id, $3 FROM users u WHERE u.id = $2 AND u.disabled_at IS NULL AND u.password_hash = $4
FOR NO KEY UPDATE
RETURNING session_hash

-- name: create_by_subject
-- Of a person who has come back from a provider, and whose row is locked.
INSERT INTO sessions (session_hash, user_id, expires_at) VALUES ($1, $2, $3)

-- name: delete
DELETE FROM sessions WHERE session_hash = $1

-- name: delete_for_user
DELETE FROM sessions WHERE user_id = $1

-- name: sweep
-- LIMIT: otherwise one sweep could lock many rows at once.
DELETE FROM sessions WHERE session_hash IN (
    SELECT session_hash FROM sessions WHERE expires_at < CURRENT_TIMESTAMP LIMIT 1000)
