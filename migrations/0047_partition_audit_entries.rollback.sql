DROP FUNCTION drop_audit_months;
DROP FUNCTION make_audit_months;
DROP FUNCTION audit_partitions;
DROP FUNCTION first_audit_id;
DROP FUNCTION guard_audit_partition;

-- The first partition again is the table, with the entries of the others. It may have been dropped.
DO $$
BEGIN
    LOCK TABLE audit_entries;
    IF to_regclass('audit_entries_first') IS NULL THEN
        CREATE TABLE audit_entries_first (LIKE audit_entries INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
                                          CONSTRAINT audit_entries_first_pkey PRIMARY KEY (id));
        CREATE INDEX idx_audit_entries_first_project ON audit_entries_first(project_id, id);
        CREATE INDEX idx_audit_entries_first_subject ON audit_entries_first(subject_id, id);
        CREATE INDEX idx_audit_entries_first_action ON audit_entries_first(action, id);
        CREATE INDEX idx_audit_entries_first_actor ON audit_entries_first(actor_name, id);
        CREATE TRIGGER audit_entries_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries_first
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_audit_entries();
        ALTER TABLE audit_entries_first ENABLE ALWAYS TRIGGER audit_entries_only_grows;
    ELSE
        ALTER TABLE audit_entries DETACH PARTITION audit_entries_first;
    END IF;
END $$;

INSERT INTO audit_entries_first SELECT * FROM audit_entries ORDER BY id;

DO $$
DECLARE
    given RECORD;
BEGIN
    FOR given IN
        SELECT a.privilege_type, a.grantee, a.is_grantable, c.relowner
        FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = 'audit_entries'::regclass AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT %s ON audit_entries_first TO %s%s', given.privilege_type,
                       CASE WHEN given.grantee = 0 THEN 'PUBLIC' ELSE given.grantee::regrole::text END,
                       CASE WHEN given.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
END $$;

DROP TABLE audit_entries;
ALTER TABLE audit_entries_first RENAME TO audit_entries;
ALTER INDEX audit_entries_first_pkey RENAME TO audit_entries_pkey;
ALTER INDEX idx_audit_entries_first_project RENAME TO idx_audit_entries_project;
ALTER INDEX idx_audit_entries_first_subject RENAME TO idx_audit_entries_subject;
ALTER INDEX idx_audit_entries_first_action RENAME TO idx_audit_entries_action;
ALTER INDEX idx_audit_entries_first_actor RENAME TO idx_audit_entries_actor;

DO $$
DECLARE
    newest BIGINT;  -- milliseconds, the first 48 bits of an id
    bound TEXT := 'ffffffff-ffff-ffff-ffff-ffffffffffff';  -- for ids of a clock that is wrong by millennia
BEGIN
    LOCK TABLE audit_entries;
    SELECT ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint INTO newest
    FROM audit_entries ORDER BY id DESC LIMIT 1;
    newest := greatest(newest, extract(epoch FROM CURRENT_TIMESTAMP)::bigint * 1000);
    IF newest < 100000000000000 THEN  -- the year 5138
        bound := lpad(to_hex(extract(epoch FROM date_trunc('month', to_timestamp(newest / 1000)
            AT TIME ZONE 'UTC' + INTERVAL '2 months') AT TIME ZONE 'UTC')::bigint * 1000), 12, '0') || repeat('0', 20);
    END IF;
    EXECUTE format('ALTER TABLE audit_entries ADD CONSTRAINT audit_entries_bound CHECK (id < %L) NOT VALID',
                   bound::uuid);
END $$;
