-- name: renew
-- All times are by the database's clock: those of the hosts may differ. `device` changes when the disk was mounted anew.
INSERT INTO instances (id, host, boot_id, device) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET seen_at = CURRENT_TIMESTAMP, device = EXCLUDED.device
RETURNING extract(epoch FROM clock_timestamp())::float8

-- name: all
SELECT id, boot_id, device, extract(epoch FROM CURRENT_TIMESTAMP - seen_at)::float8 AS quiet FROM instances

-- name: end
DELETE FROM instances WHERE id = $1

-- name: forget
-- Twice as old as a row whose process counts as ended: its staging folder has been removed meanwhile.
DELETE FROM instances WHERE seen_at < CURRENT_TIMESTAMP - INTERVAL '2 hours'
