-- name: bound_wait
SET LOCAL lock_timeout = '2s'

-- name: unbound_wait
SET LOCAL lock_timeout TO DEFAULT

-- name: claim
-- A twin that is still running makes this wait for it; after its commit nothing is inserted here.
INSERT INTO idempotency_keys (caller_id, key, fingerprint) VALUES ($1, $2, $3)
ON CONFLICT (caller_id, key) DO NOTHING
RETURNING key

-- name: kept
SELECT fingerprint, status, body FROM idempotency_keys WHERE caller_id = $1 AND key = $2

-- name: keep
UPDATE idempotency_keys SET status = $3, body = $4 WHERE caller_id = $1 AND key = $2

-- name: release
DELETE FROM idempotency_keys WHERE caller_id = $1 AND key = $2

-- name: sweep
-- Bounded, so that no sweep holds many rows at once.
DELETE FROM idempotency_keys WHERE (caller_id, key) IN (
    SELECT caller_id, key FROM idempotency_keys
    WHERE created_at < CURRENT_TIMESTAMP - make_interval(hours => $1) LIMIT 1000)
