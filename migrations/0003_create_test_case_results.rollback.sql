DROP TABLE test_case_results;
