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

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION find_idempotency_reply SET search_path = %I, pg_temp', current_schema());
END $$;
