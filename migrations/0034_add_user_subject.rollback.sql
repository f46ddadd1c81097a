-- The server before this knows passwords only: people without one could not be told apart from others.
DELETE FROM users WHERE subject_hash IS NOT NULL;
ALTER TABLE users DROP COLUMN subject_hash;
ALTER TABLE users ALTER COLUMN password_hash SET NOT NULL;
