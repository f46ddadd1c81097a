DROP TABLE test_step_results;
