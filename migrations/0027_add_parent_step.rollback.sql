ALTER TABLE test_step_results DROP COLUMN parent_step_number;
