-- depends: 0034_add_user_subject

-- What was stored on each day, by project and kind (`result`, or the type of an artifact), as the server counts it every
-- 10 minutes: the newest days and those that were counted longest ago. Days are in UTC, by the time in the ids.
CREATE TABLE usage_days (
    day DATE NOT NULL,
    project_id UUID NOT NULL,
    kind VARCHAR(50) NOT NULL,
    number BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (day, project_id, kind)
);

CREATE INDEX idx_usage_days_project ON usage_days(project_id);

-- Every day since the first result, with or without rows in usage_days. NULL: not counted yet.
CREATE TABLE counted_days (
    day DATE PRIMARY KEY,
    counted_at TIMESTAMP WITH TIME ZONE
);

-- The result of the last `reportd check`: its exit code and its summary, as it prints them with --json.
CREATE TABLE storage_checks (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    finished_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    exit_code SMALLINT NOT NULL,
    summary JSONB NOT NULL
);
