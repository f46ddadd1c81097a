DROP TABLE former_secrets;
ALTER TABLE tokens DROP COLUMN role;
