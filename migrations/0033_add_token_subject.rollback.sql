ALTER TABLE tokens DROP COLUMN subject_hash;
