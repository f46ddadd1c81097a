DROP INDEX idx_suite_runs_commit;
