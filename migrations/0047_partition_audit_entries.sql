-- depends: 0046_add_audit_bound

-- The entries by month, so that `reportd audit --drop-older-than` can drop whole months. Not by day: each page of the
-- trail would plan and lock 730 tables after two years, see docs/scaling.md. What was here is the first partition.
SET LOCAL lock_timeout = '2s';  -- entries queue behind a lock that waits, as for a backup: see migrate.apply
ALTER TABLE audit_entries VALIDATE CONSTRAINT audit_entries_bound;
ALTER TABLE audit_entries RENAME TO audit_entries_first;
ALTER INDEX audit_entries_pkey RENAME TO audit_entries_first_pkey;
ALTER INDEX idx_audit_entries_project RENAME TO idx_audit_entries_first_project;
ALTER INDEX idx_audit_entries_subject RENAME TO idx_audit_entries_first_subject;
ALTER INDEX idx_audit_entries_action RENAME TO idx_audit_entries_first_action;
ALTER INDEX idx_audit_entries_actor RENAME TO idx_audit_entries_first_actor;

CREATE TABLE audit_entries (
    id UUID PRIMARY KEY,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    action VARCHAR(50) NOT NULL,
    actor_kind VARCHAR(10) NOT NULL,
    actor_id UUID,
    actor_name VARCHAR(500),
    project_id UUID,
    subject_kind VARCHAR(50) NOT NULL,
    subject_id UUID,
    subject_name VARCHAR(500),
    remote VARCHAR(255),
    request_id VARCHAR(128),
    detail JSONB NOT NULL DEFAULT '{}',
    CONSTRAINT audit_entries_actor_kind_check CHECK (actor_kind IN ('token', 'person', 'anyone', 'command'))
) PARTITION BY RANGE (id);

CREATE INDEX idx_audit_entries_project ON audit_entries(project_id, id);
CREATE INDEX idx_audit_entries_subject ON audit_entries(subject_id, id);
CREATE INDEX idx_audit_entries_action ON audit_entries(action, id);
CREATE INDEX idx_audit_entries_actor ON audit_entries(actor_name, id);

-- Owner and privileges as before: the server's account may own no table.
DO $$
DECLARE
    given RECORD;
BEGIN
    FOR given IN
        SELECT a.privilege_type, a.grantee, a.is_grantable, c.relowner
        FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = 'audit_entries_first'::regclass AND a.grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT %s ON audit_entries TO %s%s', given.privilege_type,
                       CASE WHEN given.grantee = 0 THEN 'PUBLIC' ELSE given.grantee::regrole::text END,
                       CASE WHEN given.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
END $$;

DO $$
DECLARE
    bound TEXT := (SELECT substring(pg_get_constraintdef(oid) FROM '[0-9a-f]{8}-[0-9a-f-]{27}')
                   FROM pg_constraint WHERE conname = 'audit_entries_bound'
                   AND conrelid = 'audit_entries_first'::regclass);
BEGIN
    EXECUTE format('ALTER TABLE audit_entries OWNER TO %s',
                   (SELECT relowner::regrole FROM pg_class WHERE oid = 'audit_entries_first'::regclass));
    EXECUTE format('ALTER TABLE audit_entries ATTACH PARTITION audit_entries_first'
                   ' FOR VALUES FROM (MINVALUE) TO (%L)', bound);
    ALTER TABLE audit_entries_first DROP CONSTRAINT audit_entries_bound;
END $$;

-- For ids of months that have no partition, and of clocks that are wrong: an action must not fail because of its entry.
CREATE TABLE audit_entries_other PARTITION OF audit_entries DEFAULT;

-- Of the parent this holds for statements that name the parent only, so each partition has it, too.
CREATE TRIGGER audit_entries_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_audit_entries();
ALTER TABLE audit_entries ENABLE ALWAYS TRIGGER audit_entries_only_grows;

