-- name: by_hash
-- The caller with this secret: a token's current secret, or a former one until its overlap ends. Includes names and
-- role, so that replies, access checks and the log need no second query.
SELECT 'token' AS kind, t.id, t.name, t.collection_shape, LEAST(t.expires_at, secret.expires_at) AS expires_at,
       ARRAY[t.project_id::text] AS project_ids, ARRAY[p.name::text] AS projects, ARRAY[t.role::text] AS roles
FROM (SELECT id AS token_id, NULL::timestamptz AS expires_at FROM tokens WHERE token_hash = $1
      UNION ALL
      SELECT token_id, expires_at FROM former_secrets WHERE secret_hash = $1 AND expires_at > CURRENT_TIMESTAMP
     ) AS secret
JOIN tokens t ON t.id = secret.token_id LEFT JOIN projects p ON p.id = t.project_id
WHERE t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > CURRENT_TIMESTAMP)

-- name: touch
-- At most one write per minute and token, however many requests it sends.
UPDATE tokens SET last_used_at = CURRENT_TIMESTAMP
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < CURRENT_TIMESTAMP - INTERVAL '1 minute')

-- name: create
INSERT INTO tokens (id, name, token_hash, role, project_id, collection_shape, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: exchange
-- The token of a CI subject and project ($6), made if it is missing, gets one more secret ($7), which works until $8.
WITH found AS (
    INSERT INTO tokens (id, name, token_hash, role, project_id, subject_hash) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (subject_hash) WHERE revoked_at IS NULL AND subject_hash IS NOT NULL
    DO UPDATE SET name = EXCLUDED.name
    RETURNING id
)
INSERT INTO former_secrets (secret_hash, token_id, expires_at) SELECT $7, id, $8 FROM found
RETURNING token_id

-- name: sweep
-- Secrets that CI jobs got. Those of other tokens stay: `known` looks for them.
DELETE FROM former_secrets WHERE secret_hash IN (
    SELECT f.secret_hash FROM former_secrets f JOIN tokens t ON t.id = f.token_id
    WHERE t.subject_hash IS NOT NULL AND f.expires_at < CURRENT_TIMESTAMP LIMIT 1000)

-- name: all
SELECT t.id, t.name, p.name AS project, t.role, t.collection_shape, t.created_at, t.last_used_at, t.expires_at,
       t.revoked_at, t.subject_hash IS NOT NULL AS of_ci,
       (SELECT max(f.expires_at) FROM former_secrets f
        WHERE f.token_id = t.id AND f.expires_at > CURRENT_TIMESTAMP) AS former_until
FROM tokens t LEFT JOIN projects p ON p.id = t.project_id
ORDER BY t.created_at, t.id

-- name: revoke
-- By id, else by name: a token may have another token's id as its name. The row stays, so that old audit entries can
-- still be attributed to it.
UPDATE tokens SET revoked_at = CURRENT_TIMESTAMP
WHERE id = (SELECT id FROM tokens WHERE revoked_at IS NULL AND (id::text = $1 OR name = $1)
            ORDER BY id::text = $1 DESC LIMIT 1)
RETURNING id, name, project_id

-- name: rotate
-- By id, else by name: sets a new secret ($2), and a new expiry if $4 is given. All former secrets and the token's
-- sessions stay valid for at most $3. Not a token of CI jobs: its secret would not end after 15 minutes. The token's id stays, and with it its Idempotency-Keys.
WITH rotated AS (
    SELECT id, token_hash, CURRENT_TIMESTAMP + $3::interval AS overlap_end, expires_at FROM tokens
    WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > CURRENT_TIMESTAMP) AND subject_hash IS NULL
      AND (id::text = $1 OR name = $1)
    ORDER BY id::text = $1 DESC LIMIT 1
    FOR UPDATE
), earlier AS (
    UPDATE former_secrets f SET expires_at = LEAST(f.expires_at, r.overlap_end) FROM rotated r WHERE f.token_id = r.id
), former AS (
    INSERT INTO former_secrets (secret_hash, token_id, expires_at)
    SELECT token_hash, id, LEAST(expires_at, overlap_end) FROM rotated
), shortened AS (
    UPDATE sessions s SET expires_at = LEAST(s.expires_at, r.overlap_end) FROM rotated r WHERE s.token_id = r.id
)
UPDATE tokens t SET token_hash = $2, expires_at = COALESCE($4, t.expires_at)
FROM rotated r WHERE t.id = r.id
RETURNING t.id, t.name, t.project_id, r.token_hash AS former_hash, LEAST(r.expires_at, r.overlap_end) AS former_until

-- name: known
-- Includes revoked tokens and former secrets: otherwise `reportd up` would create a revoked token again.
SELECT 1 FROM tokens WHERE token_hash = $1 UNION ALL SELECT 1 FROM former_secrets WHERE secret_hash = $1

-- name: page
-- Newest first: of one project ($1), or all (NULL). Ids sort by time (UUIDv7): $2 is the last id of the previous page.
SELECT t.id, t.name, p.name AS project, t.role, t.created_at, t.last_used_at, t.expires_at, t.revoked_at,
       (SELECT max(f.expires_at) FROM former_secrets f
        WHERE f.token_id = t.id AND f.expires_at > CURRENT_TIMESTAMP) AS former_until,
       t.subject_hash IS NOT NULL AS of_ci
FROM tokens t LEFT JOIN projects p ON p.id = t.project_id
WHERE ($1::uuid IS NULL OR t.project_id = $1) AND ($2::uuid IS NULL OR t.id < $2)
ORDER BY t.id DESC
LIMIT $3

-- name: one
-- The row that `page` has for a token of the projects $2 (NULL: of any, or for all).
SELECT t.id, t.name, p.name AS project, t.role, t.created_at, t.last_used_at, t.expires_at, t.revoked_at,
       (SELECT max(f.expires_at) FROM former_secrets f
        WHERE f.token_id = t.id AND f.expires_at > CURRENT_TIMESTAMP) AS former_until,
       t.subject_hash IS NOT NULL AS of_ci
FROM tokens t LEFT JOIN projects p ON p.id = t.project_id
WHERE t.id = $1 AND ($2::uuid[] IS NULL OR t.project_id = ANY($2))
