-- name: insert
INSERT INTO audit_entries (id, created_at, action, actor_kind, actor_id, actor_name, project_id,
                           subject_kind, subject_id, subject_name, remote, request_id, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

-- name: page
-- Newest first. Ids sort by time (UUIDv7): $2 is the last id of the previous page, $6 and $7 are the lowest ids of the
-- times `since` and `until`.
SELECT e.id, e.created_at, e.action, e.actor_kind, e.actor_id, e.actor_name, e.project_id, p.name AS project,
       e.subject_kind, e.subject_id, e.subject_name, e.remote, e.request_id, e.detail
FROM audit_entries e LEFT JOIN projects p ON p.id = e.project_id
WHERE ($1::uuid IS NULL OR e.project_id = $1)
  AND ($2::uuid IS NULL OR e.id < $2)
  AND ($3::text IS NULL OR e.action = $3)
  AND ($4::text IS NULL OR e.actor_name = $4)
  AND ($5::uuid IS NULL OR e.subject_id = $5)
  AND ($6::uuid IS NULL OR e.id >= $6)
  AND ($7::uuid IS NULL OR e.id < $7)
ORDER BY e.id DESC
LIMIT $8

-- name: page_of_action
-- As `page`, for an action: by its index, whatever plan is cached. A rare action is among millions of entries.
SELECT e.id, e.created_at, e.action, e.actor_kind, e.actor_id, e.actor_name, e.project_id, p.name AS project,
       e.subject_kind, e.subject_id, e.subject_name, e.remote, e.request_id, e.detail
FROM audit_entries e LEFT JOIN projects p ON p.id = e.project_id
WHERE ($1::uuid IS NULL OR e.project_id = $1)
  AND ($2::uuid IS NULL OR e.id < $2)
  AND e.action = $3
  AND ($4::text IS NULL OR e.actor_name = $4)
  AND ($5::uuid IS NULL OR e.subject_id = $5)
  AND ($6::uuid IS NULL OR e.id >= $6)
  AND ($7::uuid IS NULL OR e.id < $7)
ORDER BY e.id DESC
LIMIT $8

-- name: page_of_actor
-- As `page`, for the name of an actor: by its index.
SELECT e.id, e.created_at, e.action, e.actor_kind, e.actor_id, e.actor_name, e.project_id, p.name AS project,
       e.subject_kind, e.subject_id, e.subject_name, e.remote, e.request_id, e.detail
FROM audit_entries e LEFT JOIN projects p ON p.id = e.project_id
WHERE ($1::uuid IS NULL OR e.project_id = $1)
  AND ($2::uuid IS NULL OR e.id < $2)
  AND ($3::text IS NULL OR e.action = $3)
  AND e.actor_name = $4
  AND ($5::uuid IS NULL OR e.subject_id = $5)
  AND ($6::uuid IS NULL OR e.id >= $6)
  AND ($7::uuid IS NULL OR e.id < $7)
ORDER BY e.id DESC
LIMIT $8

-- name: make_months
-- The partitions of this month (UTC) and the next two.
SELECT make_audit_months()

-- name: drop_months
-- Those that ended $1 ago.
SELECT name, entries FROM drop_audit_months(CURRENT_TIMESTAMP - $1::interval)
