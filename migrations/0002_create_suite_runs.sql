-- depends: 0001_create_projects

CREATE TABLE suite_runs (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    project_id UUID NOT NULL REFERENCES projects(id),
    run_key VARCHAR(500),
    name VARCHAR(500) NOT NULL,
    status VARCHAR(20) NOT NULL DEFAULT 'Running',
    environment VARCHAR(255),
    branch VARCHAR(500),
    commit_sha VARCHAR(64),
    build_url VARCHAR(2000),
    browser VARCHAR(255),
    platform VARCHAR(255),
    triggered_by VARCHAR(255),
    tags TEXT[] NOT NULL DEFAULT '{}',
    metadata JSONB NOT NULL DEFAULT '{}',
    started_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    finished_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT unique_run_key UNIQUE (project_id, run_key),
    CONSTRAINT suite_runs_status_check CHECK (status IN ('Passed', 'Failed', 'Skipped', 'Pending', 'Running'))
);

-- Newest first within a project, alone and under the filters that people use most.
CREATE INDEX idx_suite_runs_project ON suite_runs(project_id, id);
CREATE INDEX idx_suite_runs_name ON suite_runs(project_id, name, id);
CREATE INDEX idx_suite_runs_branch ON suite_runs(project_id, branch, id);
CREATE INDEX idx_suite_runs_tags ON suite_runs USING GIN (tags);
