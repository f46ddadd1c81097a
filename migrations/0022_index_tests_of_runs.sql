-- depends: 0021_add_main_branch

-- The results of one test in a run: the last attempt of each test, and what other runs of a commit say about it.
CREATE INDEX idx_test_case_results_run_test ON test_case_results(suite_run_id, test_id);
-- Flaky tests are found from the failures, which are few.
CREATE INDEX idx_test_case_results_failed ON test_case_results(project_id, id) WHERE status = 'Failed';
