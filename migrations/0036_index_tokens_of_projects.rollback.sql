DROP INDEX idx_tokens_project;
