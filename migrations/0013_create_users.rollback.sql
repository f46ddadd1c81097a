DROP TABLE login_buckets;
DELETE FROM sessions WHERE user_id IS NOT NULL;
ALTER TABLE sessions DROP CONSTRAINT sessions_owner_check;
ALTER TABLE sessions DROP COLUMN user_id;
ALTER TABLE sessions ALTER COLUMN token_id SET NOT NULL;
DROP TABLE user_roles;
DROP TABLE users;
