-- depends: 0003_create_test_case_results

CREATE TABLE test_step_results (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    test_case_result_id UUID NOT NULL REFERENCES test_case_results(id) ON DELETE CASCADE,
    iteration_number INTEGER NOT NULL DEFAULT 1,
    step_number INTEGER NOT NULL,
    step_type VARCHAR(50) NOT NULL,
    action VARCHAR(100),
    description TEXT,
    status VARCHAR(20) NOT NULL DEFAULT 'Pending',
    duration_ms INTEGER,
    element_selector TEXT,
    element_name VARCHAR(255),
    element_type VARCHAR(50),
    input_value TEXT,
    expected_value TEXT,
    actual_value TEXT,
    error_message TEXT,
    error_type VARCHAR(100),
    stack_trace TEXT,
    screenshot_path VARCHAR(500),
    screenshot_artifact_id UUID,
    screenshot_pinned BOOLEAN NOT NULL DEFAULT false,
    started_at TIMESTAMP WITH TIME ZONE,
    completed_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    -- S1's rule, with the iteration that S0 and data-driven tests need.
    CONSTRAINT unique_step_per_test UNIQUE (test_case_result_id, iteration_number, step_number),
    CONSTRAINT test_step_results_status_check CHECK (status IN ('Passed', 'Failed', 'Skipped', 'Pending'))
);

-- Unique, so that test_artifacts can refer to a step and its test case together.
CREATE UNIQUE INDEX idx_step_results_test_case ON test_step_results(test_case_result_id, id);
CREATE INDEX idx_step_results_status ON test_step_results(test_case_result_id, status);
-- What clearing a deleted artifact's references looks for.
CREATE INDEX idx_step_results_screenshot ON test_step_results(screenshot_artifact_id)
    WHERE screenshot_artifact_id IS NOT NULL;
