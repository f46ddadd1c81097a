-- name: admit
-- One more try for each key: $2 is its share of the key's bucket, which empties within $3 seconds. A key whose bucket
-- has no room comes not back. Counted before the password is looked at, or many at once would all pass; always in the
-- same order, or two would wait for each other.
INSERT INTO login_buckets AS b (key, level, updated_at)
SELECT n.key, n.share, clock_timestamp() FROM unnest($1::bytea[], $2::float8[]) AS n(key, share)
ORDER BY n.key
ON CONFLICT (key) DO UPDATE SET
    level = GREATEST(0, b.level - EXTRACT(epoch FROM clock_timestamp() - b.updated_at) / $3::float8) + EXCLUDED.level,
    updated_at = clock_timestamp()
WHERE GREATEST(0, b.level - EXTRACT(epoch FROM clock_timestamp() - b.updated_at) / $3::float8) + EXCLUDED.level < 1.001
RETURNING key

-- name: wait
-- Seconds until there is room for all of these, which are full.
SELECT max((b.level + n.share - 1) * $3::float8 - EXTRACT(epoch FROM clock_timestamp() - b.updated_at))::float8
FROM unnest($1::bytea[], $2::float8[]) AS n(key, share) JOIN login_buckets b ON b.key = n.key

-- name: forgive
-- A try that was right does not count. Locked in the order of admit.
UPDATE login_buckets b SET level = GREATEST(0, b.level - n.share)
FROM (SELECT key, share FROM unnest($1::bytea[], $2::float8[]) AS n(key, share) JOIN login_buckets USING (key)
      ORDER BY key FOR UPDATE OF login_buckets) AS n
WHERE b.key = n.key

-- name: sweep
-- Buckets that are empty by now. Never waits for a login, which may wait for this.
DELETE FROM login_buckets WHERE key IN (
    SELECT key FROM login_buckets
    WHERE updated_at < CURRENT_TIMESTAMP - make_interval(secs => $1) LIMIT 1000 FOR UPDATE SKIP LOCKED)
