-- depends: 0037_index_audit_filters

-- How the steps of a finished run used each selector, counted when somebody first looks at them (sql/insights.sql): no
-- cost for uploads. A row with an empty `hash` says that the run was counted. `hurt`: hashes of the tests in which it
-- failed, so that tests can be counted over several runs. `sample_result_id`: a result that used it, if possible one in
-- which it failed; it is deleted only together with its run.
CREATE TABLE selector_uses (
    suite_run_id UUID NOT NULL REFERENCES suite_runs(id) ON DELETE CASCADE,
    hash BYTEA NOT NULL,
    selector TEXT NOT NULL,
    element_name TEXT,
    used INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    total_ms BIGINT NOT NULL,
    hurt BIGINT[] NOT NULL,
    sample_result_id UUID,
    PRIMARY KEY (suite_run_id, hash)
);
