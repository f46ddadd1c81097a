ALTER TABLE test_artifacts DROP COLUMN text_encoding;
