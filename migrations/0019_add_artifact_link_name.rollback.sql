ALTER TABLE test_artifacts DROP COLUMN link_name;
