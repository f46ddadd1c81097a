-- name: first
-- The oldest result with an id from $1 on. Its artifacts are younger.
SELECT id FROM test_case_results WHERE id >= $1 ORDER BY id LIMIT 1

-- name: add_days
INSERT INTO counted_days (day)
SELECT day::date FROM generate_series($1::date, $2::date, INTERVAL '1 day') AS day ON CONFLICT DO NOTHING

-- name: take_day
-- Locks a day, after another worker that counts it.
UPDATE counted_days SET counted_at = CURRENT_TIMESTAMP WHERE day = $1 RETURNING day

-- name: take_oldest
-- Locks the day that was counted longest ago, the newest first of those that never were. No row when another worker
-- counts it.
UPDATE counted_days SET counted_at = CURRENT_TIMESTAMP
WHERE day = (SELECT day FROM counted_days ORDER BY counted_at NULLS FIRST, day DESC LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING day

-- name: forget_day
DELETE FROM usage_days WHERE day = $1

-- name: count_day
-- Ids begin with their creation time (UUIDv7): those of the day $1 are from $2 up to $3, a range of each primary key.
INSERT INTO usage_days (day, project_id, kind, number, bytes)
SELECT $1, project_id, kind, count(*), sum(size)
FROM (SELECT project_id, 'result' AS kind, 0 AS size FROM test_case_results WHERE id >= $2 AND id < $3
      UNION ALL
      SELECT c.project_id, a.artifact_type, a.file_size
      FROM test_artifacts a JOIN test_case_results c ON c.id = a.test_case_result_id
      WHERE a.id >= $2 AND a.id < $3) AS made
GROUP BY project_id, kind

-- name: growth
-- Bytes of artifacts since the day $1, the first day of all, and how many of these days have not been counted yet.
SELECT coalesce(sum(bytes), 0)::bigint AS bytes, (SELECT min(day) FROM counted_days) AS first_day,
       (SELECT count(*) FROM counted_days WHERE day >= $1 AND counted_at IS NULL) AS uncounted
FROM usage_days WHERE day >= $1

-- name: of_projects
-- Results and bytes of artifacts of the projects $1 (NULL: all), the largest first.
SELECT p.id, p.name, coalesce(sum(u.number) FILTER (WHERE kind = 'result'), 0)::bigint AS results,
       coalesce(sum(u.number) FILTER (WHERE kind <> 'result'), 0)::bigint AS files,
       coalesce(sum(u.bytes), 0)::bigint AS bytes,
       coalesce(sum(u.bytes) FILTER (WHERE kind = 'screenshot'), 0)::bigint AS screenshots,
       coalesce(sum(u.bytes) FILTER (WHERE kind = 'video'), 0)::bigint AS videos,
       coalesce(sum(u.bytes) FILTER (WHERE kind = 'log'), 0)::bigint AS logs,
       coalesce(sum(u.bytes) FILTER (WHERE kind = 'har'), 0)::bigint AS har,
       coalesce(sum(u.bytes) FILTER (WHERE kind NOT IN ('screenshot', 'video', 'log', 'har')), 0)::bigint AS others
FROM projects p LEFT JOIN usage_days u ON u.project_id = p.id
WHERE $1::uuid[] IS NULL OR p.id = ANY($1)
GROUP BY p.id
ORDER BY bytes DESC, p.name
LIMIT $2

-- name: total
SELECT coalesce(sum(number) FILTER (WHERE kind <> 'result'), 0)::bigint AS files,
       coalesce(sum(bytes), 0)::bigint AS bytes,
       (SELECT count(*) FROM counted_days WHERE counted_at IS NULL) AS uncounted
FROM usage_days WHERE $1::uuid[] IS NULL OR project_id = ANY($1)

-- name: per_day
SELECT day, sum(bytes)::bigint AS bytes FROM usage_days
WHERE day >= $2 AND ($1::uuid[] IS NULL OR project_id = ANY($1))
GROUP BY day ORDER BY day
