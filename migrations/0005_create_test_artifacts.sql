-- depends: 0004_create_test_step_results

CREATE TABLE test_artifacts (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    test_case_result_id UUID NOT NULL REFERENCES test_case_results(id) ON DELETE CASCADE,
    step_result_id UUID,
    artifact_type VARCHAR(50) NOT NULL,
    artifact_category VARCHAR(50),
    step_number INTEGER,
    iteration_number INTEGER NOT NULL DEFAULT 1,
    file_name VARCHAR(255) NOT NULL,
    file_size BIGINT NOT NULL,
    mime_type VARCHAR(100) NOT NULL,
    checksum VARCHAR(64) NOT NULL,
    storage_path TEXT NOT NULL,
    description TEXT,
    dedupe_key BYTEA NOT NULL,
    captured_at TIMESTAMP WITH TIME ZONE,
    uploaded_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT unique_artifact_path UNIQUE (storage_path),
    -- The same thing sent twice is one artifact.
    CONSTRAINT unique_artifact_per_test UNIQUE (test_case_result_id, dedupe_key),
    CONSTRAINT test_artifacts_type_check CHECK (artifact_type IN ('screenshot', 'log', 'video', 'har', 'other')),
    CONSTRAINT test_artifacts_category_check CHECK (artifact_category IN ('before', 'after', 'error', 'checkpoint'))
);

CREATE UNIQUE INDEX idx_artifacts_test_case ON test_artifacts(test_case_result_id, id);
CREATE INDEX idx_artifacts_type ON test_artifacts(test_case_result_id, artifact_type);
CREATE INDEX idx_artifacts_step ON test_artifacts(test_case_result_id, step_number);
CREATE INDEX idx_artifacts_step_result ON test_artifacts(step_result_id) WHERE step_result_id IS NOT NULL;

-- Composite keys: the database itself refuses a screenshot, or a step, of another test case.
ALTER TABLE test_artifacts ADD CONSTRAINT test_artifacts_step_result_id_fkey
    FOREIGN KEY (test_case_result_id, step_result_id)
    REFERENCES test_step_results (test_case_result_id, id) ON DELETE SET NULL (step_result_id);
ALTER TABLE test_step_results ADD CONSTRAINT test_step_results_screenshot_artifact_id_fkey
    FOREIGN KEY (test_case_result_id, screenshot_artifact_id)
    REFERENCES test_artifacts (test_case_result_id, id) ON DELETE SET NULL (screenshot_artifact_id);

-- Files whose rows are gone and that are to be unlinked: a crash in between loses track of none. An entry stays for
-- a day after that, and as long its name is given to no new file: a process that was held up could unlink it again.
CREATE TABLE removed_files (
    storage_path TEXT PRIMARY KEY,
    project_id UUID NOT NULL,
    checksum VARCHAR(64) NOT NULL,
    removed_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    unlinked_at TIMESTAMP WITH TIME ZONE
);

CREATE INDEX idx_removed_files_pending ON removed_files(storage_path) WHERE unlinked_at IS NULL;
CREATE INDEX idx_removed_files_unlinked ON removed_files(unlinked_at) WHERE unlinked_at IS NOT NULL;
