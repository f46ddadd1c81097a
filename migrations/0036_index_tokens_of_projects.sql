-- depends: 0035_create_usage_days

-- The tokens of a project, newest first.
CREATE INDEX idx_tokens_project ON tokens(project_id, id);
