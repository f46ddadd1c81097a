-- The server before this knows no roles: every token may do everything again.
DROP TABLE former_secrets;
ALTER TABLE tokens DROP COLUMN role;
