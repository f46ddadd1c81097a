-- depends: 0044_create_idempotency_replies

-- The next migration makes this table the first partition, up to a bound: the beginning of a month, one to two months
-- after the newest id and after now. NOT VALID: the next one checks the rows, without a lock that entries wait for.
SET LOCAL lock_timeout = '2s';  -- entries queue behind a lock that waits, as for a backup: see migrate.apply
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
