-- depends: 0005_create_test_artifacts

CREATE TABLE test_checkpoints (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    seq BIGINT GENERATED ALWAYS AS IDENTITY,
    test_case_result_id UUID NOT NULL REFERENCES test_case_results(id) ON DELETE CASCADE,
    iteration_number INTEGER NOT NULL DEFAULT 1,
    checkpoint_number INTEGER NOT NULL,
    step_number INTEGER,
    name VARCHAR(500) NOT NULL,
    checkpoint_type VARCHAR(50),
    status VARCHAR(20) NOT NULL DEFAULT 'Pending',
    expected_value TEXT,
    actual_value TEXT,
    message TEXT,
    screenshot_artifact_id UUID,
    captured_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT unique_checkpoint_per_test UNIQUE (test_case_result_id, iteration_number, checkpoint_number),
    CONSTRAINT test_checkpoints_status_check CHECK (status IN ('Passed', 'Failed', 'Skipped', 'Pending')),
    CONSTRAINT test_checkpoints_screenshot_artifact_id_fkey
        FOREIGN KEY (test_case_result_id, screenshot_artifact_id)
        REFERENCES test_artifacts (test_case_result_id, id) ON DELETE SET NULL (screenshot_artifact_id)
);

CREATE INDEX idx_checkpoints_test_case ON test_checkpoints(test_case_result_id, seq);
CREATE INDEX idx_checkpoints_screenshot ON test_checkpoints(screenshot_artifact_id)
    WHERE screenshot_artifact_id IS NOT NULL;
