-- name: for_login
-- Always one row, even for an unknown or disabled user: otherwise the response time would reveal which users exist.
-- `account` is the name in PostgreSQL's lower(), by which names are unique: Python's lower() gives other results.
SELECT sent.account, u.id, u.name, u.password_hash, u.disabled_at IS NOT NULL AS disabled
FROM (SELECT lower($1::text) AS account) AS sent LEFT JOIN users u ON lower(u.name) = sent.account

-- name: set_password
UPDATE users SET password_hash = $2 WHERE id = $1

-- name: touch
-- At most one write per minute and user, however many requests are sent.
UPDATE users SET last_seen_at = CURRENT_TIMESTAMP
WHERE id = $1 AND (last_seen_at IS NULL OR last_seen_at < CURRENT_TIMESTAMP - INTERVAL '1 minute')

-- name: create
INSERT INTO users (id, name, password_hash) VALUES ($1, $2, $3)

-- name: find
-- By id, else by name. Locked, so that only one command at a time changes a user.
SELECT id, name, disabled_at FROM users WHERE id::text = $1 OR lower(name) = lower($1)
ORDER BY id::text = $1 DESC LIMIT 1
FOR UPDATE

-- name: disable
UPDATE users SET disabled_at = COALESCE(disabled_at, CURRENT_TIMESTAMP) WHERE id = $1

-- name: enable
UPDATE users SET disabled_at = NULL WHERE id = $1

-- name: forget_roles
DELETE FROM user_roles WHERE user_id = $1

-- name: add_role
INSERT INTO user_roles (user_id, project_id, role) VALUES ($1, $2, $3)

-- name: all
SELECT u.id, u.name, u.created_at, u.last_seen_at, u.disabled_at,
       (SELECT array_agg(COALESCE(p.name || '=', '') || r.role::text ORDER BY p.name NULLS FIRST)
        FROM user_roles r LEFT JOIN projects p ON p.id = r.project_id WHERE r.user_id = u.id) AS roles
FROM users u
ORDER BY u.created_at, u.id
