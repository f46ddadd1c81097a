-- depends: 0040_add_by_shards

-- Files that a client has named and that are not there: they were to come later, or were refused. A row goes when an
-- artifact with its checksum arrives for its result, so after most runs there is none. checksum '': not known, as of a
-- file that is too large; then a file of that name counts. file_name '': the client gave none.
CREATE TABLE expected_artifacts (
    test_case_result_id UUID NOT NULL REFERENCES test_case_results(id) ON DELETE CASCADE,
    checksum VARCHAR(64) NOT NULL,
    file_name VARCHAR(255) NOT NULL,
    suite_run_id UUID NOT NULL,
    file_size BIGINT,
    reason TEXT NOT NULL,
    PRIMARY KEY (test_case_result_id, checksum, file_name)
);

CREATE INDEX idx_expected_artifacts_run ON expected_artifacts(suite_run_id, test_case_result_id);
