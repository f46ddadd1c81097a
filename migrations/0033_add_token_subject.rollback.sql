-- The server before this could rotate such a token to one that does not end. Revoked, it also leaves its name to the
-- token that the jobs get when the migration is applied again.
UPDATE tokens SET revoked_at = CURRENT_TIMESTAMP WHERE subject_hash IS NOT NULL AND revoked_at IS NULL;
ALTER TABLE tokens DROP COLUMN subject_hash;
