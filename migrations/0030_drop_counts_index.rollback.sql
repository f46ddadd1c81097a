CREATE INDEX idx_test_case_results_counts ON test_case_results(suite_run_id, status) INCLUDE (duration_ms);
