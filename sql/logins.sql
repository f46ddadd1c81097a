-- name: admit
-- Leaky bucket: adds an attempt's share ($2) to each key's bucket, which drains within $3 seconds. Returns only the
-- keys that had capacity. Counted before the password is checked: otherwise many concurrent attempts would all pass.
-- Rows are locked in the order of their keys: otherwise two logins could deadlock.
INSERT INTO login_buckets AS b (key, level, updated_at)
SELECT n.key, n.share, clock_timestamp() FROM unnest($1::bytea[], $2::float8[]) AS n(key, share)
ORDER BY n.key
ON CONFLICT (key) DO UPDATE SET
    level = GREATEST(0, b.level - EXTRACT(epoch FROM clock_timestamp() - b.updated_at) / $3::float8) + EXCLUDED.level,
    updated_at = clock_timestamp()
WHERE GREATEST(0, b.level - EXTRACT(epoch FROM clock_timestamp() - b.updated_at) / $3::float8) + EXCLUDED.level < 1.001
RETURNING key

-- name: wait
-- Seconds until all of these buckets, which are full, have capacity again.
SELECT max((b.level + n.share - 1) * $3::float8 - EXTRACT(epoch FROM clock_timestamp() - b.updated_at))::float8
FROM unnest($1::bytea[], $2::float8[]) AS n(key, share) JOIN login_buckets b ON b.key = n.key

-- name: forgive
-- After a successful login: subtracts $2 from the buckets. Locks rows in the order of `admit`: otherwise the two could
-- deadlock.
UPDATE login_buckets b SET level = GREATEST(0, b.level - n.share)
FROM (SELECT key, share FROM unnest($1::bytea[], $2::float8[]) AS n(key, share) JOIN login_buckets USING (key)
      ORDER BY key FOR UPDATE OF login_buckets) AS n
WHERE b.key = n.key

-- name: sweep
-- Deletes buckets that have drained. SKIP LOCKED: a sweep and a login that wait for each other would deadlock.
DELETE FROM login_buckets WHERE key IN (
    SELECT key FROM login_buckets
    WHERE updated_at < CURRENT_TIMESTAMP - make_interval(secs => $1) LIMIT 1000 FOR UPDATE SKIP LOCKED)
