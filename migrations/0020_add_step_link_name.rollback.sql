ALTER TABLE test_step_results DROP COLUMN link_name;
