DROP INDEX idx_audit_entries_actor;
DROP INDEX idx_audit_entries_action;
