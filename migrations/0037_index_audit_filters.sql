-- depends: 0036_index_tokens_of_projects

-- The newest entries of an action, and those of a name. Without them, a filter that few entries pass reads all of them.
CREATE INDEX idx_audit_entries_action ON audit_entries(action, id);
CREATE INDEX idx_audit_entries_actor ON audit_entries(actor_name, id);
