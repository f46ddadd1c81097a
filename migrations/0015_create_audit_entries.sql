-- depends: 0014_create_evidence_links

-- Who did what, when and from where. An entry is written in the transaction of what it tells of, and outlives that:
-- nothing here refers to another table, and names are those of then. Which actions there are is said in
-- server/audit.py; a CHECK would only keep a server from telling of what it has learnt since.
CREATE TABLE audit_entries (
    id UUID PRIMARY KEY,  -- newest first, overall; its time is created_at
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    action VARCHAR(50) NOT NULL,
    actor_kind VARCHAR(10) NOT NULL,
    actor_id UUID,  -- of a token or a person
    actor_name VARCHAR(500),
    project_id UUID,  -- NULL: about the whole server
    subject_kind VARCHAR(50) NOT NULL,
    subject_id UUID,
    subject_name VARCHAR(500),
    remote VARCHAR(255),  -- the client's address; of a command the name of its machine
    request_id VARCHAR(128),
    detail JSONB NOT NULL DEFAULT '{}',
    CONSTRAINT audit_entries_actor_kind_check CHECK (actor_kind IN ('token', 'person', 'anyone', 'command'))
);

CREATE INDEX idx_audit_entries_project ON audit_entries(project_id, id);
CREATE INDEX idx_audit_entries_subject ON audit_entries(subject_id, id);

-- Whoever can make the server run a statement of theirs, or has its database password, could else remove what tells of
-- it. Also for superusers and, by ALWAYS, under session_replication_role = replica.
CREATE FUNCTION refuse_to_change_audit_entries() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    RAISE insufficient_privilege USING
        MESSAGE = format('audit_entries only grows: %s is refused', TG_OP),
        HINT = 'What was noted stays as it is. See README, "Audit".';
END $$;

CREATE TRIGGER audit_entries_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_audit_entries();
ALTER TABLE audit_entries ENABLE ALWAYS TRIGGER audit_entries_only_grows;
