-- name: bound_wait
-- Before `claim`, which may wait for a running request with the same key: after 2 seconds, the client gets a 409.
SET LOCAL lock_timeout = '2s'

-- name: unbound_wait
-- After `claim`: the request's own statements may wait longer for locks.
SET LOCAL lock_timeout TO DEFAULT

-- name: claim
-- Waits while another request with the same key is still running. If that one commits, this returns no row, and its
-- stored reply is sent again. If it rolls back, this inserts the key.
INSERT INTO idempotency_keys (caller_id, key, fingerprint) VALUES ($1, $2, $3)
ON CONFLICT (caller_id, key) DO NOTHING
RETURNING key

-- name: kept
SELECT fingerprint, status, body FROM idempotency_keys WHERE caller_id = $1 AND key = $2

-- name: keep
UPDATE idempotency_keys SET status = $3, body = $4 WHERE caller_id = $1 AND key = $2

-- name: release
-- For a reply that is not stored: a retry with the same key runs the request again.
DELETE FROM idempotency_keys WHERE caller_id = $1 AND key = $2

-- name: sweep
-- Keys expire after $1 hours. LIMIT: otherwise one sweep could lock many rows at once.
DELETE FROM idempotency_keys WHERE (caller_id, key) IN (
    SELECT caller_id, key FROM idempotency_keys
    WHERE created_at < CURRENT_TIMESTAMP - make_interval(hours => $1) LIMIT 1000)
