-- depends: 0029_index_client_ref

-- idx_test_case_results_run_test has the columns that counts by status need, see 0022_index_tests_of_runs.
DROP INDEX idx_test_case_results_counts;
