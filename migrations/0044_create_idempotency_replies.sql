-- depends: 0043_create_sweeps

-- Replies that are sent again, by the day (UTC) on which their request began: a day is dropped as a whole, while each
-- row of idempotency_keys has to be deleted. No index makes a key unique over all days: the request that stores a reply
-- holds a lock on its key, see sql/idempotency.sql. A reply of a day that has no partition is in idempotency_keys.
CREATE TABLE idempotency_replies (
    caller_id UUID NOT NULL,
    key VARCHAR(200) NOT NULL,
    fingerprint BYTEA NOT NULL,
    status SMALLINT NOT NULL,
    body BYTEA,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP
) PARTITION BY RANGE (created_at);

-- SECURITY DEFINER: the server's account may own no table. lock_timeout: requests queue behind a lock that waits.
-- datestyle: in the others, bounds have abbreviations of time zones, which are not read as they were written.
-- LIKE and ATTACH, because CREATE TABLE … PARTITION OF would lock all requests out.
CREATE FUNCTION make_idempotency_days() RETURNS VOID LANGUAGE plpgsql SECURITY DEFINER
SET lock_timeout = '100ms' SET datestyle = 'ISO' AS $$
DECLARE
    today DATE := (CURRENT_TIMESTAMP AT TIME ZONE 'UTC')::date;
    day DATE;
    name TEXT;
BEGIN
    -- One process at a time, beside requests. ONLY: autovacuum has this lock on partitions for minutes. Today's is made
    -- between requests: one that is storing its reply could find it, and yet not be able to use it.
    IF to_regclass('idempotency_replies_' || to_char(today, 'YYYYMMDD')) IS NULL THEN
        LOCK TABLE ONLY idempotency_replies IN SHARE ROW EXCLUSIVE MODE;
    ELSE
        LOCK TABLE ONLY idempotency_replies IN SHARE UPDATE EXCLUSIVE MODE;
    END IF;
    FOR day IN SELECT today + n FROM generate_series(0, 2) AS n LOOP
        name := 'idempotency_replies_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        EXECUTE format('CREATE TABLE %I (LIKE idempotency_replies INCLUDING DEFAULTS,'
                       ' PRIMARY KEY (caller_id, key))', name);
        EXECUTE format('ALTER TABLE idempotency_replies ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                       name, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
    END LOOP;
END $$;

-- The days whose last reply is older than that. At least 48 hours, because anybody may call it.
-- Each one waits for the requests that use it, 0.1 s at first. Busy servers may leave no such gap for days, so it waits
-- longer the longer ago it could have been dropped: 1.3 s after a day, and at most 2 s.
CREATE FUNCTION drop_idempotency_days(hours INT) RETURNS INT LANGUAGE plpgsql SECURITY DEFINER
SET lock_timeout = '100ms' AS $$
DECLARE
    name TEXT;
    late DOUBLE PRECISION;  -- seconds
    dropped INT := 0;
BEGIN
    LOCK TABLE ONLY idempotency_replies IN SHARE UPDATE EXCLUSIVE MODE;
    FOR name, late IN
        SELECT days.name,
               extract(epoch FROM CURRENT_TIMESTAMP - make_interval(hours => greatest(hours, 48)) - days.ended)
        FROM (SELECT c.relname AS name,
                     (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC' AS ended
              FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
              WHERE i.inhparent = 'idempotency_replies'::regclass) AS days
        WHERE days.ended <= CURRENT_TIMESTAMP - make_interval(hours => greatest(hours, 48))
        ORDER BY days.name
    LOOP
        PERFORM set_config('lock_timeout', least(100 + late / 72, 2000)::int || 'ms', TRUE);
        EXECUTE format('DROP TABLE %I', name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

-- Older servers insert a key here before they run its request, and read the stored reply from here. So they wait for
-- the lock that newer servers hold, and find the reply that a newer server stored.
CREATE FUNCTION find_idempotency_reply() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    stored idempotency_replies;
BEGIN
    PERFORM pg_advisory_xact_lock(uuid_hash(NEW.caller_id), hashtext(NEW.key));
    DELETE FROM idempotency_replies WHERE caller_id = NEW.caller_id AND key = NEW.key RETURNING * INTO stored;
    IF stored.key IS NULL THEN
        RETURN NEW;
    END IF;
    INSERT INTO idempotency_keys (caller_id, key, fingerprint, status, body, created_at) SELECT stored.*;
    RETURN NULL;
END $$;

CREATE TRIGGER find_idempotency_reply BEFORE INSERT ON idempotency_keys
    FOR EACH ROW EXECUTE FUNCTION find_idempotency_reply();

-- Not the caller's search_path, by which the functions would act on tables of the caller.
DO $$
DECLARE
    name TEXT;
BEGIN
    FOREACH name IN ARRAY ARRAY['make_idempotency_days', 'drop_idempotency_days', 'find_idempotency_reply'] LOOP
        EXECUTE format('ALTER FUNCTION %I SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
END $$;
