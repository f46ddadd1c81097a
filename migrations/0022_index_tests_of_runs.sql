-- depends: 0021_add_main_branch

-- The results of one test in a run: the last attempt of each test, and what other runs of a commit say about it. Counts
-- by status of many runs read this index alone, so idx_test_case_results_counts is dropped later: each index costs all
-- writes.
CREATE INDEX idx_test_case_results_run_test ON test_case_results(suite_run_id, test_id) INCLUDE (status, duration_ms);
-- The failures of a run, which are few. Flaky tests are found from those of many runs.
CREATE INDEX idx_test_case_results_failed ON test_case_results(suite_run_id, id) WHERE status = 'Failed';