CREATE FUNCTION guard_audit_partition(name TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER audit_entries_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON %I'
                   ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_audit_entries()', name);
    EXECUTE format('ALTER TABLE %I ENABLE ALWAYS TRIGGER audit_entries_only_grows', name);
END $$;

DO $$
BEGIN
    PERFORM guard_audit_partition('audit_entries_other');
END $$;

-- A lower bound for the ids of that time and later, as first_id of server/ids.py. The time is cut to 48 bits.
CREATE FUNCTION first_audit_id(moment TIMESTAMPTZ) RETURNS UUID LANGUAGE sql IMMUTABLE
RETURN (lpad(to_hex(least(greatest(ceil(extract(epoch FROM moment) * 1000)::bigint, 0), 281474976710655)), 12, '0')
        || repeat('0', 20))::uuid;

-- Each partition with the upper end of its ids, NULL: audit_entries_other. PostgreSQL has the bounds as text only.
CREATE FUNCTION audit_partitions() RETURNS TABLE (name TEXT, bound UUID) LANGUAGE sql STABLE AS $$
    SELECT c.relname::text, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([0-9a-f-]{36})''\)')::uuid
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'audit_entries'::regclass ORDER BY 2
$$;

-- The partitions of this month (UTC) and the next two, where they are missing. SECURITY DEFINER and lock_timeout: as
-- make_idempotency_days. A month of which audit_entries_other has entries begins after these.
CREATE FUNCTION make_audit_months() RETURNS VOID LANGUAGE plpgsql SECURITY DEFINER SET lock_timeout = '100ms' AS $$
DECLARE
    since UUID;
    later UUID;
    month TIMESTAMP := date_trunc('month', CURRENT_TIMESTAMP AT TIME ZONE 'UTC');
    until UUID;
    name TEXT;
BEGIN
    -- One at a time. A month that has begun is made between entries: one on its way to audit_entries_other would
    -- find that it must not be there any more.
    IF first_audit_id(CURRENT_TIMESTAMP + INTERVAL '1 day')
       < (SELECT max(bound::text)::uuid FROM audit_partitions()) THEN
        LOCK TABLE ONLY audit_entries IN SHARE UPDATE EXCLUSIVE MODE;
    ELSE
        LOCK TABLE ONLY audit_entries IN SHARE ROW EXCLUSIVE MODE;
    END IF;
    since := coalesce((SELECT max(bound::text)::uuid FROM audit_partitions()), first_audit_id('epoch'));
    FOR n IN 1..3 LOOP
        name := 'audit_entries_' || to_char(month, 'YYYY_MM');
        month := month + INTERVAL '1 month';
        until := first_audit_id(month AT TIME ZONE 'UTC');
        later := (SELECT id FROM audit_entries_other WHERE id >= since AND id < until ORDER BY id DESC LIMIT 1);
        IF later IS NOT NULL THEN
            since := first_audit_id(to_timestamp((('x' || left(replace(later::text, '-', ''), 12))::bit(48)::bigint + 1)
                                                 / 1000.0));
        END IF;
        CONTINUE WHEN since >= until;
        EXECUTE format('CREATE TABLE %I (LIKE audit_entries INCLUDING ALL)', name);
        PERFORM guard_audit_partition(name);
        EXECUTE format('ALTER TABLE audit_entries ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                       name, since, until);
        since := until;
    END LOOP;
END $$;

-- What ends before that, by whole partitions, oldest first; 30 days are kept. Only the owner of the table may: the
-- function has the rights of its caller, unlike make_audit_months.
CREATE FUNCTION drop_audit_months(before TIMESTAMPTZ) RETURNS TABLE (name TEXT, entries BIGINT) LANGUAGE plpgsql
SET lock_timeout = '100ms' AS $$
DECLARE
    names TEXT[];
    counts BIGINT[];
BEGIN
    before := least(before, CURRENT_TIMESTAMP - INTERVAL '30 days');
    names := ARRAY(SELECT p.name FROM audit_partitions() AS p WHERE p.bound <= first_audit_id(before));
    -- All are counted before the first DROP, from which on no entry can be written until the transaction ends.
    FOREACH name IN ARRAY names LOOP
        EXECUTE format('SELECT count(*) FROM %I', name) INTO entries;
        counts := counts || entries;
    END LOOP;
    FOREACH name IN ARRAY names LOOP
        EXECUTE format('DROP TABLE %I', name);
    END LOOP;
    RETURN QUERY SELECT * FROM unnest(names, counts);
END $$;

DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY['audit_partitions', 'guard_audit_partition', 'make_audit_months', 'drop_audit_months']
    LOOP
        EXECUTE format('ALTER FUNCTION %I SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
END $$;
