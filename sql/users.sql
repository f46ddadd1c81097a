-- name: for_login
-- Always one row, without an id for a name that is not there; also of somebody disabled: the answer takes as long.
-- Which names are the same is said here alone, by `account`: Python's lower() has another opinion of one letter.
SELECT u.id, u.name, u.password_hash, u.disabled_at IS NOT NULL AS disabled, asked.account
FROM (SELECT lower($1) AS account) AS asked LEFT JOIN users u ON lower(u.name) = asked.account

-- name: set_password
UPDATE users SET password_hash = $2 WHERE id = $1

-- name: touch
-- At most one write a minute and person, whatever the traffic.
UPDATE users SET last_seen_at = CURRENT_TIMESTAMP
WHERE id = $1 AND (last_seen_at IS NULL OR last_seen_at < CURRENT_TIMESTAMP - INTERVAL '1 minute')

-- name: create
INSERT INTO users (id, name, password_hash) VALUES ($1, $2, $3)

-- name: find
-- Locked: what is changed of a person is changed by one command at a time.
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
