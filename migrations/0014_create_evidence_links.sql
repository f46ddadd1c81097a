-- depends: 0013_create_users

-- Links that show one run, test case result or artifact to whoever has them. A link's text is signed and kept nowhere:
-- this says what it is for, who made it and whether it still counts. The row goes with its thing.
CREATE TABLE evidence_links (
    id UUID PRIMARY KEY,
    project_id UUID NOT NULL REFERENCES projects(id),
    suite_run_id UUID REFERENCES suite_runs(id) ON DELETE CASCADE,
    test_case_result_id UUID REFERENCES test_case_results(id) ON DELETE CASCADE,
    artifact_id UUID REFERENCES test_artifacts(id) ON DELETE CASCADE,
    caller_id UUID NOT NULL,
    created_by VARCHAR(100),
    note VARCHAR(255),
    opened BIGINT NOT NULL DEFAULT 0,
    downloads BIGINT NOT NULL DEFAULT 0,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    revoked_at TIMESTAMP WITH TIME ZONE,
    last_used_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT evidence_links_one_thing CHECK (num_nonnulls(suite_run_id, test_case_result_id, artifact_id) = 1)
);

-- Newest first within a project, and of one thing, which also is what a thing's deletion looks for.
CREATE INDEX idx_evidence_links_project ON evidence_links(project_id, id);
CREATE INDEX idx_evidence_links_suite_run ON evidence_links(suite_run_id, id) WHERE suite_run_id IS NOT NULL;
CREATE INDEX idx_evidence_links_test_case ON evidence_links(test_case_result_id, id)
    WHERE test_case_result_id IS NOT NULL;
CREATE INDEX idx_evidence_links_artifact ON evidence_links(artifact_id, id) WHERE artifact_id IS NOT NULL;

-- Keys that servers sign with, so that all of one database take each other's signatures.
CREATE TABLE signing_keys (
    purpose VARCHAR(50) PRIMARY KEY,
    key BYTEA NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP
);
