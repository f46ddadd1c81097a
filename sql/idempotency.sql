-- name: lock
-- The key, until the transaction ends. Waits while another request with the same key runs: after 2 seconds, the client
-- gets a 409. The request's own statements may wait longer for locks, as before: the columns are computed in order.
WITH before AS MATERIALIZED (SELECT current_setting('lock_timeout') AS lock_timeout)
SELECT set_config('lock_timeout', '2s', TRUE),
       pg_advisory_xact_lock(uuid_hash($1), hashtext($2)),
       set_config('lock_timeout', before.lock_timeout, TRUE)
FROM before

-- name: kept
-- After `lock`, as a statement of its own: it has to see what the request that held the lock has committed.
SELECT fingerprint, status, body FROM idempotency_replies WHERE caller_id = $1 AND key = $2
UNION ALL
SELECT fingerprint, status, body FROM idempotency_keys WHERE caller_id = $1 AND key = $2

-- name: confirm
-- Writes to the WAL, so that this COMMIT waits for a synchronous standby, too: before a stored reply is sent again, and
-- before queued files are unlinked. The wait of the COMMIT that stored the reply, or deleted the rows of the files, may
-- have been ended by a restart of PostgreSQL, which shows what it did all the same. Without this, a reply could be
-- acknowledged, or a file unlinked, whose COMMIT is lost when the standby becomes the primary.
SELECT pg_logical_emit_message(TRUE, 'reportd', '')

-- name: keep
-- In the partition of the day, if there is one: a request must not fail because nobody made it.
WITH kept AS (
    INSERT INTO idempotency_replies (caller_id, key, fingerprint, status, body)
    SELECT $1, $2, $3, $4, $5
    WHERE to_regclass('idempotency_replies_' || to_char(CURRENT_TIMESTAMP AT TIME ZONE 'UTC', 'YYYYMMDD')) IS NOT NULL
    RETURNING key
)
INSERT INTO idempotency_keys (caller_id, key, fingerprint, status, body)
SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (SELECT FROM kept)

-- name: make_days
-- The partitions of today (UTC) and the next two days.
SELECT make_idempotency_days()

-- name: drop_days
-- Those whose replies are all older than $1 hours. Not while a backup runs (see backup.may_unlink): a dump fails when a
-- table goes between its list of the tables and its lock on them.
SELECT drop_idempotency_days($1) WHERE pg_try_advisory_xact_lock_shared(108170419336560)

-- name: sweep
-- Keys that are in no partition expire after $1 hours. LIMIT: otherwise one sweep could lock many rows at once.
DELETE FROM idempotency_keys WHERE (caller_id, key) IN (
    SELECT caller_id, key FROM idempotency_keys
    WHERE created_at < CURRENT_TIMESTAMP - make_interval(hours => $1) LIMIT 1000)
