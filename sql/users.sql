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

-- name: by_subject
-- Who signs in at a provider. Locked, so that two sign-ins at once do not both give roles.
SELECT id, name, disabled_at IS NOT NULL AS disabled, true AS by_provider FROM users WHERE subject_hash = $1
FOR UPDATE

-- name: create_by_subject
-- No row if the name is taken, or if another sign-in of the same person was faster.
INSERT INTO users (id, name, subject_hash) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING id

-- name: find
-- By id, else by name. Locked, so that only one command at a time changes a user.
SELECT id, name, disabled_at IS NOT NULL AS disabled, subject_hash IS NOT NULL AS by_provider
FROM users WHERE id::text = $1 OR lower(name) = lower($1)
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

-- name: roles_of
SELECT r.project_id, p.name AS project, r.role FROM user_roles r LEFT JOIN projects p ON p.id = r.project_id
WHERE r.user_id = $1 ORDER BY p.name NULLS FIRST

-- name: all
SELECT u.id, u.name, u.created_at, u.last_seen_at, u.disabled_at, u.subject_hash IS NOT NULL AS by_provider,
       (SELECT array_agg(COALESCE(p.name || '=', '') || r.role::text ORDER BY p.name NULLS FIRST)
        FROM user_roles r LEFT JOIN projects p ON p.id = r.project_id WHERE r.user_id = u.id) AS roles
FROM users u
ORDER BY u.created_at, u.id

-- name: page
-- Newest first: everybody, or those with a role in the projects $1. `roles` are those there, `elsewhere` says whether
-- there are others. Ids sort by time (UUIDv7): $2 is the last id of the previous page.
SELECT u.id, u.name, u.created_at, u.last_seen_at, u.disabled_at, u.subject_hash IS NOT NULL AS by_provider,
       ARRAY(SELECT COALESCE(p.name || '=', '') || r.role FROM user_roles r LEFT JOIN projects p ON p.id = r.project_id
             WHERE r.user_id = u.id AND ($1::uuid[] IS NULL OR r.project_id = ANY($1))
             ORDER BY p.name NULLS FIRST) AS roles,
       $1::uuid[] IS NOT NULL AND EXISTS (
           SELECT FROM user_roles r WHERE r.user_id = u.id AND (r.project_id = ANY($1)) IS NOT TRUE) AS elsewhere
FROM users u
WHERE ($1::uuid[] IS NULL OR EXISTS (SELECT FROM user_roles r WHERE r.user_id = u.id AND r.project_id = ANY($1)))
  AND ($2::uuid IS NULL OR u.id < $2)
ORDER BY u.id DESC
LIMIT $3

-- name: one
-- The row that `page` has for a person.
SELECT u.id, u.name, u.created_at, u.last_seen_at, u.disabled_at, u.subject_hash IS NOT NULL AS by_provider,
       ARRAY(SELECT COALESCE(p.name || '=', '') || r.role FROM user_roles r LEFT JOIN projects p ON p.id = r.project_id
             WHERE r.user_id = u.id AND ($2::uuid[] IS NULL OR r.project_id = ANY($2))
             ORDER BY p.name NULLS FIRST) AS roles,
       $2::uuid[] IS NOT NULL AND EXISTS (
           SELECT FROM user_roles r WHERE r.user_id = u.id AND (r.project_id = ANY($2)) IS NOT TRUE) AS elsewhere
FROM users u
WHERE u.id = $1
  AND ($2::uuid[] IS NULL OR EXISTS (SELECT FROM user_roles r WHERE r.user_id = u.id AND r.project_id = ANY($2)))
