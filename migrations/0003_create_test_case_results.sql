-- depends: 0002_create_suite_runs

CREATE TABLE test_case_results (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    suite_run_id UUID NOT NULL REFERENCES suite_runs(id) ON DELETE CASCADE,
    project_id UUID NOT NULL REFERENCES projects(id),
    name VARCHAR(500) NOT NULL,
    test_id VARCHAR(500) NOT NULL,
    status VARCHAR(20) NOT NULL DEFAULT 'Pending',
    duration_ms INTEGER,
    attempt INTEGER NOT NULL DEFAULT 1,
    error_message TEXT,
    error_type VARCHAR(255),
    stack_trace TEXT,
    browser VARCHAR(255),
    tags TEXT[] NOT NULL DEFAULT '{}',
    metadata JSONB NOT NULL DEFAULT '{}',
    started_at TIMESTAMP WITH TIME ZONE,
    completed_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT test_case_results_status_check CHECK (status IN ('Passed', 'Failed', 'Skipped', 'Pending'))
);

CREATE INDEX idx_test_case_results_suite_run ON test_case_results(suite_run_id, id);
-- Counts by status of many runs read this index alone.
CREATE INDEX idx_test_case_results_counts ON test_case_results(suite_run_id, status) INCLUDE (duration_ms);
-- The history of one test across runs.
CREATE INDEX idx_test_case_results_history ON test_case_results(project_id, test_id, id);
