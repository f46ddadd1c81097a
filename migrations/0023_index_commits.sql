-- depends: 0022_index_tests_of_runs

-- All runs of a commit.
CREATE INDEX idx_suite_runs_commit ON suite_runs(project_id, commit_sha, id);
